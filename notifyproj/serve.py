"""Runs the whole service on one machine, for script/server: prepare, start, watch, stop.

The processes themselves belong to supervisord, which restarts what dies (script/supervisord.conf).
This parent exists for what supervisord cannot do: it joins the embedded servers before the first step
and leaves them after the last process has ended, turns one signal, whoever it was sent to, into an
orderly stop, and cleans up after a predecessor that was killed with -9.
"""

# ruff: noqa: S603, T201 - It talks to the person who started it, and runs our own programs.

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil  # type: ignore[import-untyped]
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

CHECKOUT = Path(__file__).resolve().parent.parent
#: Every process of a stack has this variable, with the stack's var folder as its value.
MARK = "NOTIFYPROJ_STACK"
#: Seconds between two looks at the embedded servers.
WATCH_INTERVAL = 5.0
#: Seconds a stop may take: the longest stopwaitsecs in supervisord.conf and a little more.
STOPS_WITHIN = 80.0
#: Seconds without an answer after which a person is told where to look.
SLOW_START = 30.0
#: What supervisord says while all is well, and its wish for another user, which root has not.
ROUTINE = re.compile(rb"^\S+ \S+ (INFO (?!exited|gave up)|CRIT Supervisor is running as root)")


class ServeError(Exception):
    """The service cannot be started; the message tells a person what to do about it."""


@dataclass(frozen=True)
class Stack:
    """The processes that serve one var folder at one address."""

    var: Path
    host: str
    port: int
    stream_port: int

    @classmethod
    def from_environment(cls) -> Stack:
        """Read the settings, which also read `.env`, and start or join the embedded servers."""
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")
        port = _port("PORT", "8000")
        stream_port = _port("STREAM_PORT", str(port + 10))
        try:
            var = settings.VAR_DIR
        except ImproperlyConfigured as error:
            raise ServeError(str(error)) from None
        (var / "log").mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(var, os.environ.get("HOST", "127.0.0.1"), port, stream_port)

    @property
    def url(self) -> str:
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
        host = everywhere.get(self.host, self.host)
        return f"http://{host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        ports = {"PORT": str(self.port), "STREAM_PORT": str(self.stream_port)}
        place = ports | {"HOST": self.host, "VAR_DIR": str(self.var)}
        return os.environ | place | {MARK: str(self.var), "PYTHONUNBUFFERED": "1"}

    def processes(self) -> list[psutil.Process]:
        """All that was started for this var folder and still runs, whoever started it."""
        return [
            process
            for process in psutil.process_iter()
            if process.pid != os.getpid() and _environment_of(process).get(MARK) == str(self.var)
        ]

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the only script/server of this var folder; the lock ends with us, however we end."""
        with (self.var / "serve.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                where = lock.read().strip()
                raise ServeError(
                    f"script/server already runs in this folder: {where}. Stop it with Ctrl-C there, "
                    "or give this one a folder and a port of its own: "
                    "VAR_DIR=var/second PORT=8001 script/server"
                ) from None
            lock.truncate(0)
            lock.write(f"{self.url} (process {os.getpid()})")
            lock.flush()
            yield

    def refuse_occupied_ports(self) -> None:
        """Look before the start: granian shares its port (SO_REUSEPORT), and so would say nothing."""
        for name, port in (("PORT", self.port), ("STREAM_PORT", self.stream_port)):
            if self._is_free(port):
                continue
            who = _listener(port)
            raise ServeError(
                f"Port {port} is in use{f' by {who}' if who else ''}. "
                f"Choose another one: {name}={port + 1} script/server"
            )

    def _is_free(self, port: int) -> bool:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, port))
            except PermissionError:
                raise ServeError(f"Port {port} is reserved for root. Try PORT=8000.") from None
            except OSError:
                return False
        # BSD and macOS let us bind beside somebody who listens on all addresses.
        with socket.socket(family) as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.host, port)) != 0

    def end_leftovers(self) -> None:
        """End what a script/server that was killed with -9 left running."""
        leftovers = self.processes()
        if not leftovers:
            return
        print(f"Ending {len(leftovers)} processes that a killed script/server left behind.")
        for process in leftovers:
            _send(process, signal.SIGTERM)
        deadline = time.monotonic() + STOPS_WITHIN
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.kill()

    def kill(self) -> None:
        for process in self.processes():
            _send(process, signal.SIGKILL)

    def prepare(self) -> None:
        """Bring the database and the static files up to date; make the first operator and key."""
        began = time.monotonic()
        print("Bringing the database and the static files up to date ...", end=" ", flush=True)
        self._manage(
            ["migrate", "--verbosity", "0"], ["collectstatic", "--noinput", "--verbosity", "0"]
        )
        print(f"{time.monotonic() - began:.1f} s", flush=True)
        self._manage(["first_start", "--url", self.url])

    def _manage(self, *commands: list[str]) -> None:
        """Run commands of manage.py side by side, and wait for all; also when Ctrl-C ends them."""
        children = [
            subprocess.Popen(
                [sys.executable, "manage.py", *command],
                cwd=CHECKOUT,
                env=self.environment,
                start_new_session=True,
            )
            for command in commands
        ]
        try:
            results = [child.wait() for child in children]
        except KeyboardInterrupt:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
            raise
        for command, result in zip(commands, results, strict=True):
            if result != 0:
                raise ServeError(f"manage.py {command[0]} failed; the lines above say why.")

    def run(self) -> int:
        """Run supervisord until it ends or somebody stops us; leave no process behind."""
        supervisor = subprocess.Popen(
            [
                *(sys.executable, "-m", "supervisor.supervisord"),
                *("--configuration", str(CHECKOUT / "script" / "supervisord.conf")),
            ],
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C in the terminal reaches us alone, and we pass it on once.
            start_new_session=True,
        )
        assert supervisor.stdout is not None
        relay = threading.Thread(target=_relay, args=[supervisor.stdout], daemon=True)
        relay.start()
        try:
            self._watch(supervisor)
            print("supervisord has ended by itself; the lines above may say why.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return self._stop(supervisor)
        finally:
            self.kill()
            relay.join(timeout=2)

    def _stop(self, supervisor: subprocess.Popen[bytes]) -> int:
        print(
            "\nStopping: calls that have begun are finished. Ctrl-C again stops at once.",
            flush=True,
        )
        began = time.monotonic()
        supervisor.terminate()
        try:
            supervisor.wait(STOPS_WITHIN)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            supervisor.kill()
            supervisor.wait()
            return 130
        print(f"Stopped in {time.monotonic() - began:.1f} s.", flush=True)
        return 0

    def _watch(self, supervisor: subprocess.Popen[bytes]) -> None:
        """Say when the service answers; from then on, start embedded servers again that died."""
        self._say_when_ready(supervisor)
        embedded = sys.modules.get("notifyproj.embedded")
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                supervisor.wait(WATCH_INTERVAL)
                return
            if embedded is None:
                continue
            try:
                embedded.revive()
            except embedded.EmbeddedError as error:
                print(error, file=sys.stderr, flush=True)

    def _say_when_ready(self, supervisor: subprocess.Popen[bytes]) -> None:
        began, told = time.monotonic(), False
        while supervisor.poll() is None:
            if _answers(f"{self.url}/readyz"):
                took = time.monotonic() - began
                print(
                    f"Ready after {took:.1f} s: {self.url}   (Ctrl-C stops everything)", flush=True
                )
                return
            if not told and time.monotonic() - began > SLOW_START:
                told = True
                print(f"Still waiting for {self.url}/readyz. More in {self.var}/log.", flush=True)
            time.sleep(0.1)


def _port(name: str, default: str) -> int:
    """Raises ServeError."""
    port = os.environ.get(name, default)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ServeError(f"{name} is {port!r}; it must be a number from 1 to 65535.")
    return int(port)


def _answers(url: str) -> bool:
    # No proxy: this is our own machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _relay(lines: IO[bytes]) -> None:
    """Pass the processes' lines on. A pipe in between: ours may be a socket, or closed at any time."""
    for line in lines:
        if ROUTINE.match(line):
            continue
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def _environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):
        return {}


def _listener(port: int) -> str | None:
    """Who listens on the port, if this account may know."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("inet"):
            is_it = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if is_it and connection.pid:
                words = psutil.Process(connection.pid).cmdline()
                return f"process {connection.pid} ({' '.join(words)[:80]})"
    return None


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def main() -> int:
    """Prepare and run until a signal. 0 after an orderly stop."""
    # Also SIGINT, which a shell that started us in the background has set to be ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        stack = Stack.from_environment()
        with stack.claimed():
            stack.end_leftovers()
            stack.refuse_occupied_ports()
            stack.prepare()
            return stack.run()
    except ServeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
