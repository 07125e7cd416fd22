"""Keys are rotated: whatever rests is brought under the first one, once, whatever else goes on."""

import base64
import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from sqlalchemy import update

from broker import build
from broker.broker import Broker
from control.jobs import retry
from control.keys import rotate
from control.transaction import Control
from errors import Refusal, Undecipherable
from ledger.archived import rotate_files
from ledger.queries import Queries
from ledger.records import Finish, Keep
from ledger.sealing import KeyRing, key_ids
from ledger.states import Outcome
from ledger.tables import payloads
from settings import Settings, keys_of

OLD, NEW = (f"{id}:{base64.b64encode(bytes([number]) * 32).decode()}" for number, id in ((1, "old"), (2, "new")))


def broker_with(url: str, keys: str) -> Broker:
    return build(Settings(database_url=url, keys=keys))  # type: ignore[arg-type]


def actors(broker: Broker) -> dramatiq.Actor[[str], str]:
    @dramatiq.actor(broker=broker, actor_name="whisper", sensitive=True, store_results=True)
    def whisper(text: str) -> str:
        return text

    return whisper


@pytest.fixture
def control(database_url: str) -> Iterator[Control]:
    found = Control(database_url, "embedded")
    yield found
    found.close()


@pytest.fixture
def queries(database_url: str) -> Iterator[Queries]:
    found = Queries(database_url)
    leave(database_url)
    yield found
    found.close()


def leave(url: str) -> None:
    """Six jobs under the old key: one completed, one failed, one in history, three waiting."""
    broker = broker_with(url, OLD)
    whisper = actors(broker)
    for n in range(6):
        whisper.send(f"text {n}")
    session = broker.ledger.session("test")
    worker = session.join(host="here", pid=1, queues=["default"], threads=1, version="test")
    one, two, three = session.take(worker, {"default": 3})
    ring = broker.ring
    session.checkpoint(one.id, one.epoch, ring.seal(b"[1]", ("checkpoint", one.id)).encode())
    session.progress([(one.id, 1.0, None, ring.seal(b"a note", ("note", one.id)))])
    seal = ring.seal(b'"TEXT"', ("result", one.id)).encode()
    session.finish(worker, [Finish(one.id, one.epoch, Outcome.COMPLETED, result=seal, result_ttl_ms=3_600_000)])
    error = ring.seal(b"no luck", ("error", two.id))
    session.finish(worker, [Finish(two.id, two.epoch, Outcome.FAILED, error_type="E", error_message=error)])
    session.finish(worker, [Finish(three.id, three.epoch, Outcome.CANCELLED)])
    session.retain({}, Keep(completed=0, completed_s=0, failed=9, failed_s=9e9), history_s=9e9)
    session.close()
    broker.close()


def test_everything_that_rests_is_brought_under_the_first_key(
    database_url: str, queries: Queries, control: Control
) -> None:
    before = queries.keys()
    assert {table: rows["old"] for table, rows in before.items()} == {
        "payloads": 5,
        "history": 1,  # of the one that completed, nobody has read the result
        **dict.fromkeys(("results", "checkpoints", "progress", "attempts"), 1),
    }
    done = rotate(control, KeyRing(keys_of(f"{NEW},{OLD}")), by="test", batch=2)
    assert (done.under, done.rows.total(), done.left.total()) == ("new", 10, 0)
    after = queries.keys()
    assert {table: dict(rows) for table, rows in after.items() if rows} == {
        table: {"new": rows["old"]} for table, rows in before.items() if rows
    }
    newest = broker_with(database_url, NEW)
    actors(newest)
    for row in queries.jobs():
        view = queries.job(row.id, ring=newest.ring)
        assert view is not None
        opened, _ = newest.encryption.opened(dramatiq.Message.decode(view.body))
        assert str(opened.args[0]).startswith("text ")
        assert [attempt.error_message for attempt in view.attempts if attempt.error_message] in ([], ["no luck"])
    assert rotate(control, newest.ring, by="test").rows.total() == 0
    newest.close()


def test_a_rotation_that_was_stopped_goes_on(queries: Queries, control: Control) -> None:

    class StoppedError(Exception):
        pass

    def stop(_: object) -> None:
        raise StoppedError

    ring = KeyRing(keys_of(f"{NEW},{OLD}"))
    with pytest.raises(StoppedError):
        rotate(control, ring, by="test", batch=3, told=stop)
    assert queries.keys()["payloads"] == {"old": 2, "new": 3}
    assert rotate(control, ring, by="test").rows.total() == 7
    assert rotate(control, ring, by="test").rows.total() == 0


def test_what_was_changed_or_moved_does_not_open_and_is_left_and_counted(
    database_url: str, queries: Queries, control: Control
) -> None:
    one, two, *_ = (row.id for row in queries.jobs(state="waiting"))
    other = queries.job(two)
    assert other is not None
    broker = broker_with(database_url, OLD)
    actors(broker)
    moved = json.loads(other.body) | {"message_id": "another"}
    with pytest.raises(Refusal, match="belongs to another message, actor or argument"):
        broker.encryption.opened(dramatiq.Message.decode(json.dumps(moved).encode()))
    spoilt = json.dumps(moved).encode()
    control.run(
        lambda tx: tx.connection.execute(update(payloads).where(payloads.c.job_id == one).values(body=spoilt)), by=""
    )
    done = rotate(control, KeyRing(keys_of(f"{NEW},{OLD}")), by="test")
    assert (done.rows["payloads"], done.left["payloads"]) == (4, 1)
    broker.close()


def test_the_files_of_old_history_are_written_anew(tmp_path: Path) -> None:
    ring, newer = KeyRing(keys_of(OLD)), KeyRing(keys_of(f"{NEW},{OLD}"))
    bound = ("message", "whisper", "m", "[]")
    message = {"actor_name": "whisper", "message_id": "m", "args": [ring.seal(b"{}", bound)], "kwargs": {}}
    body = json.dumps(message | {"options": {"sealed": "all"}})
    job = {"id": "1", "body": body, "attempts": [{"error_message": ring.seal(b"no", ("error", "1"))}]}
    path, busy, damaged = (tmp_path / f"history-{n}.jsonl.gz" for n in range(3))
    for file in (path, busy):
        file.write_bytes(gzip.compress(json.dumps(job).encode() + b"\n") * 2)
    damaged.write_bytes(path.read_bytes()[:-9])
    long_ago = time.time() - 7_200
    for file in (path, damaged):
        os.utime(file, (long_ago, long_ago))
    assert rotate_files(tmp_path, newer) == (1, [busy, damaged])
    assert key_ids(gzip.decompress(path.read_bytes()).decode()) == {"new"}
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == 2
    assert rotate_files(tmp_path, newer) == (0, [busy, damaged])


def test_a_result_is_read_with_the_key_and_not_without(sqlite_url: str) -> None:
    leave(sqlite_url)
    queries = Queries(sqlite_url)
    [done] = queries.jobs(state="completed")
    queries.close()
    message: dramatiq.Message[str] = dramatiq.Message("default", "whisper", (), {}, {}, message_id=done.message_id)
    reader, stranger = broker_with(sqlite_url, OLD), broker_with(sqlite_url, NEW)
    for broker in (reader, stranger):
        actors(broker)
    assert reader.get_results_backend().get_result(message) == "TEXT"
    with pytest.raises(Undecipherable, match=r"under the key 'old', which is not in HARELINE_KEYS here \(new\)"):
        stranger.get_results_backend().get_result(message)
    reader.close()
    stranger.close()


def test_retried_from_history_a_job_has_its_envelope(queries: Queries, control: Control) -> None:
    [cancelled] = queries.jobs(state="cancelled")
    rotate(control, KeyRing(keys_of(f"{NEW},{OLD}")), by="test")
    retry(control, cancelled.id, by="test")
    view = queries.job(cancelled.id)
    assert view is not None
    assert key_ids(view.body.decode()) == {"new"}
