"""Things made once per process."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from actors.per_process import per_process

ROOT = Path(__file__).parents[2]


def test_it_is_made_once_however_many_threads_ask_first() -> None:
    barrier, made, got = threading.Barrier(8), list[object](), list[object]()

    @per_process
    def thing() -> object:
        made.append(object())
        return made[-1]

    def ask() -> None:
        barrier.wait()
        got.append(thing())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert got == made * 8


def test_a_failure_is_not_remembered() -> None:
    outcomes = [ValueError("not yet"), "here"]

    @per_process
    def thing() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)

    with pytest.raises(ValueError, match="not yet"):
        thing()
    assert thing() == "here"


def test_a_forked_child_makes_its_own_even_when_the_parent_was_making_one() -> None:
    # In an interpreter of its own: this one has threads, and forking with threads is what is being tested.
    script = """
import os, sys, threading
from actors.per_process import per_process

making, go = threading.Event(), threading.Event()
first = True

@per_process
def thing():
    global first
    if first:
        first = False
        making.set()
        go.wait()
    return os.getpid()

maker = threading.Thread(target=thing)
maker.start()
making.wait()
child = os.fork()
if child == 0:
    os._exit(0 if thing() == os.getpid() else 1)
status = os.waitpid(child, 0)[1]
go.set()
maker.join()
assert thing() == os.getpid()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, timeout=30, check=True)
