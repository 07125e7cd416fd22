"""Flows in SQLite; the contract is :class:`ledger.flows.store.FlowStore`.  The transaction is the lock."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict

from ledger.flows.graph import Graph, parse
from ledger.flows.states import OVER, FlowState, ItemState, Step, StepState
from ledger.flows.store import Locked, NewFlow
from ledger.instants import from_micros
from ledger.sqlite.connection import Transaction
from ledger.states import Event, State
from ledger.who import By


class Flows:
    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._noted: list[tuple[By, str, Mapping[str, object]]] = []

    def add(self, new: NewFlow) -> str:
        tx, graph = self._tx, new.graph
        tx.run("add_definition", graph.name, graph.version, graph.body, tx.now)
        if tx.run("add_flow", new.id, graph.name, graph.version, new.key, tx.now).fetchone() is None:
            return str(tx.run("same_flow", new.id, graph.name, new.key).fetchone()[0])
        tx.many("add_flow_step", [(new.id, name, place) for place, name in enumerate(graph.nodes)])
        self.keep(new.id, [(name, 0, body) for name, body in new.arguments.items()])
        return new.id

    def lock_jobs(self, flow: str) -> None:
        """Nothing to do."""

    def lock(self, flow: str) -> Locked | None:
        row = self._tx.run("flow", flow).fetchone()
        return Locked(flow, row[0], row[1], FlowState(row[2])) if row else None

    def graph(self, flow: Locked) -> Graph:
        return parse(flow.name, self._tx.run("flow_definition", flow.name, flow.version).fetchone()[0])

    def steps(self, flow: str) -> dict[str, Step]:
        rows = self._tx.run("flow_steps", flow, self._tx.now)
        return {
            name: Step(
                name,
                StepState(state),
                jobs,
                remaining,
                failed,
                None if truth is None else bool(truth),
                error,
                bool(due),
            )
            for name, state, jobs, remaining, failed, truth, error, due in rows
        }

    def write(self, flow: str, steps: Collection[Step]) -> None:
        self._tx.many(
            "write_flow_step",
            [
                (
                    *(step.state.value, step.jobs, step.remaining, step.failed, step.truth, step.error),
                    None if step.due_ms is None else self._tx.now + step.due_ms * 1000,
                    flow,
                    step.name,
                )
                for step in steps
            ],
        )

    def move(self, flow: str, state: FlowState) -> None:
        self._tx.run("move_flow", state.value, self._tx.now if state in OVER else None, flow)

    def tally(self, flow: str, step: str, ended: int, failed: int, truth: bool | None) -> int:
        return int(self._tx.run("tally_flow_step", flow, step, ended, failed, truth).fetchone()[0])

    def hire(self, flow: str, step: str, jobs: Sequence[tuple[int, str]]) -> None:
        self._tx.many("hire", [(flow, step, item, job) for item, job in jobs])

    def end(self, jobs: Sequence[str], state: ItemState) -> set[str]:
        return {id for (id,) in self._tx.run("end_flow_jobs", state.value, json.dumps(jobs)).fetchall()}

    def items(self, flow: str, step: str, *, completed: bool) -> list[int]:
        return [item for (item,) in self._tx.run("flow_items", flow, step, completed)]

    def value(self, flow: str, name: str) -> bytes | None:
        row = self._tx.run("flow_value", flow, name, 0).fetchone()
        return row[0] if row else None

    def keep(self, flow: str, values: Iterable[tuple[str, int, bytes]]) -> None:
        self._tx.many("keep_flow_value", [(flow, *value) for value in values])

    def due(self, limit: int) -> list[str]:
        return list(dict.fromkeys(id for (id,) in self._tx.run("due_flows", self._tx.now, limit)))

    def lost(self, limit: int) -> list[tuple[str, str, int, str, str]]:
        return self._tx.run("lost_flow_jobs", limit).fetchall()

    def cancel_jobs(self, flow: str, by: By) -> list[tuple[str, str]]:
        tx, rows, name = self._tx, self._tx.run("live_flow_jobs", flow).fetchall(), str(by)
        stopped = [(step, job) for step, job, state in rows if state != State.ACTIVE]
        asked = [job for _, job, state in rows if state == State.ACTIVE]
        tx.many("cancel_job", [(tx.now, job) for _, job in stopped])
        tx.many("drop_ticket", [(job,) for _, job in stopped])
        tx.many("ask_to_stop", [(job,) for job in asked])
        detail = json.dumps({"flow": flow})
        tx.many("insert_told", [(job, tx.now, Event.CANCELLED.value, name, detail, tx.number) for _, job in stopped])
        tx.many("insert_journal", [(job, tx.now, "cancel_requested", name, detail) for job in asked])
        return stopped

    def note(self, event: str, by: By, detail: Mapping[str, object]) -> None:
        self._tx.run("insert_journal", None, self._tx.now, event, str(by), json.dumps(detail))
        self._noted.append((by, event, detail))

    def conclude(self) -> None:
        if not self._noted:
            return
        from ledger.audit import chain, of_notes  # and with it SQLAlchemy, which a worker's start is not to wait for

        for by, event, detail in self._noted:
            seq, hash = self._tx.run("audit_head").fetchone()
            for entry in chain((seq, hash), of_notes(by, [(None, event, detail)]), by, from_micros(self._tx.now)):
                told = asdict(entry) | {"at": self._tx.now}
                self._tx.run("audit_append", *told.values())
