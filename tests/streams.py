"""The real stream process, for the tests of what browsers and other clients get from it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from notifications.inbox.entry import PATH
from tests.surroundings import surroundings


class StreamServer:
    """`granian --interface asgi notifications.streaming.app:application`, for this test's database and Redis."""

    def __init__(self, **environment: Any) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}{PATH}"
        self.output = ""
        self._environment = {name: str(value) for name, value in environment.items()}
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        command = (
            "--interface",
            "asgi",
            "--workers",
            "1",
            "--no-ws",
            "--workers-kill-timeout",
            "5",
        )
        place = ("--host", "127.0.0.1", "--port", str(self.port), "--backpressure", "4096")
        self._process = subprocess.Popen(
            [_GRANIAN, *command, *place, "notifications.streaming.app:application"],
            env=os.environ | surroundings() | self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # So that a kill reaches granian and its worker.
            start_new_session=True,
        )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/livez", timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """As by kill -9, granian and its worker alike."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In good order."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        os.killpg(process.pid, number) if number == signal.SIGKILL else process.terminate()
        self.output += process.communicate(timeout=20)[0]


_GRANIAN = os.path.join(os.path.dirname(sys.executable), "granian")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def start_stream(
    live_server: Any, settings: Any, wait_until: Callable[..., None]
) -> Iterator[Callable[..., StreamServer]]:
    """Starts the stream for this test's database; `settings.STREAM_URL` then leads to it. Pages of `live_server` may use it."""
    servers: list[StreamServer] = []

    def start(**environment: Any) -> StreamServer:
        own = {"PUBLIC_URL": live_server.url, "STREAM_LOOK_EVERY": 0.5, "LOG_LEVEL": "INFO"}
        server = StreamServer(**own | environment)
        servers.append(server)
        server.start()
        wait_until(server.answers, seconds=30)
        settings.STREAM_URL = server.url
        return server

    yield start
    for server in servers:
        server.stop()
