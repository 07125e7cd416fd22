"""How many jobs of a queue may run at once in one process: what the code says, or an operator."""

from collections.abc import Callable, Mapping


class Sizes:
    """Called with a queue's name.  Thread-safe.

    Parameters:
      code: what the catalogue and the settings say.
    """

    def __init__(self, code: Callable[[str], int]) -> None:
        self.code = code
        self._changed: Mapping[str, int] = {}

    def __call__(self, queue: str) -> int:
        return self._changed.get(queue) or self.code(queue)

    def learn(self, changed: Mapping[str, int]) -> bool:
        """What operators have set, by queue; whether that is another than before."""
        news, self._changed = changed != self._changed, changed
        return news
