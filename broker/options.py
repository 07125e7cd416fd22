"""The options an actor may have."""

import difflib
from collections.abc import Set

from errors import InvalidActor


class ActorOptions(set[str]):
    """The names of all options; an actor declared with another is refused with the nearest of them.

    Dramatiq declares an actor after ``set(options) - broker.actor_options`` came out empty, and says no more of what
    is left than that it is undefined.  Here that difference is either empty or raises ``InvalidActor``.
    """

    def __rsub__(self, given: Set[object]) -> set[object]:
        unknown = [
            f"{name!r} is not an option of an actor; the nearest is {difflib.get_close_matches(name, self, 1, 0)[0]!r}"
            for name in sorted(map(str, given))
            if name not in self
        ]
        if unknown:
            raise InvalidActor(f"{'; '.join(unknown)} (known are {', '.join(sorted(self))})")
        return set()
