"""What is drawn for pages, without a browser."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from dashboard.pages.drawing import bars, sparkline
from dashboard.pages.graph import DOWN, HEIGHT, Place, layout
from dashboard.pages.shown import Clock, compact, duration, since, size
from dashboard.pages.tree import DEEPEST, MOST, tree

NOW = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_steps_stand_in_columns_and_never_on_one_another() -> None:
    after = {"a": [], "b": [], "c": ["a"], "d": ["c", "b"], "e": ["d", "a"], "f": ["a", "b"]}
    places = layout(after)
    steps = {name: place for name, place in places.items() if isinstance(name, str)}
    assert set(steps) == set(after)
    for name, before in after.items():
        assert all(steps[name].x > steps[one].x for one in before)
    taken = sorted((place.x, place.y) for place in steps.values())
    assert all(x != other_x or other_y - y >= HEIGHT + DOWN for (x, y), (other_x, other_y) in pairwise(taken))


def test_an_edge_over_columns_passes_between_the_steps() -> None:
    places = layout({"a": [], "b": ["a"], "c": ["b", "a"]})
    bend = places["a", "c", 1]
    assert bend.x == places["b"].x
    assert not places["b"].y < bend.y < places["b"].y + HEIGHT


def test_one_step_is_drawn_alone() -> None:
    assert list(layout({"a": []}).values()) == [Place(6, 6)]
    assert layout({}) == {}


def test_small_pictures_of_nothing_are_a_line() -> None:
    assert "floor" in sparkline([], "nothing")
    assert "floor" in sparkline([0, 0], "nothing")
    assert "&lt;b&gt;" in sparkline([1], "<b>")
    assert "M0.0 22" in bars([3, 0, 1], "three")


def test_times_are_worded() -> None:
    assert [duration(s) for s in (None, 0, 0.004, 1.239, 59, 60, 3725, 200_000)] == [
        *("–", "0 ms", "4 ms", "1.24 s", "59 s", "1m", "1h 2m", "2d 7h"),
    ]  # fmt: skip
    assert since(NOW - timedelta(seconds=0.2), NOW) == "just now"
    assert since(NOW - timedelta(minutes=5), NOW) == "5 m ago"
    assert since(NOW + timedelta(hours=3), NOW) == "in 3 h"
    assert (compact(12_345), compact(3_100_000), compact(999)) == ("12.3k", "3.1M", "999")
    assert (size(512), size(1_234), size(98_765_432)) == ("512 B", "1.2 kB", "99 MB")


def test_the_hour_that_is_there_twice_says_which_it_is() -> None:
    clock = Clock(NOW, ZoneInfo("Europe/Berlin"))
    assert clock.full(NOW).startswith("2026-10-25 02:30:00.000 CEST")
    assert clock.full(NOW + timedelta(hours=1)).startswith("2026-10-25 02:30:00.000 CET")


def test_a_tree_is_bounded_and_escaped() -> None:
    deep: object = "end"
    for _ in range(DEEPEST * 3):
        deep = [deep]
    assert "end" not in tree(deep)
    assert "… 1 more" in tree(list(range(MOST + 1)))
    assert "<b>" not in tree({"<b>": "<b>", "n": None, "t": True, "e": [], "x": 1.5})
    assert 'class="redacted"' in tree({"password": "[redacted]"})
