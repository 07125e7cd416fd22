"""How figures and times are worded.  Times are shown in the reader's zone, and say so in full when pointed at."""

from datetime import UTC, datetime, tzinfo

from markupsafe import Markup

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def number(value: float | None) -> str:
    """``1,234``; a dash when nobody knows."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def compact(value: float | None) -> str:
    """``987``, ``12.4k``, ``3.1M``: where a figure has little room."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.1f}".removesuffix(".0") + unit
    return number(value)


def duration(seconds: float | None) -> str:
    """``4 ms``, ``1.24 s``, ``5m 3s``, ``2d 4h``; a dash when there is none."""
    if seconds is None:
        return "–"
    if seconds < 0.0005:
        return "0 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    rest, parts = round(seconds), []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def size(count: int | None) -> str:
    """Bytes: ``512 B``, ``1.2 kB``, ``34 MB``."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def percent(part: float | None) -> str:
    """``99.2 %``: a share of one."""
    if part is None:
        return "–"
    return f"{part * 100:.1f}".removesuffix(".0") + " %"


def since(at: datetime, now: datetime) -> str:
    """``3 s ago``, ``in 5 m``: in one unit, as it is read at a glance."""
    seconds = (now - at).total_seconds()
    ahead, left = seconds < 0, abs(seconds)
    if left < 1:
        return "just now"
    unit, length = next((x for x in _UNITS if left >= x[1]), ("s", 1))
    words = f"{int(left // length)} {unit}"
    return f"in {words}" if ahead else f"{words} ago"


class Clock:
    """Times as one reader sees them: ``now`` is the database's, ``zone`` theirs."""

    def __init__(self, now: datetime, zone: tzinfo) -> None:
        self.now = now
        self.zone = zone

    def full(self, at: datetime) -> str:
        local = at.astimezone(self.zone)
        told = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z}"
        return told if self.zone is UTC else f"{told} · {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def at(self, at: datetime | None) -> Markup:
        """The time of day; with the date when it is of another day."""
        if at is None:
            return Markup('<span class="quiet">–</span>')
        local, today = at.astimezone(self.zone), self.now.astimezone(self.zone)
        if local.date() == today.date():
            text = f"{local:%H:%M:%S}"
        elif abs((today.date() - local.date()).days) < 300:
            text = f"{local.day} {local:%b %H:%M:%S}"
        else:
            text = f"{local.day} {local:%b %Y %H:%M}"
        return self._time(at, text, ticking=False)

    def ago(self, at: datetime | None) -> Markup:
        """How long ago, or in how long; the page keeps it true."""
        if at is None:
            return Markup('<span class="quiet">–</span>')
        return self._time(at, since(at, self.now), ticking=True)

    def _time(self, at: datetime, text: str, *, ticking: bool) -> Markup:
        return Markup('<time datetime="{}" title="{}"{}>{}</time>').format(
            at.astimezone(UTC).isoformat(timespec="milliseconds"),
            self.full(at),
            Markup(" data-ago") if ticking else "",
            text,
        )
