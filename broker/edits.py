"""A job again, with other arguments: a new job, linked to the one it was made of, which stays as it is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dramatiq.message import Message
from dramatiq.message import get_encoder as encoder

from broker.deeds import sending
from errors import IllegalTransition, Refusal
from ledger.flows.states import OPTION
from ledger.redact import stand_ins
from ledger.sealed import SEALED

if TYPE_CHECKING:
    from broker.broker import Broker
    from control import Control
    from control.who import By

#: What belongs to the run of the old job, or to those that waited for it.
_OF_THE_OLD = frozenset(
    {"retries", "traceback", "requeue_timestamp", "eta", "pipe_target", "group_callbacks", "group_info", OPTION, SEALED}
)


def edit(
    broker: "Broker",
    control: "Control",
    ref: str,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue: str | None = None,
    by: "By",
) -> str:
    """Send the job a person means again, changed; returns the new job's id.

    Both, and their link, are one transaction.  What is not given stays; the new one is checked as any message is, and
    starts anew: what waited for the old one does not wait for it.  Of encrypted arguments the key must be here; what is
    shown in the place of a secret is refused, as it would run in its place.

    Raises ``JobNotFound``, ``IllegalTransition`` for one that is running or of a flow, ``Refusal``.
    """
    from control.jobs import link, lock_for_edit

    def verb(tx: Any) -> str:
        job, body = lock_for_edit(tx, ref)
        message = _message(body)
        if message is None:
            raise Refusal(f"job {job.id} is no Dramatiq message: there is nothing to edit; send a new job instead")
        if OPTION in message.options:
            raise IllegalTransition(f"job {job.id} is a step of a flow: retry that instead (`hareline flows retry`)")
        if SEALED in message.options:
            message, _ = broker.encryption.opened(message)
        if shown := stand_ins([args, kwargs]) - stand_ins([message.args, message.kwargs]):
            raise Refusal(
                f"job {job.id}: {', '.join(sorted(shown))} is what is shown in the place of a secret; give the secret "
                "itself, or leave out `args` or `kwargs`, which then stay as they are"
            )
        options = {name: value for name, value in message.options.items() if name not in _OF_THE_OLD}
        new: Message[Any] = Message(
            queue_name=queue or message.queue_name,
            actor_name=message.actor_name,
            args=tuple(message.args if args is None else args),
            kwargs=dict(message.kwargs if kwargs is None else kwargs),
            options=options,
        )
        tx.scope.demand(new.queue_name)
        broker.enqueue(new)
        return link(tx, job, new.message_id)

    return sending(broker, control, verb, by=by)


def _message(body: bytes) -> Message[Any] | None:
    try:
        decoded = encoder().decode(body)
        return Message(**decoded)
    except Exception:  # whatever is wrong with the bytes of a stranger
        return None
