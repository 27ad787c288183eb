"""How many notifications a second can be accepted, beside an empty view of the same server.

Embedded stack, commit synchronous, live key, limiter and logging on, to a user who exists. The two take turns, and
each ratio is the median of the rounds'. Requests a second count everything on the machine: the web processes,
PostgreSQL, Redis and the load itself; on one connection, mostly the wait for the disk at COMMIT. The processor time
of the web processes alone (`by CPU`) moves less on a busy machine.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from bench import load, stack
from bench.figures import Figures
from bench.load import Load

CONNECTIONS = (1, 16, 64)
BODY = json.dumps(
    {
        "user_id": "user123",
        "channel": "email",
        "title": "Your order has shipped",
        "message": "Hello, your order is on its way. It should reach you within two days.",
        "category": "shipping",
        "metadata": {"order": 4711},
    }
).encode()
EMPTY, CREATE = "/bench/empty", "/api/v1/notifications"


@dataclass(frozen=True)
class Measured:
    """Answers a second, times in ms, and the web processes' processor time for each answer in microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float


class Server:
    """The web server under load."""

    def __init__(self, pid: int, port: int, key: str) -> None:
        self.port, self.key = port, key
        web = psutil.Process(pid)
        self._processes = [web, *web.children(recursive=True)]

    def measure(self, path: str, connections: int, seconds: float) -> Measured:
        expected = "201" if path == CREATE else "200"
        return self.measured(
            lambda: load.post(self.port, path, BODY, self.key, connections, seconds),
            seconds,
            expected,
        )

    def measured(self, load: Callable[[], Load], seconds: float, expected: str) -> Measured:
        """A load of so many seconds, all of whose answers have this status."""
        before = self._cpu()
        found = load()
        assert set(found.statuses) == {expected}, found.statuses
        cpu = (self._cpu() - before) / (found.rate * seconds) * 1e6
        return Measured(found.rate, found.p50, found.p99, cpu)

    def _cpu(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return sum(each.user + each.system for each in times)


def run(seconds: float, rounds: int) -> Figures:
    _, key = stack.make_key()
    port = stack.free_port()
    with stack.processes(stack.web(port)) as (web,):
        stack.wait_for(f"http://127.0.0.1:{port}/readyz")
        server = Server(web.pid, port, key)
        server.measure(CREATE, connections=16, seconds=1)  # warm up
        figures: Figures = {}
        for connections in CONNECTIONS:
            figures |= _side_by_side(server, connections, seconds, rounds)
    return figures


def _side_by_side(server: Server, connections: int, seconds: float, rounds: int) -> Figures:
    pairs = []
    for _ in range(rounds):
        empty, create = (server.measure(path, connections, seconds) for path in (EMPTY, CREATE))
        print(f"{connections} connections: empty {line(empty)}   create {line(create)}")
        pairs.append((empty, create))
    at = "1 connection" if connections == 1 else f"{connections} connections"
    median = statistics.median
    return {
        f"{at}: create/empty": median(c.rate / e.rate for e, c in pairs),
        f"{at}: by CPU": median(e.cpu / c.cpu for e, c in pairs),
        f"{at}: create /s": median(c.rate for _, c in pairs),
        f"{at}: p50 ms": median(c.p50 for _, c in pairs),
        f"{at}: p99 ms": median(c.p99 for _, c in pairs),
        f"{at}: empty /s": median(e.rate for e, _ in pairs),
        f"{at}: p50 ms of empty": median(e.p50 for e, _ in pairs),
        f"{at}: p99 ms of empty": median(e.p99 for e, _ in pairs),
    }


def line(found: Measured) -> str:
    """To be printed while it goes on."""
    return (
        f"{found.rate:7,.0f}/s (p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms, "
        f"web {found.cpu:,.0f} us)"
    )
