"""A server to deliver to, workers, three thousand events; then what happened beside what had to."""

import json
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from actors import broker
from actors.events import CompletionEvent, InvalidEvent
from actors.posthog import uuid_of
from actors.store import migrations, store
from actors.usage import track_llm_usage
from cli.demo.generate import EVENTS
from cli.demo.outcome import RunRecord, all_finished
from cli.demo.posthog import KEY, PostHogServer
from cli.demo.report import report
from cli.demo.totals import Totals, busy_plan, expected
from cli.demo.workers import Workers
from errors import BadInput
from ledger.migrate import Migrations
from ledger.queries import Queries
from ledger.states import FINISHED
from settings import VARIABLES

POLL_S = 0.2
#: When nothing has finished for this long, something is wrong and waiting will not help.
STALLED_S = 60.0
#: A worker that has not been heard of for so long takes nothing.
GONE_S = 15.0
QUEUE = "usage-tracking"

Event = dict[str, Any]


def drive(database_url: str, directory: Path, *, events: int | None, workers: int, as_json: bool) -> int:
    """Run the demo on this database; ``directory`` takes the workers' log.  0 when all is as it must be."""
    run = f"demo-{secrets.token_hex(4)}"
    console = Console(quiet=as_json)
    prepare(database_url)
    demand_alone(database_url)
    sent = [tagged(event, run) for event in read(events)]
    known = uuids(sent, run)
    busy = busy_plan(known)
    must = expected(sent, busy)
    record = RunRecord(database_url, run)
    with PostHogServer(busy) as posthog:
        env = {VARIABLES["posthog_url"]: posthog.url, VARIABLES["posthog_key"]: KEY}
        with Workers(workers, env, directory / "workers.log") as pool:
            trouble = watch(sent, run, record, must, pool, console)
        broker.close()
    did = Totals(
        events=len(sent),
        turned_away={str(status): count for status, count in posthog.answers.items() if status != 200},
        # Workers also do what others have left in the database.
        delivered=len(posthog.received.keys() & set(known.values())),
        **record.totals(),
    )
    trouble += must.differences(did) + record.wrong_bills()
    if as_json:
        print(json.dumps(did.as_json(), indent=2))
    else:
        report(console, did, record.timing())
    for line in trouble:
        Console(stderr=True).print(line, style="red", highlight=False, markup=False)
    return 1 if trouble else 0


def prepare(database_url: str) -> None:
    """Bring the database's schemas up to date."""
    if database_url.startswith("sqlite:"):
        store().close()  # it migrates itself at its first use
    else:
        Migrations(database_url).upgrade()
        migrations(database_url).upgrade()


def demand_alone(database_url: str) -> None:
    """Raise ``BadInput`` when somebody else's workers would take the demo's jobs."""
    queries = Queries(database_url)
    others = [x.id for x in queries.workers() if QUEUE in x.queues and x.silent_s < GONE_S]
    queries.close()
    if others:
        raise BadInput(
            f"workers are at work on this ledger ({', '.join(map(str, others))}): they would take the demo's jobs, and "
            "deliver to their own PostHog; stop them, or unset DATABASE_URL and BROKER_URL"
        )


def read(limit: int | None) -> list[Event]:
    """The bundled events, or the first ``limit`` of them."""
    with EVENTS.open() as lines:
        return [json.loads(line) for line in lines][:limit]


def tagged(event: Event, run: str) -> Event:
    """The event with the run's id before its request id: requests of an earlier run are not met again."""
    return event | {"request_id": f"{run}:{event['request_id']}"} if "request_id" in event else event


def uuids(events: Sequence[Event], run: str) -> dict[str, str]:
    """The uuid PostHog will know each well-formed event by, by its request id as it stands in the file."""
    found = {}
    for event in events:
        try:
            request = CompletionEvent.parse(event).request_id
        except InvalidEvent:
            continue
        found[request.removeprefix(f"{run}:")] = uuid_of(request)
    return found


def watch(
    events: Sequence[Event], run: str, record: RunRecord, must: Totals, pool: Workers, console: Console
) -> list[str]:
    """Send the events, and show how the jobs get on until all have finished; says so if they do not."""
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(1) as sender:
        bars = {actor: progress.add_task(actor, total=sum(states.values())) for actor, states in must.jobs.items()}
        sending = sender.submit(send, events, run)
        moved, last = time.monotonic(), -1
        while True:
            pool.check()
            everything_sent = _succeeded(sending)
            asked = time.monotonic()
            counts = record.counts()
            for actor, bar in bars.items():
                progress.update(bar, completed=sum(counts.get((actor, state), 0) for state in FINISHED))
            finished = sum(count for (_, state), count in counts.items() if state in FINISHED)
            if everything_sent and all_finished(counts):
                return []
            if finished != last:
                moved, last = time.monotonic(), finished
            elif time.monotonic() - moved > STALLED_S:
                return [f"nothing has finished for {STALLED_S:.0f} s, and not all has: {counts}; {pool.log_tail()}"]
            # Counting takes what the jobs could use: a fifth of the time at most.
            time.sleep(max(POLL_S, 4 * (time.monotonic() - asked)))


def send(events: Sequence[Event], run: str) -> None:
    """Send every event as an application would, one at a time."""
    for event in events:
        track_llm_usage.send_with_options(args=(event,), run=run)


def _succeeded(future: Future[None]) -> bool:
    """Whether it is done; raises what it raised."""
    if future.done():
        future.result()
    return future.done()
