"""A pytest plugin for the tests of those who use Hareline; see docs/how-to/test-your-actors.md.

    # pytest.ini
    [pytest]
    hareline_actors = actors

    def test_it(hareline: Hareline) -> None: ...

plugin.py      what pytest loads; imports nothing of Hareline until a fixture is asked for
hareline.py    what a test is given
hand.py        runs jobs in the test's own thread
clock.py       the ledger's clock while a test runs
schedules.py   the ticks that fall due while it is moved
matching.py    whether a job has the arguments a test expects
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hareline_testing.hareline import Hareline

__all__ = ["Hareline"]


def __getattr__(name: str) -> Any:
    """Not imported with the plugin, which every run of pytest loads."""
    if name == "Hareline":
        from hareline_testing.hareline import Hareline

        return Hareline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
