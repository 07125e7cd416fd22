"""Places where a test may kill, stop or break the process, each named by the step just done.

``hit("finish.committed")`` does nothing at all unless ``HARELINE_FAILPOINTS`` is set when this
module is imported.  Its value is a comma-separated list of ``name=action`` or ``name=action@n``
(only at the n-th hit):

    kill            SIGKILL to this very process
    raise           RuntimeError
    wait:PATH       create PATH.hit, then wait until PATH.go exists

Only tests set it; the docs list the names in ``docs/guarantees.md``.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

_SPEC = os.environ.get("HARELINE_FAILPOINTS", "")


def _nothing(name: str) -> None:
    """The failpoint of production: no lookup, no lock."""


def _arm(spec: str) -> Callable[[str], None]:
    armed: dict[str, tuple[str, int | None]] = {}
    for part in filter(None, (p.strip() for p in spec.split(","))):
        name, _, action = part.partition("=")
        action, _, nth = action.partition("@")
        armed[name] = (action, int(nth) if nth else None)
    hits: dict[str, int] = {}
    lock = threading.Lock()

    def hit(name: str) -> None:
        if name not in armed:
            return
        action, nth = armed[name]
        with lock:
            hits[name] = hits.get(name, 0) + 1
            if nth is not None and hits[name] != nth:
                return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "raise":
            raise RuntimeError(f"failpoint {name}")
        elif action.startswith("wait:"):
            path = Path(action.removeprefix("wait:"))
            path.with_suffix(".hit").touch()
            while not path.with_suffix(".go").exists():
                time.sleep(0.01)
        else:
            raise ValueError(
                f"HARELINE_FAILPOINTS: unknown action {action!r} for {name!r}; use kill, raise or wait:PATH"
            )

    return hit


hit: Callable[[str], None] = _arm(_SPEC) if _SPEC else _nothing
