"""Queue ``workflow``: named workflows, started by a job.

What a workflow may be: docs/how-to/run-workflows.md.  A new one is a row of :data:`WORKFLOWS`.
"""

from collections.abc import Mapping
from typing import Any, cast

import dramatiq

from actors.embeddings import generate_embedding
from actors.inbox import Account, Notification, register
from actors.notifications import send_notification
from actors.priorities import Priority
from actors.vectors import Entity, remember
from errors import Failure, InvalidWorkflow
from middleware.current import current_job
from middleware.handles import Sent
from middleware.workflow import Workflow, workflow


@dramatiq.actor(queue_name="workflow", priority=Priority.NORMAL)
def create_account(account: Account) -> Entity:
    """Register a user, and remember them as an entity.  Idempotent: a second run writes the same values."""
    register(account)
    person = Entity(user=account.user, type="person", id=account.user)
    remember(person, {"name": account.user, "email": account.email})
    return person


@dramatiq.actor(queue_name="workflow", priority=Priority.NORMAL)
def index_account(create_account: Entity) -> None:
    """Make the new user searchable.  Idempotent, as ``generate_embedding`` is."""
    generate_embedding.fn(create_account)


@dramatiq.actor(queue_name="workflow", priority=Priority.NORMAL)
def greet_account(create_account: Entity) -> None:
    """Leave a greeting in the new user's inbox.  Idempotent: its id follows from the user."""
    user = create_account.user
    send_notification.fn(Notification(id=f"welcome:{user}", user=user, title="Welcome", message=f"Welcome, {user}!"))


WORKFLOWS: Mapping[str, Workflow] = {
    made.name: made for made in (workflow("user_onboarding").then(create_account).then(index_account, greet_account),)
}


@dramatiq.actor(queue_name="workflow", priority=Priority.NORMAL, store_results=True)
def run_workflow(name: str, input: dict[str, Any], key: str | None = None) -> str:
    """Start a named workflow; the id of its flow, for ``hareline flows show``.

    The flow is rows of the ledger: it survives restarts, and goes on without this job.

    Idempotent: the flow's key is the one given, or this message's id; a second run finds the flow that is there.
    """
    found = WORKFLOWS.get(name)
    if found is None:
        raise Failure(
            f"there is no workflow {name!r}; there are {', '.join(sorted(WORKFLOWS))}", code="unknown_workflow"
        )
    try:
        return found.start(key=key or current_job().message_id, **input).id
    except InvalidWorkflow as error:
        raise Failure(error, code="invalid_input") from error


def queue_workflow(
    name: str, input: Mapping[str, Any], *, priority: Priority = Priority.NORMAL, key: str | None = None
) -> Sent[str]:
    """Have a workflow started; the handle's ``result()`` is the id of its flow.

    Parameters:
      input: the arguments of the workflow, by name.
      priority: of the start; the steps have those of their actors.
      key: names the run for ever: the second one of a key is the first one again.
    """
    return cast("Sent[Any]", run_workflow.send_with_options(args=(name, dict(input), key), priority=priority))
