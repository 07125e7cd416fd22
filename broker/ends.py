"""How this worker process can be ended from inside, as a SIGTERM from outside would."""

import multiprocessing
import os
import signal
from collections.abc import Callable

from ledger.orders import Ends


class Exit:
    """Knows who runs this process.

    ``alone`` is set where `hareline worker` does (cli/child.py): it is told first, so that no other process takes this
    one's place.
    """

    def __init__(self) -> None:
        self.alone: Callable[[], None] | None = None

    @property
    def master(self) -> int | None:
        """Of Dramatiq's command line, the process that started this one; None when it is run by another program."""
        parent = multiprocessing.parent_process()
        handler = signal.getsignal(signal.SIGTERM)
        ours = getattr(handler, "__module__", "") == "dramatiq.cli"
        return parent.pid if ours and parent is not None else None

    @property
    def how(self) -> Ends:
        if self.master is None:
            return Ends.NOT
        return Ends.TOGETHER if self.alone is None else Ends.ALONE

    def leave(self) -> bool:
        """Ask for a shutdown in good order; false when another program decides that.

        Dramatiq's command line is asked, not this process: when one of its workers ends by itself it calls that a
        failure, and ends the others.  Asked, it ends all of them, with success.
        """
        if (master := self.master) is None:
            return False
        if self.alone is not None:
            self.alone()
        os.kill(master, signal.SIGTERM)
        return True
