"""A flow drawn as a graph: steps in columns by what they wait for, edges from left to right.

A layered layout: a step's column is its longest way from a beginning; an edge over several columns bends in each, so
that it passes between steps.  Within a column all are ordered by the mean of the rows of their neighbours, swept to and
fro, which leaves few crossings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

from markupsafe import Markup

from ledger.flows.graph import Kind
from ledger.flows.states import ENDED
from ledger.flows.views import StepView

WIDTH: Final = 188
HEIGHT: Final = 54
ACROSS: Final = 58  #: between columns
DOWN: Final = 18  #: between rows
MARGIN: Final = 6
_SWEEPS: Final = 8
_LETTERS: Final = 23


@dataclass(frozen=True)
class Place:
    """The left upper corner of a step; of a bend, the point where an edge passes a column."""

    x: float
    y: float


#: A step, by its name; or the edge between two, where it passes a column.
Spot = str | tuple[str, str, int]


def layout(after: Mapping[str, Sequence[str]]) -> dict[Spot, Place]:
    """Places for steps, given in an order in which each comes behind those it waits for, and for bends of edges."""
    depth: dict[str, int] = {}
    for name, before in after.items():
        depth[name] = max((depth[one] + 1 for one in before if one in depth), default=0)
    columns: list[list[Spot]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    left: dict[Spot, list[Spot]] = {}
    for name, before in after.items():
        columns[depth[name]].append(name)
        left[name] = []
        for one in before:
            if one not in depth:
                continue
            way: list[Spot] = [one, *bends(one, name, depth[one], depth[name]), name]
            for column, bend in enumerate(way[1:-1], depth[one] + 1):
                columns[column].append(bend)
            for start, end in pairwise(way):
                left.setdefault(end, []).append(start)
    _untangle(columns, left)
    tallest = max((_height(column) for column in columns), default=0.0)
    places: dict[Spot, Place] = {}
    for number, spots in enumerate(columns):
        y = MARGIN + (tallest - _height(spots)) / 2
        for spot in spots:
            places[spot] = Place(MARGIN + number * (WIDTH + ACROSS), y)
            y += _tall(spot) + DOWN
    return places


def bends(start: str, end: str, first: int, last: int) -> list[Spot]:
    """Where an edge passes the columns between those of its ends."""
    return [(start, end, column) for column in range(first + 1, last)]


def _tall(spot: Spot) -> float:
    return HEIGHT if isinstance(spot, str) else 0


def _height(column: Sequence[Spot]) -> float:
    return sum(_tall(spot) + DOWN for spot in column) - DOWN


def _untangle(columns: Sequence[list[Spot]], left: Mapping[Spot, Sequence[Spot]]) -> None:
    right: dict[Spot, list[Spot]] = {}
    for end, starts in left.items():
        for start in starts:
            right.setdefault(start, []).append(end)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        near = left if forth else right
        row = {spot: index for column in columns for index, spot in enumerate(column)}
        for column in columns if forth else reversed(columns):
            means = {spot: fmean(row[one] for one in near.get(spot) or [spot]) for spot in column}
            column.sort(key=means.__getitem__)  # stable: those that are level stay as they were
            row.update({spot: index for index, spot in enumerate(column)})


def draw(steps: Sequence[StepView], url: Callable[..., str]) -> Markup:
    """The graph of a flow; ``url`` makes a link of a path and its parts."""
    places = layout({step.name: step.after for step in steps})
    width = max((place.x for place in places.values()), default=0) + WIDTH + MARGIN
    height = max((place.y + _tall(spot) for spot, place in places.items()), default=0) + MARGIN
    edges = Markup("").join(_edge(places, one, step) for step in steps for one in step.after if one in places)
    nodes = Markup("").join(_node(step, places[step.name], url) for step in steps)
    return Markup(
        '<svg class="flow" width="{w:.0f}" height="{h:.0f}" viewBox="0 0 {w:.0f} {h:.0f}" role="group"'
        ' aria-label="Steps of the flow">{edges}{nodes}</svg>'
    ).format(w=width, h=height, edges=edges, nodes=nodes)


def _edge(places: Mapping[Spot, Place], start: str, step: StepView) -> Markup:
    """From the right side of a step, by its bends, to the left side of another."""
    passed = sorted(x for x in places if not isinstance(x, str) and x[:2] == (start, step.name))
    x, y = places[start].x + WIDTH, places[start].y + HEIGHT / 2
    path = f"M{x:.1f} {y:.1f}"
    way: list[Spot] = [*passed, step.name]
    for spot in way:
        to = places[spot]
        to_y = to.y + _tall(spot) / 2
        middle = (x + to.x) / 2
        path += f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to.x:.1f} {to_y:.1f}"
        x, y = to.x, to_y
        if spot != step.name:
            x += WIDTH
            path += f"H{x:.1f}"
    return Markup('<path class="edge{}" d="{}"/>').format(" done" if step.state == "completed" else "", path)


def _node(step: StepView, place: Place, url: Callable[..., str]) -> Markup:
    drawn = Markup(
        '<g class="flowstate {state}"><title>{name}: {state}</title>'
        '<rect class="node" x="{x:.1f}" y="{y:.1f}" width="{w}" height="{h}" rx="8"/>'
        '<rect class="wash" x="{x:.1f}" y="{y:.1f}" width="{w}" height="{h}" rx="8"/>'
        '<text x="{tx:.1f}" y="{ty:.1f}">{name}</text><text class="sub" x="{tx:.1f}" y="{sy:.1f}">{sub}</text>'
        '<text class="of" x="{ex:.1f}" y="{sy:.1f}" text-anchor="end">{of}</text></g>'
    ).format(
        state=step.state,
        name=_short(step.name),
        x=place.x,
        y=place.y,
        w=WIDTH,
        h=HEIGHT,
        tx=place.x + 13,
        ty=place.y + 23,
        sy=place.y + 40,
        ex=place.x + WIDTH - 13,
        sub=_short(step.state if step.kind == Kind.RUN else step.kind),
        of=_count(step),
    )
    return Markup('<a href="{}">{}</a>').format(url("/jobs", step.job), drawn) if step.job else drawn


def _count(step: StepView) -> str:
    if step.jobs > 1:
        return f"{step.done:,} of {step.jobs:,}"
    return str(step.state) if step.kind != Kind.RUN and step.state in ENDED else ""


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"
