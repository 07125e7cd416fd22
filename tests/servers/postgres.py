"""A private PostgreSQL."""

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psycopg
from psycopg import sql

from tests.servers.process import Process, free_port

# What a test may lose is only this machine's power, never a killed process: the page cache outlives it.
FAST: Mapping[str, str] = MappingProxyType({"fsync": "off", "max_connections": "200"})


class Postgres:
    """One cluster on 127.0.0.1, user ``hareline`` without a password.  Not started until :meth:`start`."""

    def __init__(self, options: Mapping[str, str] = FAST) -> None:
        self._bin = binaries()
        self._process = Process("postgres")
        self._options = dict(options)
        self._data = self._process.directory / "data"
        self.port = free_port()

    @property
    def data(self) -> Path:
        """The folder of its files."""
        return self._data

    def start(self) -> None:
        """Idempotent; returns when it takes connections."""
        if not self._data.exists():
            self._initialise()
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self._options}
        arguments = [part for key, value in options.items() for part in ("-c", f"{key}={value}")]
        command = [*_as_nobody(), str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port), *arguments]
        self._process.start(command, self._environment(), self._answers, timeout_s=30)

    def stop(self) -> None:
        """Fast shutdown: sessions are broken off, everything is on disk."""
        self._process.stop(signal.SIGINT, timeout_s=30)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL, to the postmaster and every backend."""
        self._process.kill()

    def remove(self) -> None:
        self._process.remove()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://hareline@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str | None = None) -> str:
        """A new database, as a copy of ``template`` (a name, with nobody connected to it) if given; returns its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        query = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(query.format(sql.Identifier(name), sql.Identifier(template or "template0")))
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(url.rpartition("/")[2])))

    def terminate_connections(self, url: str) -> int:
        """Break off every connection to the database of this URL; returns how many."""
        query = sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()"
        )
        return self._execute(query.format(sql.Literal(url.rpartition("/")[2])))

    def _execute(self, query: sql.Composed) -> int:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            return connection.execute(query).rowcount

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=2):
            return True
        return False

    def _initialise(self) -> None:
        home = self._process.directory
        if os.geteuid() == 0:
            shutil.chown(home, "nobody")
        initdb = [str(self._bin / "initdb"), "-D", str(self._data), "-U", "hareline", "-A", "trust", "--no-sync"]
        command = [*_as_nobody(), *initdb, "-E", "UTF8", "--locale=C.UTF-8"]
        subprocess.run(command, env=self._environment(), cwd=home, check=True, stdout=subprocess.DEVNULL)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self._process.directory), "LC_ALL": "C.UTF-8"}


def binaries() -> Path:
    """The newest installed PostgreSQL's; FileNotFoundError, saying what to do, if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    raise FileNotFoundError(
        "no PostgreSQL server is installed; run `make setup-servers`, or install PostgreSQL 13 or newer"
    )


def _as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
