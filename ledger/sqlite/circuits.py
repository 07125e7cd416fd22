"""Circuits: as in :mod:`ledger.postgres.circuits`; here the transaction is the lock."""

import json
import random
from collections.abc import Sequence

from ledger.breaker import Breaker, Calls, Probe, Standing, count, parts_of, text_of
from ledger.sqlite.connection import Transaction


def standings(tx: Transaction, circuits: Sequence[str]) -> list[Standing]:
    return [Standing.of(_breaker(tx, name), tx.now) for name in circuits]


def report(tx: Transaction, by: str, reports: Sequence[Calls]) -> list[Standing]:
    for said in reports:
        was = _breaker(tx, said.circuit)
        if (breaker := count(was, tx.now, said)) != was:
            _keep(tx, said.circuit, breaker, by, changed=breaker.term != was.term)
    return standings(tx, [said.circuit for said in reports])


def probe(tx: Transaction, probes: Sequence[Probe]) -> list[Standing]:
    return [
        Standing.of(breaker, tx.now, admitted=_admitted(tx, asked, breaker))
        for asked in probes
        for breaker in [_breaker(tx, asked.circuit)]
    ]


def recall(tx: Transaction, limit: int, spread_s: float) -> int:
    rows = tx.run("deferred_by_closed", limit).fetchall()
    spread = int(spread_s * 1_000_000)
    tx.many("recall", [(tx.now + random.randrange(spread), job, ticket, tx.now) for job, ticket in rows])
    tx.many("drop_deferral", [(job,) for job, _ in rows])
    return len(rows)


def _admitted(tx: Transaction, asked: Probe, breaker: Breaker) -> bool:
    if breaker.until is None or breaker.until > tx.now:
        return False
    tx.run("drop_ended_probes", asked.circuit)
    others = tx.run("probes", asked.circuit, breaker.term, asked.job).fetchall()
    if len(others) >= asked.rule.probes:
        return False
    tx.run("keep_probe", asked.job, asked.epoch, asked.circuit, breaker.term)
    return True


def _breaker(tx: Transaction, name: str) -> Breaker:
    row = tx.run("circuit", name).fetchone()
    if row is None:
        return Breaker()
    term, until, length, openings, counted, why = row
    return Breaker(term, until, length, openings, parts_of(counted), why)


def _keep(tx: Transaction, name: str, breaker: Breaker, by: str, *, changed: bool) -> None:
    row = (breaker.term, breaker.until, breaker.length, breaker.openings, text_of(breaker.counted), breaker.why)
    tx.run("keep_circuit", name, *row, tx.now, by, changed)
    if changed:
        event = "circuit closed" if breaker.until is None else "circuit opened"
        tx.run("insert_journal", None, tx.now, event, by, json.dumps({"circuit": name, "why": breaker.why}))
