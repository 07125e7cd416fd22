"""A chain is watched: what is told, once, and what becomes of it when the chain changes its mind."""

from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from sqlalchemy import select

from actors import blocks
from actors.blocks import Match
from actors.chain import WrongChain, event_of, telling, watch_chain
from actors.database import database
from actors.ethereum import TooMany, rpc
from actors.outside import NotConfigured, Refused, Unavailable
from actors.tables import chain_blocks, chain_matches
from actors.webhooks import deliver_webhook
from errors import InvalidPayload, RateLimited, Retry, SettingsError
from hareline_testing import Hareline
from ledger.states import State
from settings import load, topics_of
from tests.chain import OTHER_TOPIC, TOPIC, ChainServer
from tests.scripted import cut_mid_body, respond, status

pytestmark = pytest.mark.one_database

Seen = list[dict[str, Any]]


@pytest.fixture
def node(chain: ChainServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChainServer]:
    """The chain as it was begun, and the settings that name it."""
    restore = chain.branch()
    monkeypatch.setenv("HARELINE_CHAIN_RPC_URL", f"{chain.url}/v3/its-key")
    monkeypatch.setenv("HARELINE_CHAIN_ADDRESSES", chain.teller)
    monkeypatch.setenv("HARELINE_CHAIN_TOPICS", TOPIC)
    monkeypatch.setenv("HARELINE_CHAIN_REORG_DEPTH", "4")
    monkeypatch.setenv("HARELINE_CHAIN_START_BLOCK", "0")
    yield chain
    restore()
    chain.reset()


@pytest.fixture
def seen(kit: Hareline, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the actor of the settings was told."""
    told: Seen = []

    @dramatiq.actor(broker=kit.broker, queue_name="default", actor_name="on_log")
    def on_log(match: Match) -> None:
        told.append({"value": int(match.data or "0", 16), "removed": match.removed, "revision": match.revision})

    monkeypatch.setenv("HARELINE_CHAIN_ACTOR", "on_log")
    return told


def found(value: int, revision: int = 0) -> dict[str, Any]:
    return {"value": value, "removed": revision % 2 == 1, "revision": revision}


def stored() -> list[tuple[int, str, str]]:
    b = chain_blocks.c
    with database().read() as connection:
        rows = connection.execute(select(b.number, b.hash, b.parent).order_by(b.number))
        return [(row.number, row.hash, row.parent) for row in rows]


def test_a_log_is_told_once_and_the_last_blocks_are_remembered(kit: Hareline, node: ChainServer, seen: Seen) -> None:
    node.tell(1)
    node.tell(7, topic=OTHER_TOPIC)
    node.mine(3)
    node.tell(2)
    for _ in range(2):
        watch_chain.send()
        kit.drain()

    assert seen == [found(1), found(2)]
    at = blocks.cursor(node.id)
    assert at is not None
    assert (at.number, at.hash) == (node.height, node.hash(node.height))
    last = range(node.height - 4, node.height + 1)
    assert [(number, hash) for number, hash, _ in stored()] == [(n, node.hash(n)) for n in last]
    assert [parent for *_, parent in stored()] == [node.hash(n - 1) for n in last]


def test_a_match_is_posted_as_a_webhook(kit: Hareline, node: ChainServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARELINE_CHAIN_WEBHOOK_URL", "https://customer.example/chain")
    node.tell(5)
    watch_chain.send()
    kit.drain("chain")

    [sent] = kit.assert_enqueued(deliver_webhook)
    assert sent.message is not None
    url, event = sent.message["args"]
    assert url == "https://customer.example/chain"
    assert event["id"] == f"chain:{node.id}:{node.hash(node.height)}:0:0"
    assert (event["type"], event["data"]["address"]) == ("chain.log", node.teller.lower())


def test_a_block_waits_for_its_confirmations(
    kit: Hareline, node: ChainServer, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARELINE_CHAIN_CONFIRMATIONS", "2")
    node.tell(1)
    node.mine()
    watch_chain.send()
    kit.drain()
    assert seen == []

    node.mine()
    watch_chain.send()
    kit.drain()
    assert seen == [found(1)]


def test_what_has_left_the_chain_is_taken_back_and_told_anew_when_it_returns(
    kit: Hareline, node: ChainServer, seen: Seen
) -> None:
    def look() -> Seen:
        watch_chain.send()
        kit.drain()
        told = seen.copy()
        seen.clear()
        return sorted(told, key=str)

    node.tell(1)
    fork = node.branch()
    node.tell(2)
    node.tell(3)
    here = node.branch()
    assert look() == [found(1), found(2), found(3)]

    fork()
    node.mine(2, miner=1)
    node.tell(4)
    assert look() == sorted([found(2, 1), found(3, 1), found(4)], key=str)
    assert blocks.count(node.id) == 2

    fork()
    node.mine(1, miner=1)  # shorter than what was seen
    assert look() == [found(4, 1)]

    here()
    assert look() == [found(2, 2), found(3, 2)]
    assert blocks.count(node.id) == 3
    assert look() == []


def test_a_deeper_reorganisation_is_one_dead_letter_and_a_person_says_where_to_go_on(
    kit: Hareline, node: ChainServer, seen: Seen
) -> None:
    fork = node.branch()
    for value in range(6):
        node.tell(value)
    watch_chain.send()
    kit.drain()
    kept = stored()[0]
    seen.clear()
    fork()
    node.mine(5, miner=1)
    node.tell(9)

    dead = watch_chain.send()
    job = kit.wait_for(dead, raises=False)
    assert job.state is State.FAILED
    said = job.attempts[-1].error_message or ""
    assert kept[1] in said
    assert node.hash(kept[0]) in said
    assert "watch_chain(from_block=N)" in said
    assert seen == []

    waits = watch_chain.send()
    kit.drain("chain")
    assert kit.job(waits).state is State.DELAYED, "one dead letter is enough"

    watch_chain.send(2)
    kit.drain()
    assert sorted(seen, key=str) == sorted([*(found(value, 1) for value in range(6)), found(9)], key=str)
    assert kit.wait_for(waits).state is State.COMPLETED


def test_looking_again_from_a_block_on_tells_nothing_twice(kit: Hareline, node: ChainServer, seen: Seen) -> None:
    for value in range(6):
        node.tell(value)
    for from_block in (None, 0, 3, None):
        watch_chain.send(from_block)
        kit.drain()

    assert seen == [found(value) for value in range(6)]


def test_a_range_that_is_too_large_is_halved(kit: Hareline, node: ChainServer, seen: Seen) -> None:
    for value in range(3):
        node.tell(value)
        node.mine(4)
    node.most_blocks = 3
    sent = watch_chain.send()
    kit.drain()

    assert seen == [found(0), found(1), found(2)]
    progress = kit.job(sent).progress
    assert progress is not None
    assert (progress.done, progress.total) == (node.height + 1, node.height + 1)
    assert progress.note == f"block {node.height}"
    assert "eth_getFilterLogs" not in node.methods


def test_one_block_with_more_than_the_server_gives_is_named(actors_here: Any, node: ChainServer) -> None:
    node.mine(8)
    node.most_blocks = 0
    with pytest.raises(TooMany, match="block range is too large"):
        watch_chain.fn()


def test_a_server_without_get_logs_is_asked_by_filters_and_a_lost_one_is_made_anew(
    kit: Hareline, node: ChainServer, seen: Seen
) -> None:
    node.absent = {"eth_getLogs"}
    node.errors["eth_getFilterLogs"] = [{"code": -32000, "message": "filter not found"}] * 2
    for value in range(6):
        node.tell(value)
    watch_chain.send()
    kit.drain()

    assert seen == [found(value) for value in range(6)]
    assert node.methods.count("eth_newFilter") == node.methods.count("eth_uninstallFilter") + 2
    assert node.methods.count("eth_getLogs") == 1


def rpc_error(code: int, message: str, http: int = 200) -> Any:
    return respond(http, {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (status(429, Retry_After="7"), RateLimited, "429"),
        (status(503, Retry_After="7"), Retry, "503"),
        (status(500), Unavailable, "500"),
        (cut_mid_body, Unavailable, "cannot be reached"),
        (status(401), Refused, "HARELINE_CHAIN_RPC_URL"),
        (respond(200, ["no", "JSON-RPC"]), Unavailable, "no JSON-RPC"),
        (respond(200, {"jsonrpc": "2.0", "id": 1, "result": "one"}), Unavailable, "another shape"),
        (respond(200, {"jsonrpc": "2.0", "id": 1}), Unavailable, "another shape"),
        (rpc_error(-32005, "daily request count exceeded"), RateLimited, "daily request"),
        (rpc_error(-32000, "header not found"), Unavailable, "header not found"),
        (rpc_error(-32603, "internal error"), Unavailable, "internal"),
        (rpc_error(-32602, "missing value", http=400), Refused, "missing value"),
        (rpc_error(-32601, "no such method"), Refused, "no such method"),
    ],
)
def test_each_answer_means_what_it_says(
    actors_here: Any, node: ChainServer, answer: Any, kind: type[Exception], words: str
) -> None:
    node.script = [answer]
    with pytest.raises(kind, match=words) as caught:
        watch_chain.fn()
    assert "its-key" not in str(caught.value)

    watch_chain.fn()
    assert blocks.cursor(node.id) is not None


def test_a_server_that_is_away_for_a_while_costs_nothing(kit: Hareline, node: ChainServer, seen: Seen) -> None:
    node.tell(1)
    node.script = [status(502), cut_mid_body, status(429, Retry_After="30")]
    job = kit.wait_for(watch_chain.send(), raises=False)

    assert (job.state, job.attempts_spent) == (State.COMPLETED, 3)
    kit.drain()
    assert seen == [found(1)]


def test_another_chain_than_is_expected_is_refused_by_its_name(
    actors_here: Any, node: ChainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARELINE_CHAIN_ID", "1")
    with pytest.raises(WrongChain, match=rf"of chain {node.id}, and HARELINE_CHAIN_ID says 1 \(Ethereum\)"):
        watch_chain.fn()
    monkeypatch.delenv("HARELINE_CHAIN_ID")
    watch_chain.fn()
    node.id, before = 137, node.id
    with pytest.raises(WrongChain, match=rf"of chain 137 \(Polygon\), and what is stored is of {before}"):
        watch_chain.fn()


def test_without_a_server_nothing_is_watched(kit: Hareline) -> None:
    with pytest.raises(NotConfigured, match="HARELINE_CHAIN_RPC_URL is not set"):
        watch_chain.fn()


def test_a_server_that_is_behind_is_waited_for(actors_here: Any, node: ChainServer) -> None:
    behind = node.branch()
    node.mine(2)
    watch_chain.fn()
    at = blocks.cursor(node.id)
    behind()
    watch_chain.fn()
    assert blocks.cursor(node.id) == at, "it is at a block that is known"


def test_of_two_watchers_one_gets_on(actors_here: Any, node: ChainServer) -> None:
    watch_chain.fn()
    at = blocks.cursor(node.id)
    assert at is not None
    node.tell(1)
    told: list[Match] = []
    head = rpc().head()
    [one] = rpc().logs_of(head, {})

    def advance() -> None:
        blocks.advance(at, [head], [one], depth=4, tell=lambda _, matches: told.extend(matches))

    advance()
    with pytest.raises(Retry, match="another watcher"):
        advance()
    assert len(told) == 1


def test_what_cannot_be_told_is_not_passed(
    kit: Hareline, node: ChainServer, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_chain.fn()
    at = blocks.cursor(node.id)

    @dramatiq.actor(broker=kit.broker, queue_name="default", actor_name="other")
    def other(number: int) -> None: ...

    monkeypatch.setenv("HARELINE_CHAIN_ACTOR", "other")
    node.tell(1)
    with pytest.raises(InvalidPayload):
        watch_chain.fn()
    assert blocks.cursor(node.id) == at
    assert blocks.count(node.id) == 0

    monkeypatch.setenv("HARELINE_CHAIN_ACTOR", "on_log")
    watch_chain.fn()
    kit.drain()
    assert seen == [found(1)]


def test_data_too_long_for_a_message_is_left_to_the_table(
    kit: Hareline, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    hash = "0x" + "ab" * 32
    names = {"block_hash": hash, "transaction_hash": hash, "address": "0x" + "cd" * 20}
    with database().write() as connection:
        row = {"chain": 1, "number": 1, "log_index": 0, "topics": [], "removed": False, "revision": 0, **names}
        now = database().time(connection)
        connection.execute(chain_matches.insert().values(**row, data="0x" + "00" * 100_000, found_at=now))
        match = Match(**connection.execute(select(chain_matches)).one()._mapping)
        telling(load())(connection, [match])
    kit.drain()
    assert seen == [found(0)]
    assert len(event_of(match).id) < 200


def test_settings_that_fit_no_log_are_refused() -> None:
    assert topics_of(f"{TOPIC}|{OTHER_TOPIC} * {TOPIC}") == [[TOPIC, OTHER_TOPIC], None, [TOPIC]]
    wrong = {
        "HARELINE_CHAIN_TOPICS": ["0x11", "* * * * *"],
        "HARELINE_CHAIN_ADDRESSES": ["ca11", TOPIC],
        "HARELINE_CHAIN_RPC_URL": ["ws://node"],
        "HARELINE_CHAIN_DEPLOYER_KEY": ["0x1234"],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(SettingsError, match=name) as caught:
                load({name: value})
            assert "1234" not in str(caught.value)
    assert "its-key" not in repr(load({"HARELINE_CHAIN_RPC_URL": "https://node.example/its-key"}))
