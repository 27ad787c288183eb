"""PostgreSQL and Valkey that a drill may kill, freeze and restart: its own, joined by nobody.

Binaries, accounts and command lines are those of notifyproj/embedded.py. What is not taken from there is the
joining: a process that joined would start a dead server again, and a drill must be the only one to do that.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg
import redis

from notifyproj import embedded

#: Seconds a server has to answer; crash recovery included.
PATIENCE = 60.0


class Server:
    """One server. It stays down when it is down, until `start`."""

    _program: embedded._Server
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and wait until it answers. Returns the seconds that took. Raises TimeoutError."""
        began = time.monotonic()
        self._process = self._program._launch()
        wait_until(self._program.answers, PATIENCE, f"{self._program.title} does not answer")
        return time.monotonic() - began

    @property
    def answers(self) -> bool:
        return self._program.answers()

    def stop(self) -> None:
        """The orderly way."""
        self.thaw()
        self._program.stop()
        self._reap()

    def kill(self) -> None:
        """kill -9 of all its processes, as a power loss leaves them."""
        for process in self._program.processes():
            embedded._send(process, signal.SIGKILL)
        self._reap()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nobody answers. The main process first, so that it starts no other."""
        for process in self._all():
            embedded._send(process, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._all():
            embedded._send(process, signal.SIGCONT)

    def _all(self) -> list[psutil.Process]:
        main = self._program.process()
        others = [process for process in self._program.processes() if process != main]
        return [main, *others] if main else others

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=PATIENCE)


class Postgres(Server):
    """A cluster, with a database for each drill."""

    def __init__(self, var: Path) -> None:
        self._program: embedded._Postgres = embedded._Postgres(_place(var))

    def restart_immediately(self) -> float:
        """`pg_ctl restart -m immediate`: no checkpoint, sessions cut, recovery from the log. Returns the seconds down."""
        began = time.monotonic()
        process = self._program.process()
        assert process is not None
        embedded._send(process, signal.SIGQUIT)
        self._reap()
        self.start()
        return time.monotonic() - began

    def create_database(self, name: str, template: str = "template0") -> None:
        with self.connect("postgres") as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def connect(self, database: str) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection with autocommit, for what a drill asks the database itself."""
        return psycopg.connect(self._program._conninfo(database), autocommit=True)

    def url(self, database: str) -> str:
        """For DATABASE_URL."""
        address = self._program.address
        return f"postgres://{address.user}@{quote(address.socket_dir, safe='')}/{database}"


class Valkey(Server):
    """Wake-ups and rate counters; in memory, so that every death is a loss."""

    def __init__(self, var: Path) -> None:
        self._program: embedded._Valkey = embedded._Valkey(_place(var))

    @property
    def url(self) -> str:
        """For REDIS_URL."""
        return f"unix://{self._program.socket}?db=0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def accept_writes(self) -> None:
        """However it was made to refuse them."""
        with self.client() as client:
            client.config_set("maxmemory", "0")
            client.replicaof("NO", "ONE")


def _place(var: Path) -> embedded._Place:
    var = var.resolve()
    embedded._make_var(var)
    return embedded._Place.of(var)


def wait_until(reached: Callable[[], bool], seconds: float, otherwise: str) -> float:
    """Poll until it holds. Returns the seconds it took. Raises TimeoutError, saying `otherwise`."""
    began = time.monotonic()
    while not reached():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{otherwise} (waited {seconds:.0f} s)")
        time.sleep(0.05)
    return time.monotonic() - began
