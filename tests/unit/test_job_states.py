"""docs/job-states.md is drawn from ledger/states.py.

python -m tests.unit.test_job_states > docs/job-states.md
"""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from ledger import states
from ledger.states import LIVE, TRANSITIONS, Event, Outcome, Reason, State

PAGE = Path(__file__).parents[2] / "docs/job-states.md"

HEAD = """\
# The states of a job

Drawn from `ledger/states.py` by `python -m tests.unit.test_job_states`; a test keeps it so. The SQL `CHECK` and every
verb that moves a job go by the same data.
"""

TAIL = """\
A paused queue is a property of the queue, not a state of its jobs: they stay as they are, and nothing starts.

Three counters stand beside the state. **ticket** goes up whenever the job needs a (new) message; a message carries the
ticket it was made for, and any other is stale. **epoch** goes up at every claim and whenever a job is taken from its
worker; a finish is accepted for its own epoch only. **attempts** counts the tries that were spent.
"""


def page() -> str:
    return "\n".join([HEAD, *_diagram(), "", *_states(), "", TAIL, *_events(), "", *_outcomes(), "", *_reasons(), ""])


def _diagram() -> list[str]:
    arrows: dict[tuple[State | None, State], list[Event]] = defaultdict(list)
    for event in Event:
        for old, new in sorted(TRANSITIONS[event], key=str):
            arrows[old, new].append(event)
    rank: dict[State | None, int] = {None: -1, **{state: number for number, state in enumerate(State)}}
    lines = [
        f"    {old or '[*]'} --> {new} : {', '.join(arrows[old, new])}"
        for old, new in sorted(arrows, key=lambda pair: (rank[pair[0]], rank[pair[1]]))
    ]
    return ["```mermaid", "stateDiagram-v2", *lines, "```"]


def _states() -> Iterator[str]:
    yield from ("| state | | what it means |", "|---|---|---|")
    for state, meaning in _explained(State):
        yield f"| {state} | {'live' if state in LIVE else 'finished'} | {meaning} |"


def _events() -> Iterator[str]:
    yield from ("## Events", "", "What can happen to a job, and the only ways it can move.", "")
    yield from ("| event | from → to | |", "|---|---|---|")
    for event, meaning in _explained(Event):
        moves = ", ".join(f"{old or '–'} → {new}" for old, new in sorted(TRANSITIONS[Event(event)], key=str))
        yield f"| {event} | {moves} | {meaning} |"


def _outcomes() -> Iterator[str]:
    yield from ("## Outcomes", "", "How one attempt ended (`attempts.outcome`).", "")
    yield from ("| outcome | |", "|---|---|")
    yield from (f"| {outcome} | {meaning} |" for outcome, meaning in _explained(Outcome))


def _reasons() -> Iterator[str]:
    yield from ("## Reasons", "", "Why a failed job is a dead letter (`jobs.reason`).", "")
    yield from ("| reason | |", "|---|---|")
    yield from (f"| {reason} | {meaning} |" for reason, meaning in _explained(Reason))


def _explained(kind: type[StrEnum]) -> list[tuple[str, str]]:
    """The members with their ``#:`` comments."""
    source = inspect.getsource(states).partition(f"class {kind.__name__}(")[2].partition("\n\n\n")[0]
    told = dict(re.findall(r'^    [A-Z_]+ = "(\w+)"(?:  #: (.*))?$', source, re.MULTILINE))
    return [(member.value, told[member.value].replace("``", "`")) for member in kind]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), f"run: python -m {__name__} > {PAGE}"


if __name__ == "__main__":
    print(page(), end="")
