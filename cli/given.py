"""What is typed: durations, JSON arguments, names that may be misspelt, yes or no."""

import difflib
import getpass
import json
import re
import sys
from collections.abc import Iterable
from typing import Any

import typer

from cli.exits import BadInput

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(text: str) -> int:
    """``500ms``, ``30s``, ``5m``, ``2h``, ``1h30m``, ``7d``; a bare number is seconds."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return round(float(text) * 1_000)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        raise BadInput(f"{text!r} is not a duration; write for example 500ms, 30s, 5m, 2h, 1h30m or 7d")
    return round(sum(float(n) * _UNITS_MS[unit] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)))


def json_of(option: str, text: str, kind: type[Any], example: str) -> Any:
    """The JSON given to an option; ``BadInput`` unless it is of this kind."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{option} {text!r} is not JSON ({error}); write for example {option} '{example}'") from None
    if not isinstance(value, kind):
        raise BadInput(f"{option} {text!r} is JSON of the wrong kind; write for example {option} '{example}'")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?`` or what there is."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"there are: {', '.join(known)}" if known else "there are none"


def operator() -> str:
    """Who does this, for the journal."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return "cli"


def agreed(question: str, yes: bool) -> bool:
    """Ask on a terminal; without one ``--yes`` is needed.  False: the person said no."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(f"{question} Nobody can be asked here; add --yes")
    return typer.confirm(question)
