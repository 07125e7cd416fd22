"""Queue ``tool-execution``: what language models may have done, each a declared tool.

A tool is a function of one pydantic model, under ``@tool``; the model is its schema, for the language model as well
(:func:`described`).  It must be safe to repeat, as everything a worker runs.
"""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_type_hints
from zoneinfo import ZoneInfo

import dramatiq
import structlog
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python
from sqlalchemy import select

from actors.database import add, database
from actors.events import Name
from actors.inbox import zone_name
from actors.priorities import Priority
from actors.tables import tool_calls
from errors import Failure
from ledger.text import clean_json

A = TypeVar("A", bound=BaseModel)

log = structlog.get_logger(__name__)


class ToolError(Exception):
    """Raised by a tool: what was asked cannot be done, and the one who asked is to be told why."""


class ToolCall(BaseModel):
    """What a model wants done."""

    model_config = ConfigDict(frozen=True)

    id: Name  #: names the call for ever: the second one of an id gets the first one's outcome
    tool: Name
    arguments: dict[str, Any] = Field(default_factory=dict)


class Outcome(BaseModel):
    """What became of it: ``result``, or ``error`` in words for the model."""

    ok: bool
    result: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A declared tool."""

    name: str
    description: str
    arguments: type[BaseModel]
    run: Callable[[Any], Any]


TOOLS: dict[str, Tool] = {}


def tool(function: Callable[[A], Any]) -> Callable[[A], Any]:
    """Declare a tool: its name is the function's, its description the docstring's first line."""
    [arguments] = [kind for name, kind in get_type_hints(function).items() if name != "return"]
    name = function.__name__
    TOOLS[name] = Tool(name, (function.__doc__ or "").strip().partition("\n")[0], arguments, function)
    return function


def described() -> list[dict[str, Any]]:
    """The tools as OpenAI's ``tools`` parameter takes them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.arguments.model_json_schema(),
            },
        }
        for tool in TOOLS.values()
    ]


@dramatiq.actor(
    queue_name="tool-execution", priority=Priority.HIGH, time_limit=30_000, max_retries=2, store_results=True
)
def execute_tool(call: ToolCall) -> Outcome:
    """Run a declared tool, and keep its outcome.

    Arguments that do not fit, and what a tool declines with ``ToolError``, are outcomes: the model that asked is to
    read them.  A tool that is not declared is a dead letter; any other error is tried again.

    Idempotent: a call's first outcome is kept, and is the outcome of every other run.
    """
    known = TOOLS.get(call.tool)
    if known is None:
        raise Failure(f"there is no tool {call.tool!r}; there are {', '.join(sorted(TOOLS))}", code="unknown_tool")
    if (kept := outcome_of(call.id)) is not None:
        log.info("tool.known", id=call.id)
        return kept
    outcome = _run(known, call.arguments)
    with database().write() as connection:
        kept = clean_json(outcome.model_dump(mode="json"))
        add(connection, tool_calls, {"id": call.id, "tool": call.tool, "outcome": kept})
    return outcome_of(call.id) or outcome


def outcome_of(id: str) -> Outcome | None:
    """What became of a call, or None."""
    with database().read() as connection:
        kept = connection.scalar(select(tool_calls.c.outcome).where(tool_calls.c.id == id))
    return None if kept is None else Outcome.model_validate(kept)


def _run(known: Tool, arguments: dict[str, Any]) -> Outcome:
    try:
        given = known.arguments.model_validate(arguments)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_url=False))
        return Outcome(ok=False, error="; ".join(wrong))
    try:
        return Outcome(ok=True, result=to_jsonable_python(known.run(given)))
    except ToolError as error:
        return Outcome(ok=False, error=str(error))


# -- the tools

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


class Calculation(BaseModel):
    expression: Annotated[str, Field(max_length=500, description="numbers, + - * / %, parentheses")]


@tool
def calculate(given: Calculation) -> float:
    """Calculate an arithmetic expression."""
    try:
        found = _value(ast.parse(given.expression.strip(), mode="eval").body)
        if not math.isfinite(found):
            raise OverflowError("too large")
        return found
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError(f"{given.expression!r} is no arithmetic expression") from error
    except (ZeroDivisionError, OverflowError) as error:
        raise ToolError(f"{given.expression!r}: {error}") from error


def _value(node: ast.AST) -> float:
    # No powers, no names, no calls: nothing that takes long, or reaches out.
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.BinOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
        case ast.UnaryOp() if type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](_value(node.operand))
    raise ValueError(type(node).__name__)


class Moment(BaseModel):
    at: Annotated[AwareDatetime, Field(description="ISO 8601 with an offset")]
    timezone: Annotated[str, AfterValidator(zone_name)]


@tool
def local_time(given: Moment) -> datetime:
    """Say what the clocks of a time zone show at a moment."""
    return given.at.astimezone(ZoneInfo(given.timezone))
