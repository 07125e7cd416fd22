"""A private RabbitMQ."""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from tests.servers.process import Process, free_port

_USER, _PASSWORD = "hareline", "hareline"  # a server on loopback, for the length of one run


class RabbitMQ:
    """One node on 127.0.0.1 with its own epmd, cookie and data.  Not started until :meth:`start`.

    Parameters:
      extra_conf: lines for ``rabbitmq.conf``.
      root: a tree made by ``python -m tests.servers unpack``; None for the installed server.
    """

    def __init__(self, extra_conf: str = "", root: Path | None = None) -> None:
        self._bin = (root / "usr/lib/rabbitmq/bin") if root else binaries()
        self._erlang = (root / "usr/lib/erlang") if root else None
        self._process = Process("rabbitmq")
        self._home = self._process.directory
        self._extra_conf = extra_conf
        self._vhosts: list[str] = []
        self.port, self._management, self._dist, self._epmd = (free_port() for _ in range(4))
        self._ctl = free_port(count=4)
        (self._home / "conf.d").mkdir()
        (self._home / "enabled_plugins").write_text("[rabbitmq_management].\n")
        cookie = self._home / ".erlang.cookie"
        cookie.write_text(uuid.uuid4().hex)
        cookie.chmod(0o400)

    # -- its life

    @property
    def data(self) -> Path:
        """The folder of its files."""
        return self._home

    def start(self) -> None:
        """Idempotent; returns when AMQP and the management API answer."""
        (self._home / "rabbitmq.conf").write_text(self._conf())
        self._process.start([str(self._bin / "rabbitmq-server")], self._environment(), self._answers, timeout_s=90)

    def stop(self) -> None:
        """Stop in good order (up to 7 s: the management agent takes its time)."""
        self._process.stop(signal.SIGTERM, timeout_s=60)

    def kill(self) -> None:
        """SIGKILL, to the node and its epmd.

        Queues declared in the last two seconds or so may be gone afterwards: before Khepri, RabbitMQ confirms a
        declaration before it is on disk.
        """
        self._process.kill()

    def wipe(self) -> None:
        """Lose everything: queues, messages, policies.  It comes back with our user and the vhosts given out, empty."""
        self.kill()
        shutil.rmtree(self._home / "mnesia")
        self.start()
        for vhost in self._vhosts:
            self._make(vhost)

    def remove(self) -> None:
        self._process.remove()

    def set_conf(self, extra_conf: str) -> None:
        """Replace the extra lines of ``rabbitmq.conf``; they count from the next start."""
        self._extra_conf = extra_conf

    # -- its use

    @property
    def management_url(self) -> str:
        """The management API, with credentials, without a trailing slash."""
        return f"http://{_USER}:{_PASSWORD}@127.0.0.1:{self._management}"

    def url(self, vhost: str) -> str:
        return f"amqp://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}/{vhost}"

    def new_vhost(self) -> str:
        """An empty vhost where our user may do anything; returns its AMQP URL."""
        vhost = f"test-{uuid.uuid4().hex[:12]}"
        self._make(vhost)
        self._vhosts.append(vhost)
        return self.url(vhost)

    def delete_vhost(self, url: str) -> None:
        vhost = url.rpartition("/")[2]
        self._vhosts.remove(vhost)
        self.api("DELETE", f"/vhosts/{vhost}")

    def api(self, method: str, path: str, body: object = None) -> Any:
        """One request to the management API (``path`` starts after ``/api``); returns the decoded answer, or None."""
        token = base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._management}/api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = response.read()
        return json.loads(answer) if answer else None

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``; returns what it printed, raises ``CalledProcessError`` if it failed."""
        command = [str(self._bin / "rabbitmqctl"), "-q", *arguments]
        environment = self._environment()
        return subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        ).stdout

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.api("GET", "/overview")["rabbitmq_version"].split("."))

    def _make(self, vhost: str) -> None:
        self.api("PUT", f"/vhosts/{vhost}", {})
        self.api("PUT", f"/permissions/{vhost}/{_USER}", {"configure": ".*", "write": ".*", "read": ".*"})

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                if not connection.recv(1):
                    return False
            self.api("GET", "/overview")
            return True
        return False

    def _conf(self) -> str:
        return "\n".join(
            (
                f"listeners.tcp.1 = 127.0.0.1:{self.port}",
                "management.tcp.ip = 127.0.0.1",
                f"management.tcp.port = {self._management}",
                f"default_user = {_USER}",
                f"default_pass = {_PASSWORD}",
                "vm_memory_high_watermark.absolute = 1GB",
                "disk_free_limit.absolute = 50MB",
                "log.console = true",
                "log.console.level = warning",
                "log.file = false",
                self._extra_conf,
                "",
            )
        )

    def _environment(self) -> dict[str, str]:
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        search = os.environ["PATH"]
        environment = {
            "PATH": f"{self._erlang}/bin:{search}" if self._erlang else search,
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(self._home / "erl_crash.dump"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(self._ctl),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(self._ctl + 3),
            "RABBITMQ_CTL_ERL_ARGS": loopback,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            "RABBITMQ_MNESIA_BASE": str(self._home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._home / "log.d"),
            "RABBITMQ_PID_FILE": str(self._home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._home / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self._home / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._home / "advanced.config"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self._home / "generated"),
        }
        if self._erlang:
            environment |= {"ERL_ROOTDIR": str(self._erlang), "RABBITMQ_SYS_PREFIX": ""}
        return environment


def settle() -> None:
    """Wait until queues just declared would outlive the node's death.

    Killed within about a second of a queue's declaration, RabbitMQ forgets the queue and every confirmed message
    in it: 3.10 has not written Mnesia's log yet, 4.3 its list of Raft members.  It gives no signal to wait for.
    """
    time.sleep(3)


def binaries() -> Path:
    """The installed RabbitMQ's scripts, not Debian's wrappers (these insist on the rabbitmq user)."""
    debian = Path("/usr/lib/rabbitmq/bin")
    if (debian / "rabbitmq-server").exists():
        return debian
    on_path = shutil.which("rabbitmq-server")
    if on_path:
        return Path(on_path).resolve().parent
    raise FileNotFoundError(
        "no RabbitMQ server is installed; run `make setup-servers`, or install RabbitMQ 3.10 or newer"
    )
