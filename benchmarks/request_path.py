"""What tracking costs a request: in its path, while it is moved out (5 % of the calls on both ways), and outside.

    python -m benchmarks.request_path [--requests 400] [--rate 12] [--only WORD]

The API of examples/fastapi_app, three times in one server; each client asks the three in turn, so whatever else the
machine does meets them alike.  The model answers at once: what is left is what the API itself takes.  The collector
answers after 40 ms and up to 20 more, and in another run after 5 ms and up to 2 more.  A worker does the jobs.
Fails when outside is not at most half of before, at 40 ms, in p50 and p95.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import permutations
from pathlib import Path

import httpx

from actors.database import migrations
from cli.demo.posthog import KEY
from examples.fastapi_app.standins import FarPostHog, Model
from ledger.migrate import Migrations
from tests.program import Program, environment, hareline
from tests.servers import Postgres, RabbitMQ

VERSIONS = ("before", "dual", "after")
CLIENTS = 2
#: Seconds that the collector takes, and up to so much on top.
COLLECTORS = {"40 ms": (0.040, 0.020), "5 ms": (0.005, 0.002)}
HALF = 0.5

Times = dict[str, list[float]]


@contextmanager
def roads(only: str) -> Iterator[Iterator[tuple[str, dict[str, str]]]]:
    """Name and settings of each road, on servers of its own."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="hareline-bench-") as folder:

        def each() -> Iterator[tuple[str, dict[str, str]]]:
            if only in "SQLite":
                yield "SQLite", {"DATABASE_URL": f"sqlite:///{folder}/{time.monotonic_ns()}.db"}
            if only in "RabbitMQ and PostgreSQL":
                rabbitmq, postgres = RabbitMQ(), Postgres()
                stack.callback(rabbitmq.remove)
                stack.callback(postgres.remove)
                rabbitmq.start()
                postgres.start()
                url = postgres.create_database()
                Migrations(url).upgrade()
                migrations(url).upgrade()
                yield "RabbitMQ and PostgreSQL", {"DATABASE_URL": url, "BROKER_URL": rabbitmq.new_vhost()}

        yield each()


def measure(settings: dict[str, str], latency: tuple[float, float], requests: int, rate: float) -> Times:
    """Milliseconds of each request of each version."""
    with (
        Model() as model,
        FarPostHog(*latency) as posthog,
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        outside = {"OPENAI_BASE_URL": model.url, "POSTHOG_URL": posthog.url, "POSTHOG_API_KEY": KEY}
        env = environment(**settings, **outside, HARELINE_LOG_LEVEL="WARNING")
        command = [sys.executable, "-m", "benchmarks.on_request_path"]
        server = stack.enter_context(Program(command, Path(folder), env))
        [line] = server.wait("port ")
        stack.enter_context(Program(hareline("worker", "-p", "1"), Path(folder), env))
        url = f"http://127.0.0.1:{line.split()[-1]}"
        wait_for(url)
        took: Times = {version: [] for version in VERSIONS}
        threads = [
            threading.Thread(target=ask, args=(url, number, requests // CLIENTS, rate / CLIENTS, took))
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return took


def wait_for(url: str) -> None:
    """Until it has answered each version a few times: what is made at first use is made."""
    deadline = time.monotonic() + 60
    for version in VERSIONS * 5:
        while True:
            try:
                httpx.post(f"{url}/{version}/chat", json=asked(0), timeout=30).raise_for_status()
                break
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def ask(url: str, client: int, requests: int, rate: float, took: Times) -> None:
    """Ask each version so often, in every order in turn, ``rate`` requests a second."""
    orders = list(permutations(VERSIONS))
    began = time.monotonic()
    with httpx.Client(timeout=30) as http:
        for number in range(requests):
            time.sleep(max(0.0, began + number * len(VERSIONS) / rate - time.monotonic()))
            for version in orders[(number + client) % len(orders)]:
                start = time.perf_counter()
                http.post(f"{url}/{version}/chat", json=asked(number)).raise_for_status()
                took[version].append((time.perf_counter() - start) * 1000)


def asked(number: int) -> dict[str, str]:
    return {"customer": f"customer-{number % 50}", "user": f"user-{number}", "prompt": "Hello", "model": "gpt-4o"}


def figures(took: Times) -> dict[str, dict[str, float]]:
    found = {}
    for version, times in took.items():
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        found[version] = {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1)}
    return found


def main(arguments: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog="python -m benchmarks.request_path")
    options.add_argument("--requests", type=int, default=400, help="of each version")
    options.add_argument("--rate", type=float, default=12, help="requests a second, of all versions together")
    options.add_argument("--only", default="", help="the road with this in its name")
    chosen = options.parse_args(arguments)
    failed = 0
    with roads(chosen.only) as each:
        for road, settings in each:
            for collector, latency in COLLECTORS.items():
                found = figures(measure(settings, latency, chosen.requests, chosen.rate))
                ratios = {p: round(found["after"][p] / found["before"][p], 2) for p in ("p50", "p95")}
                over = collector == "40 ms" and max(ratios.values()) > HALF
                failed += over
                told = {"road": road, "collector": collector, **found, "after / before": ratios}
                print(json.dumps(told) + ("  <-- more than half" if over else ""), flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
