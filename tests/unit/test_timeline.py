"""What a person reads of a job's life."""

from datetime import UTC, datetime, timedelta

from ledger.views import Moment, _folded

BEGAN = datetime(2026, 11, 22, tzinfo=UTC)


def life(*events: str) -> list[Moment]:
    return [Moment(BEGAN + timedelta(seconds=n), event, "suspect", "maintenance") for n, event in enumerate(events)]


def test_a_job_that_was_put_off_hundreds_of_times_leaves_what_matters_in_sight() -> None:
    crashes = ["enqueued", "claimed", "crashed"]
    lines = life(*crashes, *["parked", "promoted"] * 300, *crashes)
    told = list(_folded(lines))
    assert [line.event for line in told] == [
        *crashes,
        *["parked", "promoted"] * 2,
        "and so on",
        *["parked", "promoted"] * 2,
        *crashes,
    ]
    assert told[7].text.startswith("592 lines more like these, until ")


def test_a_short_wait_is_told_whole() -> None:
    lines = life("enqueued", *["parked", "promoted"] * 4, "claimed")
    assert list(_folded(lines)) == lines
