"""The console as a process: where it is, what it answers, how it ends."""

import re
import signal
import threading
from pathlib import Path

import httpx
import pytest

from tests.program import Program, environment, hareline


def address(program: Program) -> str:
    """Where it answers: it has said so."""
    [line] = program.wait("console at http://")
    found = re.search(r"http://\S+", line)
    assert found
    return found[0]


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    return environment(
        DATABASE_URL=sqlite_url,
        HARELINE_CONSOLE_PORT="0",
        HARELINE_CONSOLE_PREFIX="/ops",
        HARELINE_CONSOLE_INSECURE_LOCAL="true",
    )


def test_it_says_where_it_answers_nudges_who_looks_on_and_ends_in_good_order_with_streams_open(
    tmp_path: Path, env: dict[str, str]
) -> None:
    with Program(hareline("console"), tmp_path, env) as program:
        url = address(program) + "api/v1"
        ended = threading.Event()
        with httpx.Client(timeout=60.0) as client:
            assert client.get(f"{url}/ready").json() == {"ready": True}
            with client.stream("GET", f"{url}/events?topics=jobs") as stream:
                assert stream.headers["x-accel-buffering"] == "no"
                lines = stream.iter_lines()
                assert next(lines) == "retry: 2000"
                heard: list[str] = []

                def listen() -> None:
                    heard.extend(line for line in lines if line.startswith("event:"))
                    ended.set()

                threading.Thread(target=listen, daemon=True).start()
                while not heard:
                    sent = httpx.post(f"{url}/jobs", json={"actor": "calculate_costs", "args": ["r1"]}, timeout=60)
                    assert sent.status_code == 201, sent.text
                    if ended.wait(0.5):
                        break
                assert program.stop(signal.SIGTERM) == 0
                assert ended.wait(10)
        assert set(heard) == {"event: jobs"}


def test_dev_runs_it_too_and_prints_its_address(tmp_path: Path, env: dict[str, str]) -> None:
    with Program(hareline("dev", "--no-reload"), tmp_path, env) as program:
        assert httpx.get(address(program) + "api/v1/ready", timeout=60).status_code == 200
        assert program.stop(signal.SIGINT) == 0


def test_a_port_that_is_taken_is_said_in_a_line(tmp_path: Path, env: dict[str, str]) -> None:
    with Program(hareline("console"), tmp_path, env) as first:
        port = address(first).split(":")[2].split("/")[0]
        with Program(hareline("console", "--port", port), tmp_path, env) as second:
            assert second.process.wait(60) == 2
            [line] = second.wait("cannot listen at 127.0.0.1")
            assert "HARELINE_CONSOLE_PORT" in line


@pytest.mark.prove
@pytest.mark.parametrize("step", ["repeat.before_commit", "repeat.committed"])
def test_a_request_whose_answer_was_lost_with_the_process_is_done_once(
    tmp_path: Path, env: dict[str, str], step: str
) -> None:
    def send(program: Program) -> httpx.Response:
        send = {"actor": "calculate_costs", "args": ["r1"]}
        return httpx.post(f"{address(program)}api/v1/jobs", json=send, headers={"Idempotency-Key": "r1"}, timeout=60)

    with Program(hareline("console"), tmp_path, env | {"HARELINE_FAILPOINTS": f"{step}=kill"}) as program:
        with pytest.raises(httpx.TransportError):
            send(program)
        assert program.process.wait(30) == -signal.SIGKILL
    with Program(hareline("console"), tmp_path, env) as program:
        first, again = send(program), send(program)
        assert (first.status_code, again.text) == (201, first.text)
        assert ("idempotent-replay" in first.headers) is (step == "repeat.committed")
        count = httpx.get(f"{address(program)}api/v1/jobs/count", timeout=60).json()
        assert count["all"]["count"] == 1
