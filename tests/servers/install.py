"""Installing the servers the tests run, where Debian's package manager can."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.servers import postgres, rabbitmq
from tests.servers.unpack import root_of

_PACKAGES: dict[str, Callable[[], Path]] = {"postgresql": postgres.binaries, "rabbitmq-server": rabbitmq.binaries}


class CannotInstall(Exception):
    """Raised when servers are missing and may not, or cannot, be installed; says what to install."""


def install() -> None:
    """Install what is missing; no service is started and no cluster made.  Idempotent.  Raises ``CannotInstall``.

    With ``HARELINE_TEST_RABBITMQ`` set, that RabbitMQ too.
    """
    if version := os.environ.get("HARELINE_TEST_RABBITMQ"):
        root_of(version)
    missing = {package: reason for package, find in _PACKAGES.items() if (reason := _absence(find))}
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if shutil.which("apt-get") is None:
        raise CannotInstall("\n".join(missing.values()))
    if os.geteuid() != 0:
        raise CannotInstall("\n".join([*missing.values(), f"for instance: sudo {' '.join(command)}"]))
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with ExitStack() as files:
        files.enter_context(_unless_it_exists("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"))
        files.enter_context(
            _unless_it_exists("/etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n")
        )
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        subprocess.run([*command, "-qq"], env=environment, check=True)


def _absence(find: Callable[[], Path]) -> str:
    try:
        find()
    except FileNotFoundError as error:
        return str(error)
    return ""


@contextmanager
def _unless_it_exists(name: str, text: str) -> Iterator[None]:
    path = Path(name)
    if path.exists():
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    try:
        yield
    finally:
        path.unlink()
