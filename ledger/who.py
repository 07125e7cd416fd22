"""Who asks for something to be done, for the journal and the audit trail."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Who:
    """A person or a program, and by which door they came."""

    name: str  #: ``alice``; for the command line the user of the operating system
    via: str  #: ``cli``, ``console``, ``api``, or a duty's name
    role: str = ""  #: under which it was allowed; empty on the command line, which has the database's password
    token: str = ""  #: id of the API token, never the token
    address: str = ""  #: from where
    request: str = ""  #: id of the HTTP request, as in the log
    queues: tuple[str, ...] = ()  #: the only ones they may touch (ledger/scope.py); all when empty
    operation: str = ""  #: what was asked for (control/permissions.py), where that is known

    def __str__(self) -> str:
        return f"{self.via}:{self.name}"


#: What verbs take: a ``str`` is a name alone.
By: TypeAlias = str | Who
