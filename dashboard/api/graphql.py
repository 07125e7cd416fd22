"""/graphql: one question with many parts, for clients that speak it."""

from typing import Any

import structlog
from fastapi import Response
from pydantic import Field

from dashboard.api.models import Asks, Input, Text
from dashboard.api.router import Routes, may
from dashboard.problems import kind_of, problem, urn
from dashboard.services import Opened
from errors import HarelineError

log = structlog.get_logger(__name__)
router = Routes(tags=["graphql"])


class Question(Input):
    query: Text = Field(min_length=1, max_length=20_000, examples=["{ queueStats { queueName pending } }"])
    variables: dict[str, Any] | None = None
    operationName: Text | None = Field(default=None, max_length=200)  # noqa: N815  so it is called there
    extensions: dict[str, Any] | None = None


class Answer(Input):
    data: dict[str, Any] | None


class Faulty(Answer):
    """What went wrong; without anything that did, there is no such list."""

    errors: list[dict[str, Any]] = Field(
        min_length=1, description="Each with the `type` of its problem in `extensions`."
    )


@router.post("/graphql", response_model=Answer | Faulty, responses=may(501))
def query_graphql(opened: Opened, asks: Asks, given: Question) -> Answer | Response:
    """Ask in GraphQL: `queueStats`, `recentFailedJobs(limit)`, and the mutation `enqueue`."""
    try:
        from strawberry.exceptions import StrawberryException

        from dashboard.graphql import Asked, schema
    except ModuleNotFoundError as error:
        return problem(501, f"GraphQL is not installed ({error.name}): pip install 'hareline[graphql]'")
    try:
        result = schema.execute_sync(
            given.query,
            variable_values=given.variables,
            operation_name=given.operationName,
            context_value=Asked(opened, asks),
        )
    except StrawberryException as error:
        return problem(422, str(error))
    if result.errors:  # as what was refused: under a key nothing of it was done, and none of it is remembered
        answer = Faulty(data=result.data, errors=[_worded(error) for error in result.errors])
        return Response(answer.model_dump_json(), media_type="application/json")
    return Answer(data=result.data)


def _worded(error: Any) -> dict[str, Any]:
    """An error of ours with the type of its problem; one that nobody foresaw without its words."""
    said: dict[str, Any] = dict(error.formatted)
    cause = error.original_error
    if isinstance(cause, HarelineError):
        name, kind = kind_of(cause)
        return said | {"extensions": {"type": urn(name), "status": kind.status, "remedy": kind.remedy}}
    if cause is not None:
        log.error("request.failed", path="/graphql", exc_info=cause)
        return said | {"message": "An error that nobody foresaw.", "extensions": {"type": urn("internal-error")}}
    return said
