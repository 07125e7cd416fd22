"""A producer under way while a test breaks things; runs in a process of its own."""

import json
import select
import sys
import time
from collections.abc import Callable

from errors import LedgerUnavailable


def steadily(send: Callable[[str], object], prefix: str, *, pause_s: float = 0.01) -> None:
    """Send ``prefix``-0, ``prefix``-1 … until standard input ends, then print what became of it as one line of JSON.

    ``sent``: the lines whose send returned; ``refused``: those whose send raised LedgerUnavailable; ``slowest_s``.
    Anything else that is raised ends the process.
    """
    sent: list[str] = []
    refused: list[str] = []
    slowest_s = 0.0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], pause_s)[0]:
        line = f"{prefix}-{len(sent) + len(refused)}"
        began = time.monotonic()
        try:
            send(line)
            sent.append(line)
        except LedgerUnavailable:
            refused.append(line)
        slowest_s = max(slowest_s, time.monotonic() - began)
    print(json.dumps({"sent": sent, "refused": refused, "slowest_s": slowest_s}))
