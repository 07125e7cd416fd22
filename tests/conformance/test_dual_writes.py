"""Synchronous code that is moved to a job, step by step, while both run."""

from control.migration import report, set_mode, set_share
from middleware.dual_write import dual_write
from tests.conformance.system import System


def test_code_is_moved_to_a_job_step_by_step(system: System) -> None:
    def double_now(n: int) -> int:
        system.note(("now", n))
        return 2 * n if n != 7 else 15

    @system.actor(store_results=True)
    def double(n: int) -> int:
        system.note(("job", n))
        return 2 * n

    call = dual_write(double_now, double, 0.0)

    def compared() -> tuple[int, int, int]:
        system.broker.dual_writes.round()
        [view] = report(system.queries)
        return view.equal, view.different, view.error

    assert call(1) == 2
    system.work()
    system.until(lambda: report(system.queries))
    set_share(system.control, "double", 1.0, by="test")
    system.broker.dual_writes.round()
    assert [call(n) for n in range(5, 8)] == [10, 12, 15]
    system.until(lambda: compared() == (2, 1, 0))

    set_mode(system.control, "double", "async", by="test")
    system.broker.dual_writes.round()
    assert call(8) is None
    system.noted(("job", 8))
    assert ("now", 8) not in system.notes
    assert ("job", 1) not in system.notes
