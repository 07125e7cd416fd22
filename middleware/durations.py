"""How long: as people write it, as Python has it, as Dramatiq counts it."""

import re
from datetime import timedelta

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(duration: int | timedelta | str) -> int:
    """Milliseconds (as everywhere in Dramatiq), a ``timedelta``, or a text such as ``"30s"``, ``"1h30m"``, ``"7d"``.

    Raises ``ValueError`` for anything else, and for less than nothing.
    """
    if isinstance(duration, timedelta):
        found = duration // timedelta(milliseconds=1)
    elif isinstance(duration, str):
        text = duration.strip().lower()
        if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
            raise ValueError(f"{duration!r} is not a duration; write for example 500ms, 30s, 5m, 2h, 1h30m or 7d")
        found = round(sum(float(n) * _UNITS_MS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)))
    elif isinstance(duration, int) and not isinstance(duration, bool):
        found = duration
    else:
        raise ValueError(f"a duration is milliseconds, a timedelta or a text such as '30s', got {duration!r}")
    if found < 0:
        raise ValueError(f"a duration is at least 0, got {duration!r}")
    return found
