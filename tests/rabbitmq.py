"""A real RabbitMQ of our own: on loopback, on ports that are free, with everything it keeps in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

#: /usr/sbin is not on everybody's path. Debian's `rabbitmq-server` there changes to a user of its own and knows one
#: server only; the script behind it, which comes first here, does not.
PLACES = os.pathsep.join(["/usr/lib/rabbitmq/bin", os.environ.get("PATH", ""), "/usr/sbin"])

#: Seconds one may take to start, on a busy machine.
START = 60


def program(name: str) -> str:
    """Where it is; skips the tests that ask for one that is not there."""
    found = shutil.which(name, path=PLACES)
    if found is None:
        pytest.skip(f"needs the program {name}")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes], said: Callable[[], str]) -> None:
    """Until the server takes connections; fails with what it said when it ends or takes too long."""
    end = time.monotonic() + START
    while not _takes_connections(port):
        assert server.poll() is None, said()
        assert time.monotonic() < end, said()
        time.sleep(0.1)


def _takes_connections(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


USER, PASSWORD = "notifyproj", "not-a-secret"


class RabbitMQ:
    """Runs from `with` to its end; may be killed and frozen, and goes on with what it had stored."""

    def __init__(self, folder: Path, certificate: dict[str, Path]) -> None:
        self._folder = folder
        self._program = program("rabbitmq-server")
        self._ports = {name: free_port() for name in ("amqp", "amqps", "names", "nodes")}
        self._write_configuration(certificate)
        self._names: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self._ports['amqp']}//"

    @property
    def tls_url(self) -> str:
        return f"amqps://{USER}:{PASSWORD}@127.0.0.1:{self._ports['amqps']}//"

    def _write_configuration(self, certificate: dict[str, Path]) -> None:
        lines = {
            "listeners.tcp.default": f"127.0.0.1:{self._ports['amqp']}",
            "listeners.ssl.default": f"127.0.0.1:{self._ports['amqps']}",
            "ssl_options.certfile": certificate["certfile"],
            "ssl_options.keyfile": certificate["keyfile"],
            "default_user": USER,
            "default_pass": PASSWORD,
        }
        text = "".join(f"{name} = {value}\n" for name, value in lines.items())
        (self._folder / "rabbitmq.conf").write_text(text)
        (self._folder / "plugins").write_text("[].")

    def _environment(self) -> dict[str, str]:
        """Its cookie is in HOME; epmd, which tells nodes where others are, is one of our own."""
        folder = self._folder
        return os.environ | {
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._ports["names"]),
            "RABBITMQ_NODENAME": f"notifyproj-{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._ports["amqp"]),
            "RABBITMQ_DIST_PORT": str(self._ports["nodes"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "environment.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }

    def __enter__(self) -> Self:
        names = [program("epmd"), "-address", "127.0.0.1", "-port", str(self._ports["names"])]
        self._names = subprocess.Popen(names, start_new_session=True)
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        assert self._names is not None
        self._names.kill()
        self._names.wait()

    def start(self) -> None:
        """Returns once it takes connections."""
        with (self._folder / "output").open("ab") as output:
            self._server = subprocess.Popen(
                [self._program],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_for_port(self._ports["amqp"], self._server, (self._folder / "output").read_text)

    def kill(self) -> None:
        """As a power cut does: nothing is said to anybody."""
        if self._server is not None:
            self._signal(signal.SIGKILL)
            self._server.wait()
            self._server = None

    def freeze(self) -> None:
        """Connections stay and are taken; nothing is answered."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        """To the script and to the server that it runs."""
        assert self._server is not None
        with suppress(ProcessLookupError):
            os.killpg(self._server.pid, number)
