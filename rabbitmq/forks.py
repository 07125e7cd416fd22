"""What a forked child must forget: the connection is the parent's, and so are the locks its threads held."""

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    def forget(self) -> None:
        """Called in the child, before anything else runs there: become as if never started."""


_ALIVE: "weakref.WeakSet[Forkable]" = weakref.WeakSet()


def forget_in_child(thing: Forkable) -> None:
    """Call ``thing.forget()`` in every child this process forks, while ``thing`` lives."""
    _ALIVE.add(thing)


def _forget() -> None:
    for thing in list(_ALIVE):
        thing.forget()


os.register_at_fork(after_in_child=_forget)
