"""Verbs for worker processes.  A worker looks every second for what it is asked, and says when it has done it."""

from sqlalchemy import insert, select, update

from control.transaction import Control, Transaction
from control.who import By
from errors import IllegalTransition, NotFound
from ledger.orders import Wish
from ledger.queries import Queries
from ledger.tables import worker_requests, workers
from ledger.views import WorkerView

_EVENTS = {Wish.QUIET: "worker quieted", Wish.RUN: "worker resumed", Wish.STOP: "worker stopped"}


def quiet(control: Control, *ids: int, by: By) -> list[int]:
    """Ask workers to start nothing more, finish what they run, and stay; all or none.  Idempotent.

    What they have claimed and not started goes back.  Once a worker says that it is quiet it starts nothing, until
    :func:`resume`.  Returns those that were not asked before.  Raises ``NotFound``, ``IllegalTransition``.
    """
    return _ask(control, ids, Wish.QUIET, by)


def resume(control: Control, *ids: int, by: By) -> list[int]:
    """Let quiet workers take jobs again.  As :func:`quiet`; one that was asked to stop is refused."""
    return _ask(control, ids, Wish.RUN, by)


def stop(control: Control, *ids: int, by: By) -> list[int]:
    """Ask workers to end in good order, as a SIGTERM does.  As :func:`quiet`.

    What that means depends on who runs the worker, which it has said (``WorkerView.ends``): `hareline worker` starts no
    other in its place, and ends itself when its last one is stopped; Dramatiq's own command line ends all its workers
    with it; in a program of its own a worker only becomes quiet.
    """
    return _ask(control, ids, Wish.STOP, by)


def listing(queries: Queries, *, everyone: bool = False) -> list[WorkerView]:
    """Worker processes at work, by id; with ``everyone`` also those that stopped or died."""
    return queries.workers(everyone=everyone)


def one(queries: Queries, id: int) -> WorkerView:
    """Raises ``NotFound``."""
    if (found := queries.worker(id)) is None:
        raise _unknown(id)
    return found


def _ask(control: Control, ids: tuple[int, ...], wish: Wish, by: By) -> list[int]:
    def verb(tx: Transaction) -> list[int]:
        return [id for id in sorted(set(ids)) if _ask_one(tx, id, wish)]

    return control.run(verb, by=by)


def _ask_one(tx: Transaction, id: int, wish: Wish) -> bool:
    state = tx.connection.scalar(select(workers.c.state).where(workers.c.id == id).with_for_update())
    if state is None:
        raise _unknown(id)
    if state in ("stopped", "dead"):
        raise IllegalTransition(f"worker {id} is {state}; `hareline workers ls` shows those at work")
    before = tx.connection.scalar(
        select(worker_requests.c.wish).where(worker_requests.c.worker_id == id).with_for_update()
    )
    if before == wish or (before is None and wish is Wish.RUN):
        return False
    if before == Wish.STOP or state == "stopping":
        raise IllegalTransition(f"worker {id} is stopping; it takes no other request")
    values = {"wish": wish, "asked_at": tx.now, "asked_by": tx.by}
    if before is None:
        tx.connection.execute(insert(worker_requests).values(worker_id=id, **values))
    else:
        tx.connection.execute(update(worker_requests).where(worker_requests.c.worker_id == id).values(**values))
    tx.note(None, _EVENTS[wish], {"worker": id, "before": before})
    return True


def _unknown(id: int) -> NotFound:
    return NotFound(f"there is no worker {id}; `hareline workers ls` shows those at work, with --all all")
