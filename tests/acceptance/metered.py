"""What Prometheus would read, and what the ledger has."""

import atexit
import shutil
import socket
from collections import Counter, deque
from functools import partial
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from ledger.states import RAN
from metrics.folder import Folder
from tests.acceptance.system import System, Worker

Labels = tuple[str, str, str]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def metered(system: System) -> int:
    """Let this system's processes count; their port."""
    port = free_port()
    system.env["HARELINE_METRICS_PORT"] = str(port)
    atexit.register(shutil.rmtree, Folder(port, system.database_url).path, ignore_errors=True)
    return port


def page(port: int) -> str:
    """What is served; empty when nobody serves."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except (URLError, ConnectionError):
        return ""


def samples(port: int, name: str) -> dict[tuple[str, ...], float]:
    """One metric's values, by those of its labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page(port))
        for sample in family.samples
        if sample.name == name
    }


def served(port: int) -> set[str]:
    """The metrics of which there is a value, by their names in the catalogue."""
    families = [family for family in text_string_to_metric_families(page(port)) if family.samples]
    return {family.name + ("_total" if family.type == "counter" else "") for family in families}


def recorded(system: System) -> dict[Labels, float]:
    """How the ledger says that attempts ended, by actor, queue and outcome."""
    counted: Counter[Labels] = Counter()
    for table in ("jobs", "history"):
        rows = system.sql(
            f"SELECT j.actor, j.queue, a.outcome, count(*) FROM attempts a JOIN {table} j ON j.id = a.job_id "
            "WHERE a.outcome <> 'crashed' GROUP BY j.actor, j.queue, a.outcome"
        )
        for actor, queue, outcome, count in rows:
            counted[actor, queue, outcome] += count
    return {labels: float(count) for labels, count in counted.items()}


def crashes(system: System) -> float:
    return float(system.sql("SELECT count(*) FROM attempts WHERE outcome = 'crashed'")[0][0])


def agree(system: System, port: int) -> bool:
    """Whether what is scraped is what the ledger has."""
    scraped = samples(port, "hareline_jobs_total")
    return {labels: value for labels, value in scraped.items() if labels[2] != "blocked"} == recorded(system)


def differences(system: System, port: int) -> dict[tuple[str, ...], tuple[float, float]]:
    """Labels of which the ledger and a scrape have different counts, and these."""
    scraped, found = samples(port, "hareline_jobs_total"), recorded(system)
    return {
        labels: (found.get(labels, 0.0), scraped.get(labels, 0.0))  # type: ignore[arg-type]
        for labels in {*scraped, *found}
        if found.get(labels) != scraped.get(labels)  # type: ignore[arg-type]
    }


def churn(system: System, port: int, jobs: int, kills: int) -> None:
    """Four workers run jobs, of which every fifth is retried and every tenth dies; they are killed, one by one."""
    workers = deque[Worker](system.worker(ready=False) for _ in range(4))
    for worker in workers:
        worker.wait_line("ready for action")
    system.until(lambda: page(port))
    shell = system.shell()
    lot = jobs // (kills + 1)
    for kill in range(kills + 1):
        wanted = len(system.ran()) + lot // 2
        shell.run(f"broker.enqueue_many([metered.message(log, n) for n in range({lot * kill}, {lot * (kill + 1)})])")
        if kill < kills:
            system.until(partial(_ran, system, wanted), 120)
            workers.popleft().kill()
            workers.append(system.worker(ready=False))
    system.finished(lot * (kills + 1), 240)
    system.until(lambda: agree(system, port), 30, because=f"ledger and scrape: {differences(system, port)}")
    assert samples(port, "hareline_crashes_total") == {(): crashes(system)}
    dead = samples(port, "hareline_dead_letters_total")
    assert sum(dead.values()) == system.states()["failed"]
    durations = samples(port, "hareline_job_duration_seconds_count")
    assert durations == {labels: count for labels, count in recorded(system).items() if labels[2] in RAN}


def _ran(system: System, count: int) -> bool:
    return len(system.ran()) >= count
