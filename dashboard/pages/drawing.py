"""Small pictures as SVG, drawn by the server: no script, and they print."""

from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 112.0, 22.0


def sparkline(values: Sequence[float], label: str, kind: str = "") -> Markup:
    """A line over time with the area below it, oldest first; ``kind`` is the class that colours it."""
    if not any(values):
        return _svg(Markup('<path class="floor" d="M0 21.5H112"/>'), label, kind)
    top, step = max(values), _WIDTH / max(len(values) - 1, 1)
    points = [
        f"{index * step:.1f} {_HEIGHT - 1 - value / top * (_HEIGHT - 3):.1f}" for index, value in enumerate(values)
    ]
    line = "M" + "L".join(points)
    area = f"{line}L{_WIDTH:.1f} {_HEIGHT:.0f}L0 {_HEIGHT:.0f}Z"
    return _svg(Markup('<path class="area" d="{}"/><path class="line" d="{}"/>').format(area, line), label, kind)


def bars(values: Sequence[float], label: str, kind: str = "") -> Markup:
    """Counts over time as bars, oldest first."""
    top, step = max(values, default=0) or 1, _WIDTH / max(len(values), 1)
    path = "".join(
        f"M{index * step:.1f} {_HEIGHT:.0f}h{max(step - 1, 0.8):.1f}v{-max(value / top * _HEIGHT, 1.5):.1f}"
        f"h{-max(step - 1, 0.8):.1f}z"
        for index, value in enumerate(values)
        if value
    )
    return _svg(Markup('<path class="floor" d="M0 21.5H112"/><path class="bars" d="{}"/>').format(path), label, kind)


def _svg(drawn: Markup, label: str, kind: str) -> Markup:
    return Markup(
        '<svg class="spark {}" viewBox="0 0 112 22" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(kind, label, drawn)
