"""Jobs that are steps of a flow: what they take, and what they bring home."""

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from dramatiq import Actor, Broker, Middleware, Worker
from dramatiq.broker import MessageProxy
from pydantic_core import to_json

from errors import LedgerUnavailable, Refusal
from ledger.flows.graph import Source
from ledger.flows.results import Results
from ledger.flows.states import OPTION, StepEnd
from ledger.ledger import Ledger, Session
from ledger.recorder import Recorder
from ledger.shared import SharedSession
from ledger.states import Outcome, Reason
from middleware.attempt import JobMessage

#: So many values of so many bytes are remembered.
KNOWN = 100
SMALL = 16_384


class Flows(Middleware):
    """Gives a step the results of those before it, and hands its own over, to commit with its finish.

    Its message names where its arguments come from; they are read when it starts, each attempt anew, and then checked
    against the actor's signature as any.  What it returns is kept with the flow, as JSON.  An actor whose result
    cannot be written as JSON has failed, reason ``refused``.

    Fails closed: while the database is away, no step starts.
    """

    def __init__(self, ledger: Ledger, recorder: Recorder) -> None:
        self.session = SharedSession(ledger, "hareline-flows")
        self.recorder = recorder
        self._known: dict[tuple[str, str, int], bytes] = {}

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if OPTION not in message.options or not isinstance(message, JobMessage):
            return
        option = message.options[OPTION]
        try:
            message.step = step_of(option)
            takes = option.get("takes")
            if takes:
                given = self.session.call(lambda session: self._given(session, broker, message, takes))
                message.kwargs = {**message.kwargs, **given}
        except LedgerUnavailable:
            raise
        except Exception as error:  # any other would be swallowed, and the body run without its arguments
            message.end(Outcome.FAILED, reason=Reason.REFUSED)
            raise Refusal(f"{message.actor_name}: what its flow has for it cannot be read ({error!r})") from error

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if not isinstance(message, JobMessage) or message.step is None or exception is not None or result is None:
            return
        try:
            message.step = replace(message.step, result=to_json(result), truth=bool(result))
        except Exception as error:
            message.troubles.append(f"what it returned cannot be kept as JSON ({error}); return plain values")
            message.end(Outcome.FAILED, reason=Reason.REFUSED)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self.session.close()

    def _given(
        self, session: Session, broker: Broker, message: JobMessage, takes: Mapping[str, tuple[str, str]]
    ) -> dict[str, Any]:
        end = message.step
        assert end is not None
        found: dict[str, Any] = {}
        for parameter, (source, name) in takes.items():
            if source == Source.RESULTS:
                if parameter in _lazy(broker.get_actor(message.actor_name)):
                    found[parameter] = {"flow": end.flow, "step": name}
                else:
                    found[parameter] = everything(session, end.flow, name)
                continue
            body = self._value(session, end.flow, name, end.item if source == Source.SAME else 0)
            if body is not None or source != Source.ARGUMENT:
                found[parameter] = None if body is None else json.loads(body)
        return found

    def _value(self, session: Session, flow: str, name: str, item: int) -> bytes | None:
        """What all items of an ``each`` take is read once: a value that is there never changes."""
        key = flow, name, item
        body = self._known.get(key)
        if body is None and (body := session.flow_value(*key)) is not None and len(body) <= SMALL:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[key] = body
        return body


class OpenResults(Middleware):
    """Lets the lazy :class:`Results` among a step's arguments read, once they have been checked."""

    def __init__(self, flows: Flows) -> None:
        self.flows = flows

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        if isinstance(message, JobMessage) and message.step is not None:
            for value in message.kwargs.values():
                if isinstance(value, Results):
                    value.open(self.flows.session)


def step_of(option: Mapping[str, Any]) -> StepEnd:
    """Which step a message's option says it is.  Raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    return StepEnd(str(option["id"]), str(option["step"]), int(option["item"]))


def everything(session: Session, flow: str, step: str) -> list[Any]:
    """What all completed items of a step returned."""
    rows = session.flow_results(flow, step, -1, 2**31 - 1)
    return [None if body is None else json.loads(body) for _, body in rows]


@cache
def _lazy(actor: Actor[Any, Any]) -> frozenset[str]:
    """The parameters that want :class:`Results` instead of a list."""
    parameters = inspect.signature(inspect.unwrap(actor.fn), eval_str=True).parameters.values()
    return frozenset(x.name for x in parameters if x.annotation is Results)
