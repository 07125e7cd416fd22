"""Jobs of the chain are killed in the middle of a question to the server, and what follows them makes it whole."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import func, select

from actors.database import migrations
from actors.tables import chain_deployments, chain_matches
from ledger.engine import Database
from tests.chain import KEY, TOPIC, ChainServer
from tests.program import ROOT, environment

pytestmark = [pytest.mark.prove, pytest.mark.timeout(300)]

PATIENCE_S = 120


@pytest.fixture(scope="module")
def running() -> Iterator[ChainServer]:
    with ChainServer() as server:
        yield server


@pytest.fixture
def env(running: ChainServer, sqlite_url: str) -> Iterator[dict[str, str]]:
    restore = running.branch()
    migrations(sqlite_url).upgrade()
    yield environment(
        DATABASE_URL=sqlite_url,
        HARELINE_CHAIN_RPC_URL=running.url,
        HARELINE_CHAIN_TOPICS=TOPIC,
        HARELINE_CHAIN_START_BLOCK="0",
        HARELINE_CHAIN_BATCH_BLOCKS="3",
        HARELINE_CHAIN_REORG_DEPTH="1",
        HARELINE_CHAIN_WEBHOOK_URL="https://customer.example/chain",
        HARELINE_CHAIN_DEPLOYER_KEY=KEY,
        HARELINE_LOG_LEVEL="ERROR",
    )
    restore()
    running.reset()


def started(job: str, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", f"from actors.chain import {job}; {job}.fn()"], cwd=ROOT, env=env)


def ended(job: str, env: dict[str, str]) -> int:
    with started(job, env) as process:
        return process.wait()


def killed_at(method: str, nth: int, job: str, server: ChainServer, env: dict[str, str]) -> None:
    """Run a job's code in a process that is killed while it waits for its nth answer of this method."""
    reached, released, usual = threading.Event(), threading.Event(), server.answer

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked = json.loads(request.body)["method"]  # type: ignore[attr-defined]
        if asked == method and server.methods.count(method) == nth:
            reached.set()
            released.wait(PATIENCE_S)
            request.close_connection = True
        else:
            usual(request)

    server.answer = answer
    with started(job, env) as process:
        try:
            assert reached.wait(PATIENCE_S)
        finally:
            process.kill()
            released.set()
    server.answer = usual


def test_a_watcher_that_is_killed_has_told_each_log_once(running: ChainServer, env: dict[str, str]) -> None:
    for value in range(12):
        running.tell(value)
    killed_at("eth_getLogs", 3, "watch_chain", running, env)
    database = Database(env["DATABASE_URL"])
    with database.read() as connection:
        first = connection.scalar(select(func.count()).select_from(chain_matches))
    assert first in range(1, 12), "it was in the middle"

    assert ended("watch_chain", env) == 0
    with database.read() as connection:
        assert connection.scalar(select(func.count()).select_from(chain_matches)) == 12
        told = connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar()
    database.close()
    assert told == 12


def test_a_deployment_that_is_killed_after_it_was_sent_is_found(running: ChainServer, env: dict[str, str]) -> None:
    height = running.height
    killed_at("eth_getTransactionReceipt", 1, "deploy_multicall3", running, env)
    assert running.height == height + 1

    assert ended("deploy_multicall3", env) == 0
    assert running.height == height + 1
    assert running.methods.count("eth_sendRawTransaction") == 1
    database = Database(env["DATABASE_URL"])
    with database.read() as connection:
        assert connection.scalar(select(chain_deployments.c.proved_at)) is not None
    database.close()


def test_a_deployment_that_is_killed_before_its_answer_is_sent_again_as_it_was(
    running: ChainServer, env: dict[str, str]
) -> None:
    height = running.height
    killed_at("eth_sendRawTransaction", 1, "deploy_multicall3", running, env)
    assert ended("deploy_multicall3", env) == 0
    assert running.height == height + 1
    sent = {str(asked["params"]) for _, asked in running.requests if asked["method"] == "eth_sendRawTransaction"}
    assert len(sent) == 1
