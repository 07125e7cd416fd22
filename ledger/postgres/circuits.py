"""Circuits: their rows are locked; what follows from calls is computed in :mod:`ledger.breaker`."""

import json
from collections.abc import Iterable, Sequence

from ledger.breaker import Breaker, Calls, Probe, Standing, count, parts_of, text_of
from ledger.postgres.arrays import literal, texts
from ledger.postgres.connection import Cursor


def standings(cursor: Cursor, circuits: Sequence[str]) -> list[Standing]:
    """How they stand; only reads."""
    breakers = _breakers(cursor, "circuits", circuits)
    now = _now(cursor) if breakers else 0
    return [Standing.of(breakers.get(name, Breaker()), now) for name in circuits]


def report(cursor: Cursor, by: str, reports: Sequence[Calls]) -> list[Standing]:
    breakers, now = _locked(cursor, (report.circuit for report in reports))
    was = breakers.copy()
    for said in reports:
        breakers[said.circuit] = count(breakers[said.circuit], now, said)
    for name, breaker in breakers.items():
        if breaker != was[name]:
            _keep(cursor, name, breaker, by, changed=breaker.term != was[name].term)
    return [Standing.of(breakers[said.circuit], now) for said in reports]


def probe(cursor: Cursor, probes: Sequence[Probe]) -> list[Standing]:
    breakers, now = _locked(cursor, (probe.circuit for probe in probes))
    return [
        Standing.of(breakers[asked.circuit], now, admitted=_admitted(cursor, asked, breakers[asked.circuit], now))
        for asked in probes
    ]


def _admitted(cursor: Cursor, asked: Probe, breaker: Breaker, now: int) -> bool:
    if breaker.until is None or breaker.until > now:
        return False
    cursor.run("drop_ended_probes", asked.circuit)
    others = cursor.run("probes", asked.circuit, str(breaker.term), asked.job)
    if len(others) >= asked.rule.probes:
        return False
    cursor.run("keep_probe", asked.job, str(asked.epoch), asked.circuit, str(breaker.term))
    return True


def _locked(cursor: Cursor, names: Iterable[str]) -> tuple[dict[str, Breaker], int]:
    """The circuits, and the time, read once all are locked."""
    wanted = sorted(set(names))
    cursor.run("add_circuits", texts(wanted))
    return _breakers(cursor, "lock_circuits", wanted), _now(cursor)


def _breakers(cursor: Cursor, statement: str, names: Iterable[str]) -> dict[str, Breaker]:
    return {
        name: Breaker(term, until, length, openings, parts_of(counted), why)
        for name, term, until, length, openings, counted, why in cursor.run(statement, texts(names))
    }


def _keep(cursor: Cursor, name: str, breaker: Breaker, by: str, *, changed: bool) -> None:
    until = None if breaker.until is None else str(breaker.until)
    numbers = str(breaker.term), until, str(breaker.length), str(breaker.openings)
    cursor.run("keep_circuit", name, *numbers, text_of(breaker.counted), breaker.why, by, "t" if changed else "f")
    if changed:
        event = "circuit closed" if breaker.until is None else "circuit opened"
        detail = json.dumps({"circuit": name, "why": breaker.why})
        cursor.run("note", literal(["NULL"]), texts([event]), texts([by]), texts([detail]))


def _now(cursor: Cursor) -> int:
    return int(cursor.run("micros")[0][0])
