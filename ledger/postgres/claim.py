"""How waiting jobs get into a worker's hands."""

import time
from collections.abc import Mapping, Sequence

from ledger.postgres.arrays import literal, numbers, texts
from ledger.postgres.connection import Cursor
from ledger.postgres.payloads import newest
from ledger.records import Claim, Ticket, Verdict
from ledger.text import all_ids

_PARKED = frozenset({"paused", "suspect", "fenced", "moved"})


def claim(cursor: Cursor, worker: int, tickets: Sequence[Ticket], suspects: int) -> list[Claim]:
    """One round trip; another one when something is to be parked, a third for jobs that are not there."""
    ids = [ticket.id for ticket in tickets]
    if not all_ids(ids):
        return _claim_valid(cursor, worker, tickets, suspects)
    if len(set(ids)) < len(ids):
        return _claim_first(cursor, worker, tickets, suspects)
    queues = texts({ticket.queue for ticket in tickets})
    rows = cursor.run_after(
        "claim",
        "lock_queues",
        (str(worker), literal(ids), numbers([ticket.ticket for ticket in tickets]), queues, str(suspects)),
        (queues,),
    )
    answers: list[Claim | None] = [None] * len(ids)
    parked: list[tuple[str, int, str]] = []
    now = time.monotonic()
    for n, word, epoch, attempts, crashes, created_at, due_at, queue, sequenced, age_s, tried in rows:
        ticket = tickets[n - 1]
        if word == "run":
            known = epoch, attempts, crashes, crashes > 0, due_at, ticket.ticket, queue
            more = created_at, bool(sequenced), now - age_s, tried
            answers[n - 1] = Claim(ticket.id, Verdict.RUN, "", *known, "", b"", *more)
        elif word in _PARKED:
            answers[n - 1] = Claim(ticket.id, Verdict.PARK, word)
            parked.append((ticket.id, ticket.ticket, word))
        else:
            answers[n - 1] = Claim(ticket.id, Verdict.DROP, word)
    if parked:
        park(cursor, worker, parked, queues)
    if len(rows) < len(ids):
        past = _past(cursor, [id for id, answer in zip(ids, answers, strict=True) if answer is None])
        return [answer or past[id] for id, answer in zip(ids, answers, strict=True)]
    return answers  # type: ignore[return-value]


def take(cursor: Cursor, worker: int, wants: Mapping[str, int], suspects: int) -> list[Claim]:
    rooms = {queue: room for queue, room in wants.items() if room > 0}
    if not rooms:
        return []
    queues = texts(rooms)
    rows = cursor.run_after(
        "take",
        "lock_queues",
        (str(worker), queues, numbers(rooms.values()), str(suspects)),
        (queues,),
    )
    # Suspects beyond the limit are put off: left where they are they would stand before everyone else.
    parked = [(id, ticket, word) for id, word, _, _, _, _, _, ticket, *_ in rows if word == "suspect"]
    if parked:
        park(cursor, worker, parked, queues)
    now = time.monotonic()
    edited = newest(cursor, ((id, ticket) for id, word, _, _, _, _, _, ticket, *_ in rows if word == "take"))
    return [
        Claim(
            id,
            Verdict.RUN,
            "",
            epoch,
            attempts,
            crashes,
            crashes > 0,
            due_at,
            ticket,
            queue,
            *edited.get(id, (message, body)),
            created,
            bool(sequenced),
            now - age_s,
            tried,
        )
        for id, word, epoch, attempts, crashes, created, due_at, ticket, queue, message, body, sequenced, *age in rows
        for age_s, tried in [age]
        if word == "take"
    ]


def park(cursor: Cursor, worker: int, jobs: Sequence[tuple[str, int, str]], queues: str) -> None:
    """Give (job, ticket, why) back to the ledger; whatever has moved on since it was looked at stays as it is."""
    ids, tickets, whys = zip(*jobs, strict=True)
    cursor.run_after("park", "lock_queues", (str(worker), literal(ids), numbers(tickets), literal(whys)), (queues,))


def _claim_valid(cursor: Cursor, worker: int, tickets: Sequence[Ticket], suspects: int) -> list[Claim]:
    """The ids that are none belong to no row, and must not spoil the batch of those that are."""
    valid = [ticket for ticket in tickets if all_ids([ticket.id])]
    answers = iter(claim(cursor, worker, valid, suspects) if valid else [])
    return [next(answers) if all_ids([ticket.id]) else Claim(ticket.id, Verdict.GONE, "gone") for ticket in tickets]


def _claim_first(cursor: Cursor, worker: int, tickets: Sequence[Ticket], suspects: int) -> list[Claim]:
    """Of several messages of one job the one with the newest ticket is asked about; only that one can run."""
    newest: dict[str, Ticket] = {}
    for ticket in tickets:
        if ticket.id not in newest or ticket.ticket > newest[ticket.id].ticket:
            newest[ticket.id] = ticket
    first = list(newest.values())
    answers = {ticket.id: answer for ticket, answer in zip(first, claim(cursor, worker, first, suspects), strict=True)}
    return [
        answers[ticket.id]
        if newest[ticket.id] is ticket or answers[ticket.id].verdict is Verdict.GONE
        else Claim(ticket.id, Verdict.DROP, "duplicate")
        for ticket in tickets
    ]


def _past(cursor: Cursor, ids: list[str]) -> dict[str, Claim]:
    states: dict[str, str] = dict(cursor.run("past_states", literal(ids)))
    return {id: Claim(id, Verdict.DROP, states[id]) if id in states else Claim(id, Verdict.GONE, "gone") for id in ids}
