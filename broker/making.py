"""What a message becomes: the job that is recorded of it."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq import Actor
from dramatiq.message import Message
from uuid_utils import uuid7

from broker.adoption import Received
from errors import PayloadTooLarge, Refusal
from ledger.records import LONGEST_DELAY_MS, Key, NewJob
from ledger.sealed import SEALED
from middleware.deadlines import expires_ms, expiry_ms
from middleware.permissions import FOLLOWS
from middleware.unique import key_of

if TYPE_CHECKING:
    from broker.broker import Broker

NORMAL = 3

T = TypeVar("T")


def job_of(
    broker: "Broker", message: Message[Any], *, delay: int | None = None, tick: tuple[str, Any] | None = None
) -> NewJob:
    """The job a message will be.  Raises ``Refusal`` when it cannot be one."""
    if delay is not None and (
        isinstance(delay, bool) or not isinstance(delay, (int, float)) or not 0 <= delay <= LONGEST_DELAY_MS
    ):
        raise Refusal(
            f"{message.actor_name}: a delay is a number of milliseconds from 0 to {LONGEST_DELAY_MS} (a hundred "
            f"years), got {delay!r}."
        )
    if message.actor_name in broker.aliases.actors:
        message = message.copy(actor_name=broker.aliases.of(message.actor_name))
    producer = _permitted(broker, message)
    message, clear = _sealed(broker, message)
    try:
        body = message.encode()
    except (TypeError, ValueError) as error:
        raise Refusal(
            f"{message.actor_name}: its arguments cannot be written as JSON ({error}); annotate the parameter, or "
            "pass plain values."
        ) from error
    if len(body) > broker.max_payload_bytes:
        raise PayloadTooLarge(
            f"{message.actor_name}: the message is {len(body):,} bytes, the limit is {broker.max_payload_bytes:,}; "
            "store the data and pass a reference to it (HARELINE_MAX_PAYLOAD_BYTES raises the limit)."
        )
    actor = broker.actors.get(message.actor_name)
    key = _asked(broker, lambda: _key(broker, actor, clear))
    return NewJob(
        id=str(uuid7()),
        message_id=message.message_id,
        queue=message.queue_name,
        actor=message.actor_name,
        priority=_priority(actor, message),
        body=body,
        delay_ms=int(delay or 0),
        tick=tick,
        producer=producer,
        key=key,
        line=_asked(broker, lambda: broker.sequences.line_of(clear, key)),
        counted=not delay and message.queue_name in broker.room.limits,
        expires_ms=_asked(broker, lambda: expires_ms(actor, message, broker.max_age_ms)),
    )


def _permitted(broker: "Broker", message: Message[Any]) -> str:
    """Who sends it, as the ledger records it.  Raises ``Forbidden``."""
    name = broker.acting
    if not name and not broker.permissions.allowed:
        return broker.sender
    name = name or broker.producer
    if broker.permissions.allowed:
        if not broker.capture.hooks:
            broker.permissions.demand(message, name)
        elif message.actor_name in broker.permissions.allowed:
            name = FOLLOWS
    return f"{name}@{broker.place}" if name else broker.place


def _sealed(broker: "Broker", message: Message[Any]) -> tuple[Message[Any], Message[Any]]:
    """The message as it is recorded, and in clear."""
    hooks, whole = broker.capture.hooks, broker.capture.hooks and broker.capture.secret
    if SEALED in message.options:
        try:
            message, all_of_it = broker.encryption.opened(message)
        except Refusal:
            if hooks and not whole:
                return message, message  # another worker may have the key
            raise
        whole = whole or all_of_it
    # What a hook sends is recorded whether it fits or not: a dead letter can be seen and mended.
    message = broker.schemas.written(message, refuse=not hooks)
    return broker.encryption.sealed(message, whole=whole), message


def received(broker: "Broker", message: Message[Any], user: str | None) -> Received:
    """A foreign message as a job.  Raises ``Refusal``."""
    broker.permissions.demand(message, user or "")
    name = broker.aliases.of(message.actor_name)
    actor = broker.actors.get(name)
    clear = message if name == message.actor_name else message.copy(actor_name=name)
    secret = actor is not None and SEALED not in message.options and broker.encryption.mode(name) is not None
    if secret:
        with suppress(Refusal):
            clear = broker.schemas.written(clear, refuse=False)
    key = _key(broker, actor, clear)
    line = broker.sequences.line_of(clear, key)
    expires = expiry_ms(actor.options if actor is not None else {}, message.options, broker.max_age_ms)
    if secret:
        with suppress(Refusal):  # of a key that is missing here; it came in clear, and is run where the keys are
            message = broker.encryption.sealed(clear)
    return Received(message, key, line, None if expires is None else int(expires))


def _key(broker: "Broker", actor: Actor[Any, Any] | None, message: Message[Any]) -> Key | None:
    key = key_of(actor, message)
    if key is not None and actor is not None and "unique" in message.options:  # that of the actor was asked for
        broker.encryption.demand_no_digest(actor, message.options, Refusal)
    return key


def _asked(broker: "Broker", find: Callable[[], T | None]) -> T | None:
    """What an option asks for; of what a hook sends, nothing where it would be refused: it is recorded without."""
    try:
        return find()
    except Refusal:
        if broker.capture.hooks:
            return None
        raise


def _priority(actor: Actor[Any, Any] | None, message: Message[Any]) -> int:
    """1 to 5, of the message or its actor; Dramatiq's own default of 0 means nothing was said."""
    priority = message.options.get("priority")
    if priority is None:
        priority = actor.priority if actor is not None else 0
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise Refusal(f"{message.actor_name}: priority is 1 (critical) to 5 (background), got {priority!r}.")
    return min(5, max(1, priority)) if priority else NORMAL
