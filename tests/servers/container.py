"""The tests in a container, where no server is installed and none can be: Docker brings a Debian that has both."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.servers.install import CannotInstall, install

IMAGE = "python:3.11-bookworm"
#: Everything: in processes beside each other, each with servers of its own, since most tests wait most of the time.
ALL = ("--numprocesses", "4", "--dist", "worksteal")
ROOT = Path(__file__).parents[2]


def run_tests(arguments: Sequence[str]) -> NoReturn:
    """Become pytest, here if the servers are or can be installed, else in a container, else say what to install."""
    try:
        install()
    except CannotInstall as error:
        if not _docker():
            raise SystemExit(f"{error}\nor start Docker: the tests then run in a container") from None
        print(f"{error}\nDocker is here: the tests run in a container", file=sys.stderr)
        command = container(arguments)
        os.execvp(command[0], command)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *(arguments or ALL)])


def container(arguments: Sequence[str]) -> list[str]:
    """The command that copies this checkout, mounted read-only, into a fresh Debian and runs ``make test`` there."""
    script = (
        "cp -r /checkout /tmp/hareline && cd /tmp/hareline && rm -rf .venv && "
        f"make test ARGS={shlex.quote(shlex.join(arguments))}"
    )
    variables = [name for name in os.environ if name.startswith("HARELINE_TEST_") or name == "CI"]
    passed = [part for name in variables for part in ("--env", name)]
    # --init reaps what the killed servers of the tests leave behind.
    return ["docker", "run", "--rm", "--init", *passed, "--volume", f"{ROOT}:/checkout:ro", IMAGE, "bash", "-c", script]


def _docker() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
