"""The end of one provider call.

A socket's time-out is per operation: a server that drips one byte a second never meets it. (Measured
with `EMAIL_TIMEOUT=3`: still blocked after 25 s.) A future's time-out would leave a thread behind that
may still send. So a watchdog shuts the call's sockets down at the deadline, and the blocked thread
wakes with an ordinary connection error. What it does not reach is name resolution and connecting;
those have time-outs of their own, and nothing has been sent by then, nor will be: a socket that is
connected too late is refused by `watch`.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from time import monotonic

from notifications.providers.base import Ambiguous, ProviderError, Temporary

#: The shortest time-out worth setting; zero would mean "non-blocking" to a socket.
_SHORTEST = 0.001

THREAD_NAME = "provider-deadlines"
_TOO_LATE = "the deadline passed before anything was sent"

_calls = threading.local()


class Deadline:
    """The end of one provider call, from first to last byte.

    A provider with connections wraps its call in `with deadline.enforced():`. Inside, its connections
    find the deadline by `current()` and tell it two things: which socket they use (`watch`), and that
    the whole message has been handed to the kernel (`message_left`). A provider without a socket does
    nothing and pays nothing.
    """

    __slots__ = ("_sockets", "at", "message_left")

    def __init__(self, seconds: float) -> None:
        self.at = monotonic() + seconds
        #: From here on, only the provider knows whether it has taken the message.
        self.message_left = False
        self._sockets: list[socket.socket] = []

    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at - monotonic())

    @property
    def expired(self) -> bool:
        return monotonic() >= self.at

    def within(self, seconds: float) -> float:
        """A time-out of so many seconds that does not reach beyond the deadline."""
        return max(_SHORTEST, min(seconds, self.remaining()))

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Make this the thread's current deadline, and keep it. After the block no socket is touched.

        Raises Temporary when it has passed already: then nothing is even connected.
        """
        if self.expired:
            raise Temporary("timed_out", _TOO_LATE)
        outer, _calls.deadline = current(), self
        watchdog = _watchdog()
        watchdog.add(self)
        try:
            yield
        finally:
            watchdog.discard(self)
            _calls.deadline = outer

    def watch(self, sock: socket.socket) -> None:
        """Shut this socket down when the time comes. Has it come, close it and raise TimeoutError."""
        self._sockets.append(sock)
        # In this order: a cut in between has either seen the socket or is seen here.
        if self.expired:
            _shut_down(sock)
            sock.close()
            raise TimeoutError(_TOO_LATE)

    def cut(self) -> None:
        """Wake whoever waits on the call's sockets."""
        for sock in tuple(self._sockets):
            _shut_down(sock)

    def failure(self, error: BaseException) -> ProviderError:
        """What a broken connection means for the message: Temporary until it has left, then Ambiguous."""
        if not self._sockets:
            return Temporary("connection_failed", _words(error))
        code = "timed_out" if self.expired or _timed_out(error) else "connection_lost"
        return (Ambiguous if self.message_left else Temporary)(code, _words(error))


def current() -> Deadline:
    """The deadline of the call this thread is in; one that never comes outside of any call."""
    deadline: Deadline | None = getattr(_calls, "deadline", None)
    return deadline or Deadline(inf)


def _shut_down(sock: socket.socket) -> None:
    """Shut the TCP connection down under whatever wraps it.

    Not by `SSLSocket.shutdown`, which takes the TLS layer off first: a `send` of the other thread could
    then go out in the clear.
    """
    with suppress(OSError):  # closed meanwhile: nobody waits there
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _timed_out(error: BaseException | None) -> bool:
    """Whether a time-out is at the root; smtplib and requests wrap it in errors of their own."""
    if error is None or isinstance(error, TimeoutError):
        return error is not None
    return _timed_out(error.__cause__ or error.__context__)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


class _Watchdog:
    """One sleeping thread per process that cuts the calls whose deadline has come.

    It sleeps until the earliest deadline it knew when it last looked. Calls normally end long before
    theirs and a later call has a later deadline, so a send costs two turns of an uncontended lock and
    hardly ever wakes the thread.
    """

    def __init__(self) -> None:
        self._active: set[Deadline] = set()
        self._changed = threading.Condition(threading.Lock())
        self._wakes_at = inf
        threading.Thread(target=self._run, name=THREAD_NAME, daemon=True).start()

    def add(self, deadline: Deadline) -> None:
        with self._changed:
            self._active.add(deadline)
            if deadline.at < self._wakes_at:
                self._wakes_at = deadline.at
                self._changed.notify()

    def discard(self, deadline: Deadline) -> None:
        with self._changed:
            self._active.discard(deadline)

    def _run(self) -> None:
        with self._changed:
            while True:
                self._cut_expired()
                self._wakes_at = min((deadline.at for deadline in self._active), default=inf)
                self._changed.wait(None if self._wakes_at == inf else self._wakes_at - monotonic())

    def _cut_expired(self) -> None:
        """Under the lock, so that a call that has ended keeps its sockets: the next one may have them."""
        for deadline in [deadline for deadline in self._active if deadline.expired]:
            deadline.cut()
            self._active.remove(deadline)


_starting = threading.Lock()
_running: _Watchdog | None = None


def _watchdog() -> _Watchdog:
    """The process's watchdog, started with the first call."""
    global _running
    with _starting:
        if _running is None:
            _running = _Watchdog()
        return _running


def _forget_watchdog() -> None:
    """A thread does not survive a fork, and a lock it held would never be released."""
    global _starting, _running
    _starting, _running = threading.Lock(), None


os.register_at_fork(after_in_child=_forget_watchdog)
