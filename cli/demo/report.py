"""What a run of the demo came to, for people."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from cli.demo.outcome import Timing
from cli.demo.totals import Totals

_DEAD = {
    "InvalidEvent": "the event was malformed: no retry can mend it",
    "UnknownModel": "nobody lists a price for the model: no retry can find one",
}


def report(console: Console, totals: Totals, timing: Timing) -> None:
    """Print what happened, why some jobs are dead letters, what it cost, and how fast it went."""
    console.print(_jobs(totals))
    console.print(_dead(totals))
    console.print(Columns([_costs("model", totals.cost_by_model), _costs("customer", totals.cost_by_customer)]))
    away = ", ".join(f"{count} × {status}" for status, count in sorted(totals.turned_away.items())) or "nothing"
    console.print(
        f"{totals.events:,} events, {totals.stored:,} distinct requests, {totals.cost:,.6f} USD in all; "
        f"{totals.delivered:,} events reached PostHog, which turned away {away}: {timing.retried:,} retries."
    )
    console.print(
        f"{timing.jobs:,} jobs in {timing.elapsed_s:.1f} s: {timing.jobs_per_s:,.0f} a second. "
        f"In the queue: {_percentiles(timing.queued_ms)}. Running: {_percentiles(timing.ran_ms)}."
    )


def _jobs(totals: Totals) -> Table:
    table = Table("job", title="Jobs", title_justify="left")
    states = sorted({state for counts in totals.jobs.values() for state in counts})
    for state in states:
        table.add_column("dead letter" if state == "failed" else state, justify="right")
    for actor, counts in totals.jobs.items():
        table.add_row(actor, *(f"{counts.get(state, 0):,}" for state in states))
    return table


def _dead(totals: Totals) -> Table:
    table = Table("error", "why", title="Dead letters", title_justify="left")
    table.add_column("jobs", justify="right")
    for error, count in sorted(totals.dead.items()):
        table.add_row(error, _DEAD.get(error, "see `hareline dead ls`"), f"{count:,}")
    return table


def _costs(by: str, costs: Mapping[str, Decimal]) -> Table:
    table = Table(by, title=f"Cost by {by}", title_justify="left")
    table.add_column("USD", justify="right")
    for name, amount in sorted(costs.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{amount:,.6f}")
    return table


def _percentiles(sorted_ms: Sequence[float]) -> str:
    if not sorted_ms:
        return "-"
    last = len(sorted_ms) - 1
    return ", ".join(f"p{percent} {sorted_ms[last * percent // 100]:,.1f} ms" for percent in (50, 95, 99))
