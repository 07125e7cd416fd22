"""What is typed: durations, JSON arguments, names that may be misspelt, yes or no."""

import getpass
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from cli.exits import BadInput
from ledger.states import State
from ledger.who import Who
from middleware import durations

if TYPE_CHECKING:
    from ledger.search import Filter


def milliseconds(text: str) -> int:
    """``500ms``, ``30s``, ``5m``, ``2h``, ``1h30m``, ``7d``; a bare number is seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", text.strip()):
        return round(float(text) * 1_000)
    try:
        return durations.milliseconds(text)
    except ValueError as error:
        raise BadInput(str(error)) from None


def json_of(option: str, text: str, kind: type[Any], example: str) -> Any:
    """The JSON given to an option; ``BadInput`` unless it is of this kind."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{option} {text!r} is not JSON ({error}); write for example {option} '{example}'") from None
    if not isinstance(value, kind):
        raise BadInput(f"{option} {text!r} is JSON of the wrong kind; write for example {option} '{example}'")
    return value


def filter_of(
    query: Iterable[str] | None,
    *,
    queue: str | None = None,
    state: State | None = None,
    actor: str | None = None,
) -> "Filter":
    """What a query asks for, further restricted by options.  Raises ``BadQuery``."""
    from ledger.search import parse  # with it come the views

    found = parse(" ".join(query or ()))
    given: dict[str, Any] = {"queues": queue, "states": state, "actors": actor}
    for name, value in given.items():
        if value is not None and getattr(found, name):
            raise BadInput(f"the query and an option both name {name}; use one of them")
    changes: dict[str, Any] = {name: (value,) for name, value in given.items() if value is not None}
    return replace(found, **changes)


def operator() -> Who:
    """Who does this, for the journal and the audit trail."""
    try:
        return Who(getpass.getuser(), "cli")
    except (KeyError, OSError):  # a container's user without a name
        return Who(str(os.getuid()), "cli")


def agreed(question: str, yes: bool) -> bool:
    """Ask on a terminal; without one ``--yes`` is needed.  False: the person said no."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(f"{question} Nobody can be asked here; add --yes")
    return typer.confirm(question)
