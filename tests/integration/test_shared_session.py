"""One session for many threads, whose connection the database may close while nobody uses it (PostgreSQL)."""

import psycopg
import pytest

from errors import LedgerUnavailable
from ledger import open_ledger
from ledger.ledger import Session
from ledger.shared import SharedSession


def test_what_may_not_be_done_twice_is_done_once_although_its_idle_connection_was_closed(postgres_url: str) -> None:
    shared = SharedSession(open_ledger(postgres_url, road="embedded"), "shared-here")
    shared.once(lambda session: session.clock())
    with psycopg.connect(postgres_url, autocommit=True) as other:
        ended = other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
            ("hareline shared-here",),
        )
        assert ended.fetchall() == [(True,)]
    called: list[Session] = []

    def work(session: Session) -> float | None:
        called.append(session)
        return session.next_due_s()

    assert shared.once(work) is None
    assert len(called) == 1
    shared.close()


def test_what_may_not_be_done_twice_is_not_when_its_answer_is_lost(postgres_url: str) -> None:
    shared = SharedSession(open_ledger(postgres_url, road="embedded"), "shared-here")
    called: list[Session] = []

    def work(session: Session) -> None:
        called.append(session)
        raise LedgerUnavailable("server closed the connection unexpectedly")

    with pytest.raises(LedgerUnavailable):
        shared.once(work)
    assert len(called) == 1
    with pytest.raises(LedgerUnavailable):
        shared.call(work)
    assert len(called) == 3
    shared.close()
