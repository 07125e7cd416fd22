"""What a supervisor does on a machine that has no room for another process."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from cli.supervisor import Supervisor


@pytest.mark.parametrize("short_of", ["processes", "threads"])
def test_a_worker_that_cannot_be_started_is_tried_again_and_keeps_no_other_back(
    monkeypatch: pytest.MonkeyPatch, short_of: str
) -> None:
    supervisor = Supervisor(2)
    supervisor._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    first, second = supervisor._places
    refused: list[bool] = []

    def once(real: Any, error: Exception) -> Any:
        def refuse(*args: Any, **kwargs: Any) -> Any:
            if not refused:
                refused.append(True)
                raise error
            return real(*args, **kwargs)

        return refuse

    if short_of == "processes":
        short = once(subprocess.Popen, BlockingIOError("Resource temporarily unavailable"))
        monkeypatch.setattr("cli.children.subprocess.Popen", short)
    else:
        short = once(threading.Thread, RuntimeError("can't start new thread"))
        monkeypatch.setattr("cli.children.threading.Thread", short)
    supervisor._start_due()
    assert first.child is None
    assert second.child is not None
    patience = supervisor._patience_s()
    assert patience is not None
    assert 0 < patience <= 0.5
    first.start_at = 0.0
    supervisor._start_due()
    for place in (first, second):
        assert place.child is not None
        place.child.kill()
        place.child.process.wait(10)
