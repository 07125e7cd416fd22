"""What nobody waits for is done when there is time, and in the end all the same."""

from itertools import count

import pytest

from broker import leisure
from broker.leisure import Leisure


@pytest.fixture(autouse=True)
def any_span(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leisure, "SPAN_S", 0.0)


def test_a_process_has_time_when_it_is_idle() -> None:
    used = iter([0.0, 1e9, 2e9, 2e9])
    work = Leisure(60, used_s=lambda: next(used))
    assert [work.allows() for _ in range(3)] == [False, False, True]


def test_what_was_put_off_for_long_goes_on_until_it_has_come_up_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    used, now = count(0, 10**9), 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    work = Leisure(60, used_s=lambda: next(used))
    now = 59.0
    assert not work.allows()
    now = 60.0
    assert work.allows()
    now = 61.0
    assert work.allows()
    work.caught_up()
    now = 62.0
    assert not work.allows()


def test_asked_again_at_once_it_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leisure, "SPAN_S", 60.0)
    used = iter([0.0])
    work = Leisure(60, used_s=lambda: next(used))
    assert [work.allows(), work.allows()] == [False, False]
