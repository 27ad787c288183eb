"""The stack's processes: started, killed, frozen, and started again when they die, as a process manager does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

#: Seconds a process has from SIGTERM to its end; script/supervisord.conf gives as many.
STOPS_WITHIN = 75.0
#: Seconds between two looks whether a process has died.
LOOK_EVERY = 0.1


class Process:
    """One process and, unless it is told to stay down, its successors."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        revived: bool,
    ) -> None:
        self.name, self.command, self.environment, self.log = name, command, environment, log
        self.revived = revived
        self.starts = 0
        self._change = threading.Lock()
        self.start()

    def start(self) -> None:
        """In a session of its own, so that nobody's Ctrl-C is meant for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def revive(self) -> None:
        """Start it again when it has died by itself, or by us. For the stack's supervising thread."""
        with self._change:
            if self.revived and not self.is_alive:
                self.start()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._send(signal.SIGKILL)
        self._process.wait(timeout=STOPS_WITHIN)

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def terminate(self) -> float:
        """SIGTERM, as at a deployment: its successor is started as soon as it has ended. Returns the seconds."""
        began, ending = time.monotonic(), self._process
        self._send(signal.SIGTERM)
        ending.wait(timeout=STOPS_WITHIN)
        return time.monotonic() - began

    def stop(self) -> float:
        """SIGTERM, for good. Returns the seconds until its end; after STOPS_WITHIN it is killed."""
        with self._change:
            self.revived = False
        began = time.monotonic()
        self._send(signal.SIGCONT)
        self._send(signal.SIGTERM)
        self.wait_or_kill()
        return time.monotonic() - began

    def wait_or_kill(self) -> None:
        """Let it end in time; then nothing of its session is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOPS_WITHIN)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(timeout=STOPS_WITHIN)

    def wait(self, seconds: float) -> None:
        """Until it has ended by itself. Raises TimeoutError."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} has not ended after {seconds:.0f} s") from None

    def _send(self, number: signal.Signals) -> None:
        if self.is_alive:
            self._process.send_signal(number)


class Supervisor(threading.Thread):
    """Starts again what has died, as supervisord does with `autorestart`."""

    def __init__(self, processes: list[Process]) -> None:
        super().__init__(name="supervisor", daemon=True)
        self._processes = processes
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(LOOK_EVERY):
            for process in tuple(self._processes):
                process.revive()

    def end(self) -> None:
        self._ended.set()
        self.join()
