"""A producer that lives as long as its system: code goes in, what it printed comes out."""

import contextlib
import io
import json
import sys
import traceback
from typing import IO, Any

from tests.acceptance.nursery import Program


class Shell:
    """One producer process for many sends; its names live on from one :meth:`run` to the next."""

    def __init__(self, line: IO[str], process: Program) -> None:
        self._line = line
        self._process = process

    def run(self, code: str) -> str:
        """Run code with the actors and ``log`` in scope; what it printed.  Raises AssertionError when it raises."""
        self._line.write(json.dumps(code) + "\n")
        self._line.flush()
        answer = json.loads(self._line.readline())
        assert answer["error"] is None, answer["error"]
        return str(answer["printed"])

    def close(self) -> None:
        """Let it end, and flush, as a producer does."""
        self._line.close()
        code = self._process.wait(60)
        self._process.close()
        assert code == 0


def serve(scope: dict[str, Any]) -> None:
    """In the producer process, until standard input ends."""
    answers = sys.stdout
    for line in sys.stdin:
        printed, error = io.StringIO(), None
        try:
            with contextlib.redirect_stdout(printed):
                exec(json.loads(line), scope)
        except BaseException:
            error = traceback.format_exc()
        print(json.dumps({"printed": printed.getvalue(), "error": error}), file=answers, flush=True)
