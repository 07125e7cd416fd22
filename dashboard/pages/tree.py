"""Values of JSON as a tree to be read, escaped, of bounded size."""

from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup, escape

#: Of a list or a mapping so many items are shown, of a text so many characters, of nesting so many levels.
MOST: Final = 100
LONGEST: Final = 2_000
DEEPEST: Final = 12
#: What stands where something was that must not be seen.
REDACTED: Final = ("[redacted]", "***")


def tree(value: Any) -> Markup:
    """The value as nested lists; the whole of it is in the raw JSON."""
    return Markup('<ul class="tree">{}</ul>').format(_items(value, 0))


def _items(value: Any, depth: int) -> Markup:
    pairs = list(value.items()) if isinstance(value, Mapping) else list(enumerate(value)) if _listed(value) else None
    if pairs is None:
        return Markup("<li>{}</li>").format(_leaf(value))
    shown = Markup("").join(_item(key, one, depth) for key, one in pairs[:MOST])
    left = len(pairs) - MOST
    return shown + (Markup('<li class="more">… {} more</li>').format(left) if left > 0 else Markup(""))


def _item(key: object, value: Any, depth: int) -> Markup:
    name = Markup('<span class="key">{}</span>: ').format(key)
    if not isinstance(value, Mapping) and not _listed(value):
        return Markup("<li>{}{}</li>").format(name, _leaf(value))
    if not value:
        return Markup('<li>{}<span class="null">{}</span></li>').format(name, "[]" if _listed(value) else "{}")
    if depth >= DEEPEST:
        return Markup('<li>{}<span class="more">…</span></li>').format(name)
    return Markup("<li>{}<ul>{}</ul></li>").format(name, _items(value, depth + 1))


def _leaf(value: Any) -> Markup:
    if value is None:
        return Markup('<span class="null">null</span>')
    if isinstance(value, bool):
        return Markup('<span class="boolean">{}</span>').format(str(value).lower())
    if isinstance(value, (int, float)):
        return Markup('<span class="number">{}</span>').format(value)
    text = str(value)
    if text in REDACTED or text.startswith("<encrypted"):
        return Markup('<span class="redacted">{}</span>').format(text)
    if len(text) > LONGEST:
        cut = Markup('<span class="more">… {} more characters</span>').format(f"{len(text) - LONGEST:,}")
        return Markup('<span class="string">"{}"</span>{}').format(text[:LONGEST], cut)
    return Markup('<span class="string">"{}"</span>').format(escape(text))


def _listed(value: Any) -> bool:
    return isinstance(value, (list, tuple))
