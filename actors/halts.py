"""Jobs that come every few seconds and fail in the same way each time: one dead letter says so, not thousands."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import select

from actors.database import database, put
from actors.tables import chain_halts
from errors import Failure, Snooze
from middleware.current import current_job_or_none

#: When it is tried again whether what was wrong is well.
AGAIN_MS = 60_000


@contextmanager
def halting(id: str) -> Iterator[None]:
    """What fails within is a dead letter once; the jobs that follow wait, and try again each minute, until it is well.

    The job that is that dead letter fails anew when it is retried too early.  Another code is another dead letter.
    """
    job = current_job_or_none()
    me = job.id if job is not None else ""
    h = chain_halts.c
    with database().read() as connection:
        known = connection.execute(select(h.code, h.job).where(h.id == id)).one_or_none()
    try:
        yield
    except Failure as error:
        code = error.code or type(error).__name__
        if known is not None and known.code == code and known.job != me:
            raise Snooze(AGAIN_MS, f"as in the dead letter {known.job}: {error}") from error
        with database().write() as connection:
            put(connection, chain_halts, {"id": id, "code": code, "job": me})
        raise
    if known is not None:
        with database().write() as connection:
            connection.execute(chain_halts.delete().where(h.id == id))
