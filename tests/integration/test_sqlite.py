"""What is SQLite's alone: one file, several processes, a disk that fails."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger.sqlite.file
from errors import LedgerError, LedgerUnavailable, SettingsError
from ledger import open_ledger
from ledger.sqlite.prepare import filesystem_of
from ledger.sqlite.session import SqliteSession
from ledger.statements import statements
from tests.ledgers import join, new_job

ROOT = Path(__file__).parents[2]
SEND = """
import sys
from ledger import open_ledger
from tests.ledgers import new_job
session = open_ledger(sys.argv[1], road="embedded").session("child")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(50):
    session.enqueue([new_job()])
"""

HOLD = """
import sys
from pathlib import Path
from ledger.sqlite.turn import turn
with turn(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """No file yet, nor its directory."""
    return tmp_path / "deep" / "hareline.db"


@pytest.fixture
def session(path: Path) -> Iterator[SqliteSession]:
    session = open_ledger(f"sqlite:///{path}", road="embedded").session("test")
    assert isinstance(session, SqliteSession)
    yield session
    session.close()


def count(path: Path) -> int:
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(db.execute("SELECT count(*) FROM jobs").fetchone()[0])
    finally:
        db.close()


def test_the_first_use_creates_the_directory_the_file_and_the_schema(session: SqliteSession, path: Path) -> None:
    assert not path.parent.exists()
    session.enqueue([new_job()])
    assert count(path) == 1


def test_a_file_deleted_under_a_process_is_created_anew(session: SqliteSession, path: Path) -> None:
    session.enqueue([new_job()])
    session.close()
    for file in path.parent.iterdir():
        file.unlink()
    session.enqueue([new_job()])
    assert count(path) == 1


def test_processes_that_start_at_once_on_a_new_file_all_get_their_jobs_in(path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", SEND, f"sqlite:///{path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert count(path) == 200


def test_children_forked_while_threads_write_lose_nothing(session: SqliteSession, path: Path) -> None:
    url = f"sqlite:///{path}"
    session.enqueue([new_job()])
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        own = open_ledger(url, road="embedded").session("thread")
        done = 0
        while not stop.is_set():
            own.enqueue([new_job()])
            done += 1
        own.close()
        written.append(done)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(4):
        if (child := os.fork()) == 0:
            status = 1
            try:
                for _ in range(100):
                    session.enqueue([new_job()])
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    # The parent leaves first.  Had it left its locks to the children, it would now delete the WAL they write to.
    stop.set()
    for thread in threads:
        thread.join()
    session.close()
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    assert count(path) == 1 + sum(written) + 400


def test_two_workers_never_take_the_same_job(session: SqliteSession, path: Path) -> None:
    made = [new_job() for _ in range(300)]
    session.enqueue(made)
    taken: list[str] = []

    def work() -> None:
        own = open_ledger(f"sqlite:///{path}", road="embedded").session("worker")
        worker = join(own)
        while claims := own.take(worker, {"letters": 7}):
            taken.extend(claim.id for claim in claims)
        own.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [job.id for job in made]


def test_a_file_that_is_no_database_is_named(session: SqliteSession, path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(LedgerError, match=f"{re.escape(str(path))} is not a SQLite database; set DATABASE_URL"):
        session.enqueue([new_job()])
    assert path.read_text().startswith("Dear diary")


@pytest.mark.parametrize("place", ["/proc/hareline.db", "/proc/deep/hareline.db", "{file}/hareline.db"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    path = place.format(file=tmp_path / "file")
    session = open_ledger(f"sqlite:///{path}", road="embedded").session("test")
    with pytest.raises(LedgerUnavailable, match=re.escape(path)):
        session.enqueue([new_job()])


def test_a_ledger_held_by_someone_else_is_unavailable_until_it_is_let_go(
    session: SqliteSession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger.sqlite.file, "BUSY_S", 0.05)
    job = new_job()
    session.enqueue([job])
    browser = sqlite3.connect(path, isolation_level=None)
    browser.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match=rf"{re.escape(str(path))} .*locked.*another process"):
        session.enqueue([new_job()])
    assert session.next_due_s() is None  # a reader does not wait
    browser.execute("ROLLBACK")
    browser.close()
    session.enqueue([new_job()])
    assert count(path) == 2


@pytest.mark.parametrize("end", ["says so", "is killed"])
def test_who_writes_waits_for_its_turn_until_the_one_before_goes_on_or_is_killed(
    session: SqliteSession, path: Path, end: str
) -> None:
    session.enqueue([new_job()])
    before = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert before.stdout
    assert before.stdout.readline() == "ready\n"
    writer = threading.Thread(target=session.enqueue, args=([new_job()],))
    writer.start()
    writer.join(0.2)
    assert writer.is_alive()
    assert count(path) == 1
    if end == "is killed":
        before.kill()
    before.communicate("go\n" if end == "says so" else None)
    writer.join(30)
    assert count(path) == 2


def test_a_full_disk_records_nothing_and_says_so(session: SqliteSession, path: Path) -> None:
    session.enqueue([new_job()])
    db = session._connection._db
    assert db
    db.execute("PRAGMA max_page_count = 1")  # SQLite's own way to have a small disk: as many pages as there are now
    with pytest.raises(LedgerUnavailable, match=rf"{re.escape(str(path))} .*full; free some space"):
        session.enqueue([new_job(body=b"x" * 100_000)])
    assert count(path) == 1
    session.enqueue([new_job()])
    assert count(path) == 2


def test_an_error_inside_a_transaction_undoes_all_of_it(session: SqliteSession, path: Path) -> None:
    good, bad = new_job(), new_job(priority="\ud800")
    with pytest.raises(UnicodeEncodeError):
        session.enqueue([good, bad])
    session.enqueue([good])
    assert count(path) == 1


@pytest.mark.parametrize(("synchronous", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_synchronous_is_what_was_asked(path: Path, synchronous: str, level: int) -> None:
    session = open_ledger(f"sqlite:///{path}", road="embedded", synchronous=synchronous).session("test")
    assert isinstance(session, SqliteSession)
    session.enqueue([new_job()])
    db = session._connection._db
    assert db
    assert db.execute("PRAGMA synchronous").fetchone() == (level,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    session.close()


def test_settings_that_name_nothing_are_refused(path: Path) -> None:
    with pytest.raises(SettingsError, match="OFF"):
        open_ledger(f"sqlite:///{path}", road="embedded", synchronous="OFF")
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(SettingsError, match="names no file"):
            open_ledger(url, road="embedded")


def test_a_network_filesystem_is_recognised() -> None:
    mounts = (
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "40 22 0:35 / /mnt/with\\040space rw shared:20 - nfs4 server:/export rw\n"
        "41 40 254:1 / /mnt/with\\040space/local rw - xfs /dev/vdb rw\n"
    )
    kinds = [
        filesystem_of(Path(place), mounts)
        for place in ("/mnt", "/mnt/with space/a", "/mnt/with space/local/b", "/mnt2")
    ]
    assert kinds == ["ext4", "nfs4", "xfs", "ext4"]


HOT = [
    "known",
    "mark",
    "claim_look",
    "take_look",
    "any_ready_in",
    "activate",
    "drop_ticket",
    "finish_look",
    "ended_before",
    "end",
    "drop_claim",
    "owned_by",
    "due_unsent",
    "due_ready",
    "next_due",
    "wake",
    "ready",
    "stamp",
    "over_done",
    "over_dead",
]


@pytest.mark.parametrize("name", HOT)
def test_hot_statements_read_by_index_only(session: SqliteSession, path: Path, name: str) -> None:
    session.enqueue([new_job() for _ in range(1000)])
    statement = statements("sqlite")[name]
    places = max((int(n) for n in re.findall(r"\?(\d+)", statement)), default=statement.count("?"))
    db = sqlite3.connect(path)
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", ["[]"] * places)]
    db.close()
    assert plan
    tables = "jobs|j|tickets|t|payloads|p|claims|c|attempts|a|history|h|results"
    assert not [step for step in plan if re.match(rf"SCAN ({tables})\b", step)]
    if name in ("take_look", "due_unsent", "due_ready", "next_due"):
        assert not [step for step in plan if "TEMP B-TREE" in step]  # the index gives the order
