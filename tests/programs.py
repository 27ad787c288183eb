"""Programs of the system that a test starts for itself, on loopback and on ports that are free."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from subprocess import Popen

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


def wait_for_port(port: int, server: Popen[bytes], said: Callable[[], str]) -> None:
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
