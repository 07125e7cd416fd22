"""One figure of one system."""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import ran
from benchmarks.contestants import Contestant

TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """Runs producers and workers of a system against this run's servers."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.records = folder / "records"
        self.records.mkdir(parents=True)
        self.log = folder / "workers.log"
        self.env = {**os.environ, **env, ran.FOLDER: str(self.records)}

    def feed(self, system: Contestant, kind: str, count: int, mode: str, rate: float = 0.0) -> dict[str, float]:
        """Send ``count`` jobs; {"rate": jobs/s, "cpu_us": CPU of the producer per job}."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.feed",
            system.module,
            kind,
            str(count),
            mode,
            *([str(rate)] if rate else []),
        ]
        done = subprocess.run(command, env={**self.env, **system.env}, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
        figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return figures

    @contextmanager
    def worker(self, system: Contestant) -> Iterator[int]:
        """A worker; yields its process group."""
        for file in self.records.iterdir():
            file.unlink()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                system.worker, env={**self.env, **system.env}, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def wait(self, count: int, timeout_s: float = 180.0) -> None:
        deadline = time.monotonic() + timeout_s
        while ran.count(self.records) < count:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"only {ran.count(self.records)} of {count} jobs ran in {timeout_s} s; see {self.log}"
                )
            time.sleep(0.01)

    def drain(self, system: Contestant, kind: str, count: int) -> dict[str, float]:
        """Empty a full queue: {"rate": jobs/s from the first to the last, "cpu_us": worker CPU per job}."""
        self.feed(system, kind, count, "bulk")
        with self.worker(system) as group:
            self.wait(count // 10)
            begun, cpu = ran.count(self.records), cpu_s(group)
            self.wait(count)
            ended, cpu = ran.count(self.records), cpu_s(group) - cpu
        times = sorted(when for when, _ in ran.read(self.records))
        return {"rate": (len(times) - 1) / (times[-1] - times[0]), "cpu_us": cpu / max(1, ended - begun) * 1e6}

    def latency(self, system: Contestant, rate: float, seconds: float) -> dict[str, float]:
        """From just before send() to the first line of the actor, in ms, at a steady rate, first second left out."""
        with self.worker(system):
            self.feed(system, "noop", 50, "one")  # warm
            self.wait(50)
            count = int(rate * seconds)
            self.feed(system, "noop", count, "paced", rate)
            self.wait(50 + count)
        rows = sorted((sent, (when - sent) * 1000) for when, sent in ran.read(self.records) if sent)
        late = [ms for _, ms in rows[50 + int(rate) :]]
        cuts = statistics.quantiles(late, n=100, method="inclusive")
        return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def cpu_s(group: int) -> float:
    """User and system time of a process group so far."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended
        if int(fields[2]) == group:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS
