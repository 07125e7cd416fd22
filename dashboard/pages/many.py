"""A verb on many jobs as one bulk operation: it says first how many they are, and is refused when that has changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import Request

from control import operations
from dashboard.pages.forms import Act, Field
from dashboard.security import principal
from dashboard.services import Services
from ledger.operations import Deed
from ledger.search import Filter

#: How many the one who asks was told of.
EXPECTED: Final = Field("expected", "", kind="hidden", required=False)


@dataclass(frozen=True)
class Many:
    """What is done to the dead letters that belong to one thing.

    Parameters:
      wanted: which these are, by the thing's name; it may raise.
    """

    deed: Deed
    wanted: Callable[[Services, str], Filter]

    def ask(self, request: Request, services: Services, key: str) -> Mapping[str, str]:
        """How many there are now: a dry run."""
        asks = principal(request)
        wanted = self.wanted(services, key).within(asks.queues)
        tried = operations.start(services.control, services.queries, self.deed, wanted, dry_run=True, by=asks.who)
        count = tried.expected
        noun = "dead letter" if count.count == 1 else "dead letters"
        return {EXPECTED.name: str(count.count), "jobs": f"{count} {noun}"}

    def do(self, act: Act) -> str:
        """Begin it, and go to where it is seen.  Raises ``CountChanged``."""
        expected = round(act.number(EXPECTED.name, -1))
        begun = operations.start(
            act.services.control,
            act.services.queries,
            self.deed,
            self.wanted(act.services, act.key).within(act.by.queues),
            expected_count=None if expected < 0 else expected,
            by=act.by,
        )
        act.to = f"/operations/{begun.id}"
        return f"Begun: {begun.expected} dead letters"
