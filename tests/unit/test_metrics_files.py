"""What a process has counted is there, all of a change or nothing of it, however the process ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from errors import SettingsError
from metrics.catalogue import BATCH, BUSY, DEPTH, DURATION, JOBS, OTHER
from metrics.file import Pair, read
from metrics.folder import Folder
from metrics.meter import MOST, Change, Meter

DONE = (JOBS, ("a", "q", "completed"), 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(1, "sqlite:///x")
    found.path = tmp_path / "metrics"
    return found


def meter(folder: Folder) -> Meter:
    opened = Meter(lambda: folder.join("worker"))
    opened.open()
    return opened


def nothing(claimed: Sequence[Pair]) -> list[Change] | None:
    raise AssertionError(f"nothing was pending, but {claimed}")


def test_counts_of_several_processes_are_added_and_of_some_gauges_the_largest_counts(folder: Folder) -> None:
    for number in (1.0, 2.0):
        one = meter(folder)
        one.count(DONE, (BUSY, (), number), (DEPTH, ("q", "waiting"), number), (DURATION, DONE[1], 0.02))
    values = folder.values()
    assert list(values[JOBS.name, DONE[1]]) == [2]
    assert list(values[BUSY.name, ()]) == [3]
    assert list(values[DEPTH.name, ("q", "waiting")]) == [2]
    assert sum(values[DURATION.name, DONE[1]][:-1]) == 2
    assert values[DURATION.name, DONE[1]][-1] == pytest.approx(0.04)


def test_a_histogram_counts_what_is_at_most_its_bound(folder: Folder) -> None:
    one = meter(folder)
    one.count(*((BATCH, ("claims",), size) for size in (1, 2, 3, 500, 501)))
    *buckets, total = folder.values()[BATCH.name, ("claims",)]
    counted = dict(zip([*BATCH.buckets, 1e9], buckets, strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {1.0: 1, 2.0: 1, 5.0: 1, 500.0: 1, 1e9: 1}
    assert total == 1007


_PROCESS = """
import os, sys
from pathlib import Path
from metrics.folder import Folder
from tests.unit.test_metrics_files import DONE, meter
folder = Folder(1, "sqlite:///x")
folder.path = Path(sys.argv[1])
one = meter(folder)
one.count(DONE)
one.begin([("job-a", 1), ("job-b", 2)])
one.later(DONE, DONE)
if sys.argv[2] == "counted":
    one.end()
print("ready", flush=True)
sys.stdin.read()
"""


def killed(folder: Folder, when: str) -> None:
    """A process that is killed before, or after, it could count what it had committed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROCESS, str(folder.path), when], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_a_killed_process_had_counted_stays_and_is_taken_over_once(folder: Folder) -> None:
    mine = meter(folder)
    killed(folder, "counted")
    assert list(folder.values()[JOBS.name, DONE[1]]) == [3]
    for _ in range(2):
        folder.fold(nothing)
        assert list(folder.values()[JOBS.name, DONE[1]]) == [3]
    mine.close()


def test_what_it_had_not_counted_is_asked_for_until_that_is_known(folder: Folder) -> None:
    mine = meter(folder)
    killed(folder, "begun")
    asked = []

    def settle(claimed: Sequence[Pair]) -> list[Change] | None:
        asked.append(list(claimed))
        return [DONE] if len(asked) == 3 else None

    for expected in (1, 1, 2, 2):
        folder.fold(settle)
        assert list(folder.values()[JOBS.name, DONE[1]]) == [expected]
    assert asked == [[("job-a", 1), ("job-b", 2)]] * 3
    mine.close()


def test_who_was_killed_while_taking_over_leaves_nothing_to_be_taken_twice(folder: Folder) -> None:
    mine = meter(folder)
    killed(folder, "counted")
    [dead] = [path for path in folder.path.glob("*.metrics") if str(os.getpid()) not in path.name]
    content = dead.read_bytes()
    folder.fold(nothing)
    dead.write_bytes(content)  # as if it had been killed before it could remove it
    folder.fold(nothing)
    assert not dead.exists()
    assert list(folder.values()[JOBS.name, DONE[1]]) == [3]
    mine.close()


def test_counters_go_on_though_nobody_was_alive(folder: Folder) -> None:
    killed(folder, "counted")
    mine = meter(folder)
    mine.count(DONE)
    folder.fold(nothing)
    assert list(folder.values()[JOBS.name, DONE[1]]) == [4]
    mine.close()


def test_a_reader_never_sees_half_of_a_change(folder: Folder) -> None:
    one = meter(folder)
    over = threading.Event()

    def count() -> None:
        while not over.is_set():
            one.begin([("job", 1)])
            one.later(DONE, (JOBS, ("b", "q", "completed"), 1.0))
            one.end()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        [path] = folder.path.glob("*.metrics")
        for _ in range(500):
            values = read(path).values
            assert values.get((JOBS.name, DONE[1])) == values.get((JOBS.name, ("b", "q", "completed")))
    finally:
        over.set()
        thread.join()
        one.close()


def test_a_child_that_was_forked_counts_nothing_and_keeps_nothing_alive(folder: Folder) -> None:
    mine, other = meter(folder), meter(folder)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        mine.count(DONE)
        os.write(ready[1], b".")
        os.read(go[0], 1)
        os._exit(0)
    assert os.read(ready[0], 1) == b"."
    other.count(DONE)
    other.close()
    folder.fold(nothing)  # the child lives, and does not hold the file
    assert len(list(folder.path.glob("*.metrics"))) == 1
    os.write(go[1], b".")
    os.waitpid(child, 0)
    assert list(folder.values()[JOBS.name, DONE[1]]) == [1]
    mine.close()
    for end in (*ready, *go):
        os.close(end)


def test_no_more_than_so_many_job_types_are_told_apart(folder: Folder) -> None:
    one = meter(folder)
    one.count(*((JOBS, (f"type {number}", "q", "completed"), 1) for number in range(MOST + 5)))
    types = [labels[0] for name, labels in folder.values() if name == JOBS.name]
    assert len(types) == MOST + 1
    assert list(folder.values()[JOBS.name, (OTHER, "q", "completed")]) == [5]
    one.close()


def test_gauges_that_are_shown_are_the_only_ones(folder: Folder) -> None:
    one = meter(folder)
    one.show({DEPTH}, [(DEPTH, ("gone", "waiting"), 1), (DEPTH, ("q", "waiting"), 1)])
    one.show({DEPTH}, [(DEPTH, ("q", "waiting"), 2)])
    assert {labels: list(value) for (name, labels), value in folder.values().items() if name == DEPTH.name} == {
        ("q", "waiting"): [2]
    }
    one.close()


def test_a_folder_of_somebody_else_is_refused(folder: Folder) -> None:
    folder.path.mkdir(mode=0o777)
    folder.path.chmod(0o777)
    with pytest.raises(SettingsError, match="remove it"):
        folder.join("worker")
