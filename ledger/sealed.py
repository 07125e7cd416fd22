"""Where in a message there are envelopes, and what each is bound to."""

import functools
import json
import operator
from collections.abc import Callable, Iterator
from typing import Any

from errors import Undecipherable
from ledger.sealing import Bound

#: The message option that says what is sealed: "all" of the arguments, as the first of them, or a list of paths.
SEALED = "sealed"
#: Message options that hold further messages.
NESTED = ("pipe_target", "group_completion_callbacks")

#: From ``args`` or ``kwargs`` down to a value.
Path = list[str | int]


def bound(actor: str, message_id: str, path: Path) -> Bound:
    """What a message's envelope is bound to; the path is empty when it is all of the arguments."""
    return ("message", actor, message_id, json.dumps(path))


def change(arguments: dict[str, Any], sealed: object, to: Callable[[str, Path], Any]) -> None:
    """Put something in the place of each envelope at these paths.  Raises ``Undecipherable`` where there is none.

    Parameters:
      arguments: ``args``, a list, and ``kwargs``; changed as they are.
    """
    paths: Any = [["args", 0]] if sealed == "all" else sealed if isinstance(sealed, list) else [sealed]
    for path in paths:
        try:
            *steps, last = path
            parent = functools.reduce(operator.getitem, steps, arguments)
            envelope = parent[last]
        except (LookupError, TypeError, ValueError) as error:
            raise Undecipherable(f"it has nothing at {path!r}, where it says it is encrypted; send it again") from error
        if not isinstance(envelope, str):
            raise Undecipherable(f"what it has at {path!r} is not encrypted, though it says so; send it again")
        parent[last] = to(envelope, [] if sealed == "all" else path)


def messages(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A message, and those in its options, that have envelopes; each as JSON has it."""
    options = message.get("options") or {}
    if SEALED in options:
        yield message
    for name in NESTED:
        value = options.get(name) or []
        for nested in [value] if isinstance(value, dict) else value:
            yield from messages(nested)
