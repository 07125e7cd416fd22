"""What is told to people, as it is kept until it is delivered."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from ledger.text import line

Kind = Literal["alert", "recovery", "dead letters", "test"]


@dataclass(frozen=True)
class Notice:
    """One message.  Its texts are one printable line each, whatever a job or a queue is called."""

    id: str  #: the same at every try and every destination: who is told twice can see it
    kind: Kind
    level: str  #: ok, warning, critical
    queue: str  #: empty: of the whole system
    rule: str
    subject: str
    lines: tuple[str, ...]  #: what is known
    at: str  #: ISO 8601, by the database's clock

    @classmethod
    def of(
        cls, id: str, kind: Kind, level: str, queue: str, rule: str, subject: str, lines: tuple[str, ...], at: str
    ) -> "Notice":
        return cls(id, kind, level, line(queue, 200), line(rule, 60), line(subject, 200), tuple(map(line, lines)), at)

    def body(self) -> str:
        """JSON, as it is kept and as webhooks get it; ASCII."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, body: str) -> "Notice":
        fields = json.loads(body)
        return cls(**{**fields, "lines": tuple(fields["lines"])})

    def text(self) -> str:
        return "\n".join((self.subject, "", *self.lines, "", f"{self.at}  {self.id}"))
