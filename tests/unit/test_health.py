"""Whether all is well, from what was counted: the thresholds of the seeds, and those of a queue's own."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from control.health import Rules, _duties, _queue, _workers
from ledger.alerts import Level
from ledger.orders import Mode
from ledger.queue_stats import QueueStats
from ledger.states import State
from ledger.views import DutyView, WorkerView
from settings import QueueSettings, Settings, thresholds_of

NOW = datetime(2026, 11, 22, tzinfo=UTC)
QUEUE = QueueStats(
    "mail", 0, 0, 0, 0, 0, 0, (), False, None, None, None, None, None, 0, 0, None, None, None, None, 0, 0.0, 0.0
)
WORKER = WorkerView(
    1, "here", 2, "running", ["mail"], 5, "1", NOW, NOW, None, 1.0, 0, mode=Mode.RUNNING, slots={"mail": 5}
)
RULES = Rules.of(Settings(queues={"bulk": QueueSettings(health="waiting=5000/50000, delayed=off")}))


def levels(queue: QueueStats, *workers: WorkerView) -> dict[str, Level]:
    found = _queue(queue, workers, RULES.of_queue(queue.name))
    return {finding.rule: finding.level for finding in found if finding.level is not Level.OK}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"waiting": 100}, {}),
        ({"waiting": 101}, {"waiting": Level.WARNING}),
        ({"waiting": 1001}, {"waiting": Level.CRITICAL}),
        ({"failed": 11}, {"failed": Level.WARNING}),
        ({"failed": 101}, {"failed": Level.CRITICAL}),
        ({"delayed": 51}, {"delayed": Level.WARNING}),
        ({"delayed": 501}, {"delayed": Level.CRITICAL}),
        ({"active": 10}, {}),
        ({"active": 11}, {"active": Level.WARNING}),
        ({"active": 26}, {"active": Level.CRITICAL}),
        ({"oldest_waiting_s": 301.0}, {"oldest_waiting": Level.WARNING}),
        ({"oldest_waiting_s": 3601.0}, {"oldest_waiting": Level.CRITICAL}),
        ({"oldest_waiting_s": 3601.0, "paused": True}, {}),
    ],
)
def test_a_queue_is_judged_by_what_waits_fails_runs_and_is_delayed(
    change: dict[str, int], expected: dict[str, Level]
) -> None:
    assert levels(replace(QUEUE, **change), WORKER) == expected  # type: ignore[arg-type]


def test_a_queue_that_nobody_serves_is_told_whether_its_workers_are_gone_or_quiet() -> None:
    waits = replace(QUEUE, oldest_waiting_s=31.0)
    assert levels(waits, WORKER) == {}
    for others in ((), (replace(WORKER, mode=Mode.QUIET),), (replace(WORKER, queues=["other"]),)):
        assert levels(waits, *others) == {"unserved": Level.WARNING}


def test_a_queue_may_have_figures_of_its_own() -> None:
    bulk = replace(QUEUE, name="bulk", waiting=4000, delayed=10_000)
    assert levels(bulk) == {}
    assert levels(replace(bulk, waiting=5001)) == {"waiting": Level.WARNING}


def test_only_what_was_not_counted_to_its_end_is_at_least_so_many() -> None:
    full = replace(QUEUE, waiting=150, failed=20, more=[State.COMPLETED, State.FAILED])
    said = {finding.rule: finding.text for finding in _queue(full, (), RULES.everywhere)}
    assert (said["waiting"], said["failed"]) == ("150 jobs wait", "at least 20 dead letters")


def test_what_is_well_again_is_said_to_be_so() -> None:
    def said(queue: QueueStats, *workers: WorkerView) -> str:
        return next(x.text for x in _queue(queue, workers, RULES.of_queue("mail")) if x.rule == "unserved")

    waits = replace(QUEUE, oldest_waiting_s=31.0)
    assert said(waits) == "no worker serves it, and a job has waited 31 s"
    assert said(QUEUE) == "no worker serves it, and no job waits"
    assert said(waits, WORKER) == "workers serve it"
    [silent] = _workers([replace(WORKER, silent_s=0.5), WORKER], RULES)
    assert silent.text == "worker 1 on here was last heard of 1 s ago, all others since"
    late = DutyView("sweep", "worker 1", 60.0, 5.0, 1.0, 0.1)
    assert [x.text for x in _duties([late], RULES.everywhere)] == ["the duty 'sweep' is 1 s late"]
    [late_now] = _duties([replace(late, late_s=1e6)], RULES.everywhere)
    assert late_now.text == "the duty 'sweep' is 1000000 s late; does a worker run?"


def test_a_worker_that_is_silent_is_told_before_and_after_its_lease() -> None:
    def level(silent_s: float) -> Level:
        [finding] = _workers([WORKER, replace(WORKER, id=2, silent_s=silent_s)], RULES)
        return finding.level

    assert [level(s) for s in (10.0, 20.0, 40.0)] == [Level.OK, Level.WARNING, Level.CRITICAL]
    assert list(_workers([], RULES)) == []


@pytest.mark.parametrize("text", ["wating=1/2", "waiting", "waiting=2/1", "waiting=on", "waiting=1", "=1/2"])
def test_figures_that_cannot_be_meant_are_refused_with_the_nearest_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"waiting|warning before"):
        thresholds_of(text)
