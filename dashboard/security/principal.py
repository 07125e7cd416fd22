"""Who asks."""

from dataclasses import dataclass
from typing import Literal

from control.permissions import Role, allowed, demand, writes
from control.who import Who
from errors import ReadOnly
from ledger.scope import Scope


@dataclass(frozen=True)
class Principal:
    """Somebody who was let in."""

    name: str
    role: Role
    queues: tuple[str, ...] = ()  #: the only ones they see and touch; all when empty (ledger/scope.py)
    via: Literal["console", "api"] = "console"  #: with a token it is the API
    token: str = ""  #: the id of their API token
    address: str = ""
    request: str = ""  #: the request's id
    csrf: str = ""  #: what a form has to send as ``csrf_token``, and a script as ``X-CSRF-Token``; empty: nothing
    read_only: bool = False

    @property
    def who(self) -> Who:
        return Who(self.name, self.via, self.role, self.token, self.address, self.request, self.queues)

    @property
    def scope(self) -> Scope:
        """For ``queries.within(…)``."""
        return Scope(self.queues)

    def may(self, operation: str) -> bool:
        """Whether they may do it now: for what is shown."""
        return not (self.read_only and writes(operation)) and allowed(self.who, operation)

    def demand(self, operation: str) -> None:
        """Raise ``ReadOnly`` or ``Denied`` unless they may do it now."""
        if self.read_only and writes(operation):
            raise ReadOnly(f"{operation} changes something, and this console is read-only (console_read_only)")
        demand(self.who, operation)
