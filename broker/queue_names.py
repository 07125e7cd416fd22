"""The queues that settings name, and those that there are."""

from collections.abc import Collection
from typing import Any

from dramatiq import Broker, Middleware, Worker

from errors import SettingsError, nearest
from settings import fold


class QueueNames(Middleware):
    """Lets settings count for the queue whose name differs from theirs in case, dashes and underscores at most.

    For the name of a variable has capitals and underscores only.  Settings of a queue that there is not would count
    for nothing: no worker boots with them.

    Parameters:
      given: the names in the settings.
      catalogue: those in the catalogue of queues, whether they have actors or not.
      said: what code and settings say, by queue; what is said of one under another spelling moves to its own.
    """

    def __init__(self, given: Collection[str], catalogue: Collection[str], *said: dict[str, Any]) -> None:
        self._given = given
        self._catalogue = catalogue
        self._said = said

    def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
        if queue_name in self._given:
            return
        known = {*broker.get_declared_queues(), *self._catalogue}
        for name in self._given:
            if fold(name) == fold(queue_name) and name not in known:
                for said in self._said:
                    if name in said:
                        said[queue_name] = said.pop(name)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self.check(broker)

    def check(self, broker: Broker) -> None:
        """Raise ``SettingsError``, which names them and the nearest, when settings are of queues that there are not."""
        known = {*broker.get_declared_queues(), *self._catalogue}
        folded = {*map(fold, known)}
        wrong = [
            f"queues.{name}: no actor is on queue {name!r}; correct or remove HARELINE_QUEUES__"
            f"{name.upper().replace('-', '_')}__…, or [queues.{name}] in hareline.toml; {nearest(name, known)}"
            for name in self._given
            if fold(name) not in folded
        ]
        if wrong:
            raise SettingsError("\n".join(wrong))
