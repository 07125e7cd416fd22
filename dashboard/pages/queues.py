"""Queues: how much waits, how fast it goes, and what can be done about it."""

from typing import Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from broker import catalogue, knobs
from control import queues as verbs
from dashboard.pages.forms import Act, Field, Verb, offer, offered
from dashboard.pages.many import EXPECTED, Many
from dashboard.pages.periods import PERIODS, period
from dashboard.pages.reading import asked
from dashboard.pages.rendering import page
from dashboard.security import allow, principal
from dashboard.services import Opened, Services
from errors import BadInput
from ledger.operations import Deed
from ledger.orders import Knob
from ledger.queue_stats import QueueStats
from ledger.scope import Scope
from ledger.search import Filter
from ledger.states import FINISHED, State
from rabbitmq.topology import DEAD_LETTERS

router = APIRouter()

_LONGEST_H: Final = 876_000


def _known(act: Act) -> str:
    """Raises ``NotFound``: a misspelt pause would be without effect."""
    return catalogue.queue(act.services.broker, act.services.queries, act.key)


def _pause(act: Act) -> str:
    verbs.pause(act.services.control, _known(act), by=act.by)
    return f"{act.key} is paused: nothing new of it starts, what runs finishes"


def _resume(act: Act) -> str:
    held = verbs.resume(act.services.control, _known(act), by=act.by)
    return f"{act.key} goes on" + (f"; {held:,} jobs had been held back" if held else "")


def _drain(act: Act) -> str:
    verbs.drain(act.services.control, _known(act), by=act.by)
    return f"{act.key} takes no new jobs; what is there runs to its end"


def _dead(opened: Services, key: str) -> Filter:
    return Filter(states=(State.FAILED,), queues=(catalogue.queue(opened.broker, opened.queries, key),))


_RETRY: Final = Many(Deed.RETRY, _dead)


def _clean(act: Act) -> str:
    text = act.text("state", State.COMPLETED)
    state = next((one for one in FINISHED if one == text), None)
    if state is None:
        raise BadInput(f"state {text!r}: finished jobs are {', '.join(sorted(FINISHED))}")
    hours = act.number("hours", 24)
    if not 0 <= hours <= _LONGEST_H:
        raise BadInput(f"hours: use 0 to {_LONGEST_H:,}, a hundred years")
    gone = verbs.clean(act.services.control, _known(act), state, older_than_s=hours * 3600, by=act.by)
    return f"{gone:,} {state} jobs of {act.key} are removed; only their journal stays"


def _change(act: Act) -> str:
    given: dict[Knob, int | str] = {knob: text for knob in Knob if (text := act.text(knob))}
    if not given:
        raise BadInput("nothing to change was given")
    verbs.change(act.services.control, _known(act), given, by=act.by)
    told = ", ".join(f"{knob.replace('_', ' ')} {value}" for knob, value in given.items())
    return f"{act.key} goes by {told} from now on, in every process within two seconds"


def _restore(act: Act) -> str:
    was = verbs.restore(act.services.control, _known(act), by=act.by)
    return f"{act.key} goes by the code again" + (f" in {', '.join(was)}" if was else "; nothing had been changed")


VERBS: Final = (
    Verb("pause", "pause_queue", "Pause", _pause),
    Verb("resume", "resume_queue", "Resume", _resume),
    Verb(
        "retry",
        "retry_queue",
        "Retry dead letters",
        _RETRY.do,
        say="{jobs} of this queue run again from the beginning, in batches; it may be stopped midway.",
        fields=(EXPECTED,),
        prefill=_RETRY.ask,
    ),
    Verb(
        "change",
        "change_queue",
        "Change limits",
        _change,
        say="In every process within two seconds, whatever the code says. What is left empty stays.",
        fields=(
            Field("concurrency", "Concurrency", "jobs at once in one process", kind="number", required=False),
            Field("rate", "Rate", "starts over all workers: 10/s, 100/5m", required=False),
            Field("max_running", "At most running", "over all workers", kind="number", required=False),
            Field("max_waiting", "At most waiting", "beyond it a send is refused", kind="number", required=False),
        ),
    ),
    Verb("restore", "restore_queue", "Restore limits", _restore, say="It goes by what the code says again."),
    Verb(
        "drain",
        "drain_queue",
        "Drain",
        _drain,
        say="It takes no new jobs: a send raises QueueDraining. What is there runs to its end. Resume ends it.",
        typed=True,
        danger=True,
    ),
    Verb(
        "clean",
        "clean_queue",
        "Clean",
        _clean,
        say="Finished jobs are deleted for good; only their journal stays.",
        fields=(
            Field("state", "State", "completed, failed or cancelled", "completed"),
            Field("hours", "Older than", "hours since they ended", "24", "number"),
        ),
        typed=True,
        danger=True,
    ),
)
offer(router, "/queues", "queue", VERBS)


@router.get("/queues", dependencies=[Depends(allow("list_queues"))])
def queues(request: Request, opened: Opened) -> Response:
    queries = asked(request, opened)
    return page(
        request,
        "queues.html",
        title="Queues",
        topics="queues,jobs,workers",
        queues=verbs.stats(queries, sorted(opened.broker.get_declared_queues())),
    )


@router.get("/queues/{name:path}", dependencies=[Depends(allow("get_queue"))])
def queue(request: Request, opened: Opened, name: str, window: str = "") -> Response:
    queries = asked(request, opened)
    principal(request).scope.demand(name)
    catalogue.queue(opened.broker, queries, name)
    [found] = verbs.stats(queries, only=[name])
    now = queries.database_time()
    chosen = period(window, "1h")
    length, parts = PERIODS[chosen]
    series = queries.series(since=now - length, until=now, points=parts, queue=name)
    return page(
        request,
        "queue.html",
        now=now,
        title=name,
        topics="queues,jobs,workers",
        queue=found,
        window=chosen,
        windows=list(PERIODS),
        ended=[(x.at, (x.completed, x.failed, x.retried)) for x in series.points],
        took=[(x.at, (x.run.p95, x.wait.p95) if x.run.count else (None, None)) for x in series.points],
        actors=queries.within(Scope((name,))).performance(since=now - length, until=now),
        workers=[x for x in queries.workers() if name in x.queues],
        knobs=knobs.of_queue(opened.broker, queries, name),
        road=opened.road.queues([name, name + DEAD_LETTERS]) if opened.road else None,
        offered=offered(request, VERBS, *_fitting(found)),
    )


def _fitting(queue: QueueStats) -> list[str]:
    stopped = queue.paused or queue.draining_at is not None
    return [
        "resume" if stopped else "pause",
        *(["retry"] if queue.failed else []),
        "change",
        "restore",
        "drain",
        "clean",
    ]
