"""Group commit: nothing dropped, nobody stopped by another's bad row."""

import threading
from typing import Any, cast

import pytest

from errors import LedgerBusy, LedgerUnavailable, SchemaMismatch
from ledger.lane import Lane
from ledger.ledger import Session


class Closable:
    def close(self) -> None:
        pass


def open_nothing(name: str) -> Session:
    return cast(Session, Closable())


def a_lane(write: Any, spoiled: Any = None, **options: Any) -> Lane[int]:
    def refuse(session: Session, row: int, error: Exception) -> None:
        raise AssertionError(f"{row} was spoiled: {error}")

    lane: Lane[int] = Lane("test", open_nothing, write, spoiled=spoiled or refuse, **options)
    lane.start()
    return lane


def test_what_queues_up_during_a_write_goes_into_the_next_one() -> None:
    batches: list[list[int]] = []
    first_is_in, go_on = threading.Event(), threading.Event()

    def write(session: Session, rows: list[int]) -> None:
        batches.append(rows)
        first_is_in.set()
        assert go_on.wait(5)

    lane = a_lane(write)
    lane.put(1)
    assert first_is_in.wait(5)
    for row in (2, 3, 4):
        lane.put(row)
    go_on.set()
    assert lane.flush(5)
    assert batches == [[1], [2, 3, 4]]
    assert lane.stop()


def test_one_bad_row_stops_no_other() -> None:
    written: list[int] = []
    bad: list[int] = []
    gathered, go_on = threading.Event(), threading.Event()

    def write(session: Session, rows: list[int]) -> None:
        if rows == [0]:
            gathered.set()
            assert go_on.wait(5)
            return
        if 13 in rows:
            raise ValueError("thirteen")
        written.extend(rows)

    lane = a_lane(write, lambda session, row, error: bad.append(row))
    lane.put(0)
    assert gathered.wait(5)
    for row in range(1, 101):
        lane.put(row)
    go_on.set()
    assert lane.flush(5)
    assert bad == [13]
    assert sorted(written) == [row for row in range(1, 101) if row != 13]
    assert lane.stop()


def test_a_row_that_somebody_has_locked_is_written_after_those_that_nobody_has() -> None:
    written: list[int] = []
    gathered, go_on, free = threading.Event(), threading.Event(), threading.Event()

    def write(session: Session, rows: list[int]) -> None:
        if rows == [0]:
            gathered.set()
            assert go_on.wait(5)
            return
        if 13 in rows and not free.is_set():
            raise LedgerBusy("thirteen")
        written.extend(rows)
        if len(written) == 99:
            free.set()

    lane = a_lane(write)
    lane.put(0)
    assert gathered.wait(5)
    for row in range(1, 101):
        lane.put(row)
    go_on.set()
    assert lane.flush(10)
    assert sorted(written) == list(range(1, 101))
    assert written[-1] == 13
    assert lane.stop()


@pytest.mark.parametrize("why", [LedgerUnavailable, SchemaMismatch])
def test_while_the_ledger_is_away_rows_wait_and_a_full_lane_makes_its_callers_wait(why: type[Exception]) -> None:
    away = threading.Event()
    tried = threading.Event()
    written: list[int] = []

    def write(session: Session, rows: list[int]) -> None:
        tried.set()
        if not away.is_set():
            raise why("away")
        written.extend(rows)

    lane = a_lane(write, limit=3)
    lane.put(0)
    assert tried.wait(5)
    for row in (1, 2, 3):
        lane.put(row)
    through = threading.Event()

    def one_more() -> None:
        lane.put(4)
        through.set()

    threading.Thread(target=one_more, daemon=True).start()
    assert not through.wait(0.3)
    away.set()
    assert through.wait(10)
    assert lane.flush(10)
    assert written == [0, 1, 2, 3, 4]
    assert lane.stop()
