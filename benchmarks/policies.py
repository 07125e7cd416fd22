"""The cost of each policy to a job that uses it, against the same job without, round by round."""

import statistics
from collections import defaultdict
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from benchmarks.contestants import POLICIES
from benchmarks.measure import Bench
from tests.servers.process import free_port

NAMES = (
    *("plain", "schema", "priority", "expires", "rate_limit", "rate_limit by key", "unique", "atomic_sends"),
    *("store_results", "progress", "checkpoint", "metrics"),
)
Costs = dict[str, dict[str, list[float]]]


def one_round(bench: Bench, jobs: int, costs: Costs, console: Console) -> None:
    """Send and run ``jobs`` of each policy: jobs/s and processor time per job, in µs, are added to ``costs``."""
    for name in NAMES:
        # Not a policy of a job, but of the process: the plain job in a worker that counts for Prometheus.
        system = replace(POLICIES, env={"HARELINE_METRICS_PORT": str(free_port())}) if name == "metrics" else POLICIES
        sent = bench.feed(system, name, jobs // 4, "one")
        with bench.worker(system):
            bench.wait(jobs // 4)
        run = bench.drain(system, name, jobs)
        figures = {"send": sent["rate"], "send_us": sent["cpu_us"], "run": run["rate"], "run_us": run["cpu_us"]}
        for part, figure in figures.items():
            costs[name][part].append(figure)
        console.log("policy", name, {part: round(figure) for part, figure in figures.items()})


def no_costs() -> Costs:
    return defaultdict(lambda: defaultdict(list))


def medians(costs: Costs) -> dict[str, dict[str, float]]:
    return {
        name: {part: round(statistics.median(values), 1) for part, values in parts.items()}
        for name, parts in costs.items()
    }


def table(costs: Costs) -> Table:
    """Medians, and in brackets the ratio to the plain job."""
    found = Table(title="one policy at a time (ratio to a plain job)")
    for column in ("policy", "sends/s", "sender µs", "runs/s", "worker µs"):
        found.add_column(column, justify="left" if column == "policy" else "right")
    for name, parts in costs.items():
        cells = []
        for part, values in parts.items():
            ratios = [own / plain for own, plain in zip(values, costs["plain"][part], strict=True)]
            cells.append(f"{statistics.median(values):,.0f} ({statistics.median(ratios):.2f})")
        found.add_row(name, *cells)
    return found
