"""The five priorities; the lower runs sooner."""

from enum import IntEnum


class Priority(IntEnum):
    """As an actor's or a message's ``priority``."""

    CRITICAL = 1  #: somebody waits for it
    HIGH = 2
    NORMAL = 3
    LOW = 4
    BACKGROUND = 5  #: when there is nothing else to do
