"""Text that every database can store."""


def clean(text: str) -> str:
    """``text`` without NUL (PostgreSQL refuses it) and without lone surrogates (no encoding has them)."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def clean_or_none(text: str | None) -> str | None:
    return None if text is None else clean(text)
