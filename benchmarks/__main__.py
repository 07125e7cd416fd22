"""``make bench``: every figure of every system, one after the other, round by round.

Rates of a shared machine swing by a factor of two between rounds; ratios within a round, and CPU per job,
are the steadier figures.  Medians go to the table and to ``benchmarks/results.json``.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import policies
from benchmarks.contestants import ALL, HARELINE, Contestant
from benchmarks.measure import Bench
from benchmarks.promotion import promotion
from ledger.migrate import Migrations
from tests.servers import Postgres, RabbitMQ

RESULTS = Path(__file__).with_name("results.json")
Figures = dict[str, dict[str, list[float]]]


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--jobs", type=int, default=10_000, help="jobs of a drain; other figures take their share")
    options.add_argument("--only", nargs="*", help="figures to measure, by name; nothing is written then")
    chosen = options.parse_args()
    console = Console()
    rabbitmq, postgres = RabbitMQ(), Postgres({"max_connections": "200"})
    rabbitmq.start()
    postgres.start()
    try:
        with tempfile.TemporaryDirectory(prefix="hareline-bench-") as folder:
            figures: Figures = defaultdict(lambda: defaultdict(list))
            costs = policies.no_costs()
            for round_ in range(chosen.rounds):
                env = {"BROKER_URL": rabbitmq.new_vhost(), "DATABASE_URL": postgres.create_database()}
                Migrations(env["DATABASE_URL"]).upgrade()
                bench = Bench(Path(folder) / str(round_), {**env, "HARELINE_LOG_LEVEL": "WARNING"})
                one_round(bench, chosen.jobs, chosen.only, figures, console)
                if not chosen.only or "policies" in chosen.only:
                    policies.one_round(bench, chosen.jobs // 2, costs, console)
    finally:
        rabbitmq.remove()
        postgres.remove()
    report(figures, console)
    console.print(policies.table(costs))
    if not chosen.only:
        RESULTS.write_text(json.dumps({**summary(figures), "policies": policies.medians(costs)}, indent=2) + "\n")


def one_round(bench: Bench, jobs: int, only: list[str] | None, figures: Figures, console: Console) -> None:
    """Each figure of all systems, close together in time."""

    def each(
        name: str, measure: Callable[[Contestant], dict[str, float] | float], systems: tuple[Contestant, ...] = ALL
    ) -> None:
        if only and name not in only:
            return
        for system in systems:
            value = measure(system)
            parts = (
                {name: value}
                if isinstance(value, float)
                else {f"{name}.{part}": figure for part, figure in value.items()}
            )
            for part, figure in parts.items():
                figures[part][system.name].append(figure)
            console.log(name, system.name, {part: round(figure, 1) for part, figure in parts.items()})

    def drain(kind: str, share: float) -> Callable[[Contestant], dict[str, float]]:
        # Celery is slow enough for fewer jobs to tell as much.
        return lambda system: bench.drain(system, kind, int(jobs * share * (0.3 if system.name == "celery" else 1)))

    each("enqueue_one", lambda system: _emptied(bench, system, "one", jobs // 4))
    each("enqueue_threads8", lambda system: _emptied(bench, system, "threads", jobs // 2))
    each("enqueue_bulk", lambda system: _emptied(bench, system, "bulk", jobs), (HARELINE,))
    each("drain_noop", drain("noop", 1.0))
    each("drain_2ms", drain("nap", 0.5))
    each("start_latency_ms", lambda system: bench.latency(system, rate=200, seconds=6))
    each("promotion", lambda system: promotion(bench.env, jobs * 2), (HARELINE,))


def _emptied(bench: Bench, system: Contestant, mode: str, count: int) -> dict[str, float]:
    """Measure sending, then let a worker empty the queue for the next figure."""
    figures = bench.feed(system, "noop", count, mode)
    with bench.worker(system):
        bench.wait(count)
    return figures


def summary(figures: Figures) -> dict[str, object]:
    """Medians, in the shape of ``results.json``."""

    def medians(name: str) -> dict[str, float]:
        return {system: round(statistics.median(values), 1) for system, values in figures.get(name, {}).items()}

    bulk = medians("enqueue_bulk.rate")
    # Neither of the others has a bulk send; their loop of confirmed sends is what a user would write.
    loop = medians("enqueue_one.rate")
    return {
        "drain_noop": medians("drain_noop.rate"),
        "drain_2ms": medians("drain_2ms.rate"),
        "enqueue_one": loop,
        "enqueue_threads8": medians("enqueue_threads8.rate"),
        "enqueue_bulk": {**{name: rate for name, rate in loop.items() if name != "hareline"}, **bulk},
        "start_latency_ms": {
            system: {part: medians(f"start_latency_ms.{part}").get(system) for part in ("p50", "p95", "p99")}
            for system in medians("start_latency_ms.p50")
        },
        "worker_cpu_us": medians("drain_noop.cpu_us"),
        "promotion": medians("promotion"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
    }


def report(figures: Figures, console: Console) -> None:
    """Median (range) of every figure, and the ratio of Hareline's to each other system's, round by round."""
    table = Table(title="median (lowest to highest)")
    for column in ("figure", *(system.name for system in ALL), "hareline / dramatiq", "hareline / celery"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, systems in figures.items():
        cells = [_cell(systems.get(system.name, [])) for system in ALL]
        own = systems.get(HARELINE.name, [])
        ratios = [_ratio(own, systems.get(other.name, [])) for other in ALL[1:]]
        table.add_row(name, *cells, *ratios)
    console.print(table)


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} – {max(values):,.1f})"


def _ratio(own: list[float], other: list[float]) -> str:
    ratios = [a / b for a, b in zip(own, other, strict=False) if b]
    return f"{statistics.median(ratios):.2f}" if ratios else "–"


if __name__ == "__main__":
    main()
