"""Flows in PostgreSQL; the contract is :class:`ledger.flows.store.FlowStore`."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from ledger.flows.graph import Graph, parse
from ledger.flows.states import OVER, FlowState, ItemState, Step, StepState
from ledger.flows.store import Locked, NewFlow
from ledger.postgres.arrays import literal, numbers, texts
from ledger.postgres.connection import Cursor
from ledger.text import all_ids
from ledger.who import By


class Flows:
    def __init__(self, cursor: Cursor) -> None:
        self._run = cursor.run
        self._noted: list[tuple[By, str, Mapping[str, object]]] = []

    def add(self, new: NewFlow) -> str:
        graph = new.graph
        self._run("add_definition", graph.name, graph.version, graph.body)
        if not self._run("add_flow", new.id, graph.name, graph.version, new.key):
            return str(self._run("same_flow", new.id, graph.name, new.key)[0][0])
        self._run("add_flow_steps", new.id, texts(graph.nodes))
        self.keep(new.id, [(name, 0, body) for name, body in new.arguments.items()])
        return new.id

    def lock_jobs(self, flow: str) -> None:
        if all_ids([flow]):
            self._run("lock_flow_jobs", flow)

    def lock(self, flow: str) -> Locked | None:
        rows = self._run("lock_flow", flow) if all_ids([flow]) else []
        return Locked(flow, rows[0][0], rows[0][1], FlowState(rows[0][2])) if rows else None

    def graph(self, flow: Locked) -> Graph:
        return parse(flow.name, self._run("flow_definition", flow.name, flow.version)[0][0])

    def steps(self, flow: str) -> dict[str, Step]:
        return {name: Step(name, StepState(state), *rest) for name, state, *rest in self._run("flow_steps", flow)}

    def write(self, flow: str, steps: Collection[Step]) -> None:
        for step in steps:
            due = None if step.due_ms is None else str(step.due_ms)
            counts = str(step.jobs), str(step.remaining), str(step.failed)
            self._run("write_flow_step", flow, step.name, step.state, *counts, _bool(step.truth), step.error, due)

    def move(self, flow: str, state: FlowState) -> None:
        self._run("move_flow", flow, state, _bool(state in OVER))

    def tally(self, flow: str, step: str, ended: int, failed: int, truth: bool | None) -> int:
        return int(self._run("tally_flow_step", flow, step, str(ended), str(failed), _bool(truth))[0][0])

    def hire(self, flow: str, step: str, jobs: Sequence[tuple[int, str]]) -> None:
        items, ids = zip(*jobs, strict=True)
        self._run("hire", flow, step, numbers(items), literal(ids))

    def end(self, jobs: Sequence[str], state: ItemState) -> set[str]:
        return {id for (id,) in self._run("end_flow_jobs", literal(jobs), state)} if jobs else set()

    def items(self, flow: str, step: str, *, completed: bool) -> list[int]:
        return [item for (item,) in self._run("flow_items", flow, step, _bool(completed))]

    def value(self, flow: str, name: str) -> bytes | None:
        rows = self._run("flow_value", flow, name, "0")
        return bytes(rows[0][0]) if rows else None

    def keep(self, flow: str, values: Iterable[tuple[str, int, bytes]]) -> None:
        if values := list(values):
            names, items, bodies = zip(*values, strict=True)
            self._run("keep_flow_values", flow, texts(names), numbers(items), list(bodies))

    def due(self, limit: int) -> list[str]:
        return list(dict.fromkeys(id for (id,) in self._run("due_flows", str(limit))))

    def lost(self, limit: int) -> list[tuple[str, str, int, str, str]]:
        rows = self._run("lost_flow_jobs", str(limit))
        return [(flow, step, item, job, state) for flow, step, item, job, state in rows]

    def cancel_jobs(self, flow: str, by: By) -> list[tuple[str, str]]:
        return [(step, job) for step, job in self._run("cancel_flow_jobs", flow, str(by))]

    def note(self, event: str, by: By, detail: Mapping[str, object]) -> None:
        self._run("note", "{NULL}", texts([event]), texts([str(by)]), texts([json.dumps(detail)]))
        self._noted.append((by, event, detail))

    def conclude(self) -> None:
        if not self._noted:
            return
        from ledger.audit import chain, of_notes  # and with it SQLAlchemy, which a worker's start is not to wait for

        for by, event, detail in self._noted:
            self._run("audit_lock")
            [(seq, hash)] = self._run("audit_head")
            at = datetime.fromtimestamp(float(self._run("clock")[0][0]), UTC)
            for entry in chain((int(seq), hash), of_notes(by, [(None, event, detail)]), by, at):
                told = asdict(entry) | {"at": at.isoformat()}
                self._run("audit_append", *(str(value) for value in told.values()))


def _bool(value: bool | None) -> str | None:
    return None if value is None else "t" if value else "f"
