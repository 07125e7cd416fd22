"""Entities of the application, and the vectors of what they say."""

import heapq
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from operator import mul
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, Float, and_, bindparam, cast, delete, exists, func, select, text
from sqlalchemy.types import UserDefinedType

from actors.database import database, put
from actors.events import Name
from actors.tables import entities, vectors

#: What a model reads of an entity; the rest is cut off.
MAX_CHARS = 24_000


class Entity(BaseModel):
    """Which entity: a person, a note, a mail of one user."""

    model_config = ConfigDict(frozen=True)

    user: Name
    type: Name
    id: Name


@dataclass(frozen=True, slots=True)
class Draft:
    """An entity whose vector is to be made."""

    entity: Entity
    text: str
    digest: str
    changed_at: datetime


def remember(entity: Entity, content: Mapping[str, Any]) -> None:
    """Add an entity, or give it this content."""
    with database().write() as connection:
        now = database().time(connection)
        put(connection, entities, {**entity.model_dump(), "content": dict(content), "changed_at": now})


def remove(entity: Entity) -> None:
    """Remove an entity; its vector stays until ``delete_embedding`` or ``cleanup_embeddings``.  Idempotent."""
    with database().write() as connection:
        connection.execute(delete(entities).where(_is(entities, entity)))


def drafts(user: str, type: str, ids: Sequence[str], model: str) -> tuple[list[Draft], list[str]]:
    """Those of the entities whose vector is missing, of another model or of another text; and the ids not there."""
    e, v = entities.c, vectors.c
    both = and_(v.user == e.user, v.type == e.type, v.id == e.id)
    found = (
        select(e.id, e.content, e.changed_at, v.digest, v.model)
        .select_from(entities.outerjoin(vectors, both))
        .where(e.user == user, e.type == type, e.id.in_(ids))
    )
    with database().read() as connection:
        rows = {row.id: row for row in connection.execute(found)}
    made = []
    for id, row in rows.items():
        said = text_of(row.content)
        digest = sha256(said.encode()).hexdigest()
        if (row.model, row.digest) != (model, digest):
            made.append(Draft(Entity(user=user, type=type, id=id), said, digest, row.changed_at))
    return sorted(made, key=lambda draft: draft.entity.id), [id for id in ids if id not in rows]


def text_of(content: Mapping[str, Any]) -> str:
    """What is embedded of an entity: its fields by name, in the order of the names."""
    lines = (
        f"{name}: {value if isinstance(value, str) else json.dumps(value, sort_keys=True)}"
        for name, value in sorted(content.items())
        if value not in (None, "", [], {})
    )
    return "\n".join(lines)[:MAX_CHARS]


def keep(made: Sequence[tuple[Draft, Sequence[float]]], model: str) -> list[Entity]:
    """Store the vectors; those of entities that were changed or removed meanwhile are not, and are returned.

    The entity's row is locked while its vector is written, so no change of it slips in between.
    """
    passed = []
    with database().write() as connection:
        for draft, vector in made:
            of = select(entities.c.changed_at).where(_is(entities, draft.entity)).with_for_update()
            if connection.scalar(of) != draft.changed_at:
                passed.append(draft.entity)
                continue
            row = draft.entity.model_dump() | {"model": model, "digest": draft.digest, "vector": list(vector)}
            put(connection, vectors, row)
    return passed


def forget(entity: Entity) -> bool:
    """Remove an entity's vector; whether there was one."""
    with database().write() as connection:
        return connection.execute(delete(vectors).where(_is(vectors, entity))).rowcount > 0


def sweep() -> int:
    """Remove the vectors of entities that are gone; how many."""
    e, v = entities.c, vectors.c
    there = exists().where(e.user == v.user, e.type == v.type, e.id == v.id)
    with database().write() as connection:
        return connection.execute(delete(vectors).where(~there)).rowcount


def nearest(user: str, vector: Sequence[float], *, model: str, limit: int = 10) -> list[tuple[Entity, float]]:
    """A user's entities by the cosine distance (0 to 2) of their vectors to this one, the nearest first.

    pgvector does it where its extension is in the database (``CREATE EXTENSION vector``); else every vector of the
    user is read.  The same entities in the same order.
    """
    with database().read() as connection:
        found = _by_pgvector if _has_pgvector(connection) else _by_reading
        return found(connection, user, vector, model, limit)


def _has_pgvector(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return False
    return connection.scalar(text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")) is not None


class _PgVector(UserDefinedType[Any]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "vector"


def _by_pgvector(
    connection: Connection, user: str, vector: Sequence[float], model: str, limit: int
) -> list[tuple[Entity, float]]:
    v = vectors.c
    given = cast(bindparam("given", json.dumps(list(vector))), _PgVector())
    same = and_(v.user == user, v.model == model, func.cardinality(v.vector) == len(vector))
    # MATERIALIZED: vectors of another length must be gone before they are compared.
    inner = select(v.user, v.type, v.id, v.vector).where(same).cte("mine").prefix_with("MATERIALIZED")
    distance = cast(inner.c.vector, _PgVector()).op("<=>", return_type=Float())(given).label("distance")
    found = select(inner.c.user, inner.c.type, inner.c.id, distance).subquery("measured")
    rows = connection.execute(
        select(found)
        .where(found.c.distance != float("nan"))
        .order_by(found.c.distance, found.c.type, found.c.id)
        .limit(limit)
    )
    return [(Entity(user=row.user, type=row.type, id=row.id), row.distance) for row in rows]


def _by_reading(
    connection: Connection, user: str, vector: Sequence[float], model: str, limit: int
) -> list[tuple[Entity, float]]:
    v = vectors.c
    measured = []
    for row in connection.execute(select(v.type, v.id, v.vector).where(v.user == user, v.model == model)):
        if len(row.vector) != len(vector):
            continue
        lengths = math.hypot(*row.vector) * math.hypot(*vector)
        if lengths:  # nothing is near a vector of zeros
            measured.append((1 - sum(map(mul, row.vector, vector)) / lengths, row.type, row.id))
    return [(Entity(user=user, type=type, id=id), distance) for distance, type, id in heapq.nsmallest(limit, measured)]


def _is(of: Any, entity: Entity) -> Any:
    return and_(of.c.user == entity.user, of.c.type == entity.type, of.c.id == entity.id)
