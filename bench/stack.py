"""The processes a benchmark measures: started, awaited, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.management import call_command

if TYPE_CHECKING:
    from users.models import Project

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def prepare_database(*, keep: bool = False) -> None:
    """A migrated database, emptied if not to `keep`; and a folder for static files, which nobody will ask for."""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    if not keep:
        call_command("flush", verbosity=0, interactive=False)


def make_key() -> tuple[Project, str]:
    """A project with a live key."""
    from users.models import ApiKey, Project

    project, _ = Project.objects.get_or_create(name="bench")
    key = ApiKey(project=project, name="bench")
    token = key.issue()
    key.save()
    return project, token


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def processes(
    *commands: Sequence[str], **environment: str
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Runs the commands (programs of the virtual environment) until the block ends."""
    log = (Path(os.environ["VAR_DIR"]) / "bench.log").open("ab")
    started = [
        subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
        for command in commands
    ]
    try:
        yield started
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(timeout=60)
        log.close()


def web(port: int, wsgi: str = "bench.wsgi:application") -> list[str]:
    """The web server as script/server runs it, with the empty view beside the real ones."""
    return [
        *("granian", "--interface", "wsgi", wsgi, "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "2", "--blocking-threads", "4"),
    ]


def stream(port: int) -> list[str]:
    """The inbox's stream as script/server runs it."""
    return [
        *("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port), "--no-ws"),
        *("--workers", "1", "--workers-kill-timeout", "10", "--backpressure", "4096"),
        "notifications.streaming.app:application",
    ]


def worker(name: str, queues: str = "high,normal,low", app: str = "bench.worker") -> list[str]:
    return ["celery", "-A", app, "worker", "-Q", queues, "-n", f"{name}@bench", "-l", "WARNING"]


def wait_for(url: str, seconds: float = 30) -> None:
    """Until the address answers with 200. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise TimeoutError(url)


def until(reached: Callable[[], bool], pause: float = 0.005, seconds: float = 120) -> None:
    """Until it holds. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(pause)
