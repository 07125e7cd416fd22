"""Gates on PostgreSQL: locked in the order of their keys, before unique keys and before any job's row."""

from collections.abc import Iterable, Sequence

from ledger.gates import COMING_S, Blocked, Entering, Entry, Gate, decide, gate_of, is_sequence, rooms_of
from ledger.postgres.arrays import literal, numbers, texts
from ledger.postgres.connection import Cursor, Statements
from ledger.records import Due, NewJob
from ledger.states import State

_TRIES = 3  #: a job that was to be woken may have been cancelled just now: then the next one is


def lock(cursor: Statements, gates: Iterable[Gate], jobs: Iterable[str] = ()) -> dict[str, str]:
    """Hold these gates, and those that ``jobs`` are in, until the transaction ends; the rule of each."""
    found = {gate.key: gate for gate in gates}
    return dict(
        cursor.run(
            "lock_gates",
            texts(found),
            texts(gate.rule for gate in found.values()),
            numbers(gate.capacity for gate in found.values()),
            literal(jobs),
        )
    )


def enter(cursor: Cursor, asking: Sequence[Entering]) -> list[Entry]:
    locked = lock(cursor, (gate for ask in asking for gate in ask.gates))
    rooms = rooms_of(cursor.run("rooms", texts(locked)))
    jobs = literal(ask.job for ask in asking), numbers(ask.epoch for ask in asking)
    answers, entered, blocked = decide(rooms, asking, dict(cursor.run("lock_entering", *jobs)))
    if entered:
        taken = [(gate.key, ask.job, ask.epoch) for ask in entered for gate in ask.gates]
        keys, ids, epochs = zip(*taken, strict=True)
        cursor.run("enter", texts(keys), literal(ids), numbers(epochs))
    if blocked:
        _block(cursor, blocked)
        if left := _left(asking, blocked):
            cursor.run("look", texts(left))
    return answers


def join(cursor: Statements, jobs: Iterable[NewJob]) -> dict[str, str]:
    """Give these new jobs their places; the state of those that are not first.  Their gates are locked."""
    placed = [(job.id, job.line) for job in jobs if job.line is not None]
    if not placed:
        return {}
    ids, lines = zip(*placed, strict=True)
    holds = literal("t" if line.hold else "f" for line in lines)
    rows = cursor.run("join_lines", literal(ids), texts(line.key for line in lines), holds)
    return {id: State.DELAYED.value for (id,) in rows}


def settle(cursor: Cursor, locked: dict[str, str], embedded: bool, publish_after_s: float) -> list[Due]:
    """Wake whoever there is room for in these gates, which are locked, now; to be sent after the commit."""
    woken: list[Due] = []
    for name, keys in (
        ("heads", [key for key, rule in locked.items() if is_sequence(rule)]),
        ("let_in", [key for key, rule in locked.items() if not is_sequence(rule)]),
    ):
        for _ in range(_TRIES if keys else 0):
            asked = (texts(keys),) if name == "heads" else (texts(keys), str(COMING_S))
            if not (ids := [id for (id,) in cursor.run(name, *asked)]):
                break
            rows = cursor.run("wake", literal(ids), "t" if embedded else "f", str(publish_after_s))
            woken += [Due(*row) for state, *row in rows if state == State.WAITING]
            if not (missed := set(ids) - {row[1] for row in rows}):
                break
            cursor.run("unblock", literal(missed))
    return woken


def tend(cursor: Cursor, limit: int, embedded: bool, publish_after_s: float) -> list[Due]:
    return settle(cursor, dict(cursor.run("take_looks", str(limit))), embedded, publish_after_s)


def survey(cursor: Cursor, after: str, limit: int) -> str:
    rows = cursor.run("survey", after, str(limit), str(COMING_S))
    if wrong := [key for key, _, disagrees in rows if disagrees]:
        cursor.run("look", texts(wrong))
    if idle := [key for key, is_idle, _ in rows if is_idle]:
        # First the lock: whether a gate is idle can only be seen by a snapshot taken after it.
        cursor.run("drop_idle_gates", texts(key for (key,) in cursor.run("lock_idle_gates", texts(idle))))
    return rows[-1][0] if len(rows) == limit else ""


def sequences(jobs: Iterable[NewJob]) -> list[Gate]:
    return [gate_of(job.line) for job in jobs if job.line is not None]


def _block(cursor: Cursor, blocked: Sequence[Blocked]) -> None:
    ids, epochs, keys, whys = zip(*blocked, strict=True)
    cursor.run("block", literal(ids), numbers(epochs), texts(keys), texts(whys))


def _left(asking: Sequence[Entering], blocked: Sequence[Blocked]) -> set[str]:
    """The other gates of jobs now blocked at one: a job that was woken there leaves its room to the next."""
    full = {block.job: block.gate for block in blocked}
    return {gate.key for ask in asking if ask.job in full for gate in ask.gates if gate.key != full[ask.job]}
