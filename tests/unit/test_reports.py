"""Of many reports of progress a few are written, and the last one always."""

import threading
import time

from ledger.reports import Progress, Reports


def test_of_a_burst_the_first_is_written_at_once_and_the_last_at_the_end() -> None:
    reports = Reports()
    written = [found for n in range(10_000) if (found := reports.add(Progress("a", n, None, "")))]
    assert written == [Progress("a", 0, None, "")]
    assert reports.due() == [], "not within the same second"
    assert reports.close("a") == Progress("a", 9_999, None, "")
    assert reports.close("a") is None


def test_what_waits_becomes_due_by_itself() -> None:
    reports = Reports(every_s=0.05)
    first, second = Progress("a", 1, None, ""), Progress("a", 2, None, "")
    began = time.monotonic()
    assert reports.add(first) == first
    assert reports.add(second) is None
    while not (due := reports.due()):
        time.sleep(0.001)
    assert due == [second]
    assert time.monotonic() - began >= 0.05
    assert reports.due() == []
    assert reports.close("a") is None, "it is written"


def test_each_job_has_a_second_of_its_own() -> None:
    reports = Reports()
    assert all(reports.add(Progress(job, 1, None, "")) for job in "abc")
    assert reports.close("nobody") is None


def test_threads_of_one_job_share_its_second() -> None:
    reports = Reports()
    written: list[Progress] = []

    def report() -> None:
        written.extend(found for n in range(1_000) if (found := reports.add(Progress("a", n, None, ""))))

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
