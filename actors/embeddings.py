"""Queue ``embeddings``: what the application's entities say, as vectors to search by.

bulk_embed            many entities of one type, five at a time
generate_embedding    one entity that was added, changed or removed
delete_embedding      one that was removed
cleanup_embeddings    all whose entity is gone
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import dramatiq
import structlog
from pydantic import Field

from actors.events import Name
from actors.openai import CIRCUIT, openai
from actors.outside import Refused
from actors.priorities import Priority
from actors.vectors import Draft, Entity, drafts, forget, keep, sweep
from errors import Discard, Failure, Retry
from middleware.current import current_job_or_none
from middleware.rates import Rate
from settings import load

#: Texts in one request of ``bulk_embed``.
BATCH = 5

log = structlog.get_logger(__name__)


class UnknownEntity(Discard):
    """Raised when an entity is to be embedded that is not there; one that was removed needs no vector."""


@dramatiq.actor(
    queue_name="embeddings",
    priority=Priority.NORMAL,
    max_retries=5,
    time_limit=120_000,
    circuit=CIRCUIT,
    rate_limit=Rate(50, burst=10),
)
def generate_embedding(entity: Entity, operation: Literal["create", "update", "delete"] = "update") -> None:
    """Make an entity's vector what its content says; the creation of one that is there is an update.

    Idempotent: a vector that was made of this text by this model is left alone, and nobody is asked.  An entity that
    is changed while it is embedded is embedded again, so the last content wins whatever the order of its jobs.
    """
    if operation == "delete":
        delete_embedding.fn(entity)
        return
    model = load().embedding_model
    wanted, missing = drafts(entity.user, entity.type, [entity.id], model)
    if missing:
        raise UnknownEntity(f"there is no {entity.type} {entity.id!r} of {entity.user!r}; add it, then retry this job")
    if not wanted:
        log.info("embedding.kept", entity=entity.id, why="its vector is of this text")
        return
    if embed(wanted, model):
        raise Retry(f"{entity.type} {entity.id!r} was changed while it was embedded", delay=0)


@dramatiq.actor(queue_name="embeddings", priority=Priority.NORMAL)
def delete_embedding(entity: Entity) -> None:
    """Remove an entity's vector.  Idempotent: one that is gone stays gone."""
    log.info("embedding.deleted", entity=entity.id, there=forget(entity))


@dramatiq.actor(
    queue_name="embeddings",
    priority=Priority.LOW,
    max_retries=5,
    time_limit=1_800_000,
    circuit=CIRCUIT,
    rate_limit=Rate(50, burst=10),
)
def bulk_embed(user: Name, type: Name, ids: Annotated[list[Name], Field(min_length=1, max_length=2_000)]) -> None:
    """Make the vectors of these entities, five in a request; progress is reported.

    Idempotent, and resumed where it stopped: vectors are stored with each request, and those that are up to date are
    not asked for again.  Entities that are not there, and texts the endpoint refuses, do not keep the others from
    being embedded; when all else is done the job fails, and names them.
    """
    model = load().embedding_model
    wanted, missing = drafts(user, type, ids, model)
    failed = dict.fromkeys(missing, "there is no such entity")
    passed: list[Entity] = []
    job = current_job_or_none()
    for start in range(0, len(wanted), BATCH):
        if job is not None:
            job.check()
            job.progress(start, len(wanted), f"{len(failed)} failed")
        passed += _embed_or_name(wanted[start : start + BATCH], model, failed)
    if job is not None:
        job.progress(len(wanted), len(wanted), f"{len(failed)} failed")
    if passed:
        raise Retry(f"{len(passed)} entities were changed while they were embedded", delay=0)
    if failed:
        named = "; ".join(f"{id}: {why}" for id, why in sorted(failed.items()))
        raise Failure(f"{len(failed)} of {len(ids)} were not embedded: {named}", code="partial")


@dramatiq.actor(queue_name="embeddings", priority=Priority.BACKGROUND)
def cleanup_embeddings() -> None:
    """Remove the vectors of entities that are gone.  Idempotent: it removes what is there to be removed."""
    log.info("embeddings.cleaned", removed=sweep())


def embed(wanted: Sequence[Draft], model: str) -> list[Entity]:
    """Ask for the vectors and store them; the entities that were changed meanwhile."""
    return keep(list(zip(wanted, openai().embed(model, [draft.text for draft in wanted]), strict=True)), model)


def _embed_or_name(batch: Sequence[Draft], model: str, failed: dict[str, str]) -> list[Entity]:
    """As :func:`embed`; when the batch is refused, one by one, and the refused ones are in ``failed``."""
    try:
        return embed(batch, model)
    except Refused as error:
        if error.code != "refused":
            raise
        if len(batch) == 1:
            failed[batch[0].entity.id] = str(error)
            return []
    return [entity for draft in batch for entity in _embed_or_name([draft], model, failed)]
