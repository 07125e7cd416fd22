"""Runs one server and makes sure nothing of it outlives its owner.

    python leash.py OWNER_PID DIRECTORY COMMAND...

The leash adopts what the server leaves behind (it is a "child subreaper": RabbitMQ's epmd daemonises) and kills all
of it as soon as the server exits or the owner is gone, even by kill -9; then DIRECTORY is removed too.  TERM, INT and
QUIT are passed on to the server; USR1 kills everything at once.  No privileges are needed, but Linux is.
"""

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def kill_descendants() -> None:
    """Kill children until there are none: the children of a killed process become ours, and are next."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        for pid in children.read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def main(owner_pid: int, directory: str, command: list[str]) -> int:
    owner = os.pidfd_open(owner_pid)
    if os.getppid() != owner_pid:  # it died before we looked, and its number may be another's by now
        return 1
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    server_exit = os.pidfd_open(server.pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, lambda number, _: server.send_signal(number))
    signal.signal(signal.SIGUSR1, lambda *_: server.kill())

    ready, _, _ = select.select([owner, server_exit], [], [])
    code = server.poll()
    kill_descendants()
    if owner in ready:
        shutil.rmtree(directory, ignore_errors=True)
    return code if code is not None else -signal.SIGKILL


if __name__ == "__main__":
    sys.exit(abs(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])))
