"""How many notifications a second can be accepted, beside an empty view of the same server.

Embedded stack, commit synchronous, live key, limiter and logging on, to a user who exists.
"""

from __future__ import annotations

import json
import statistics

from bench import load, stack
from bench.figures import Figures


def run(connections: int, seconds: float, rounds: int) -> Figures:
    _, key = stack.make_key()
    port = stack.free_port()
    body = json.dumps(
        {
            "user_id": "user123",
            "channel": "email",
            "title": "Your order has shipped",
            "message": "Hello, your order is on its way. It should reach you within two days.",
            "category": "shipping",
            "metadata": {"order": 4711},
        }
    ).encode()
    with stack.processes(stack.web(port)):
        stack.wait_for(f"http://127.0.0.1:{port}/readyz")
        load.post(port, "/api/v1/notifications", body, key, connections, 1)  # warm up
        empty, create = [], []
        for number in range(1, rounds + 1):
            empty.append(load.post(port, "/bench/empty", body, key, connections, seconds))
            create.append(load.post(port, "/api/v1/notifications", body, key, connections, seconds))
            print(f"round {number}: empty {_line(empty[-1])}   create {_line(create[-1])}")
    assert all(set(result.statuses) == {"201"} for result in create), create
    ratio = statistics.median(c.rate / e.rate for c, e in zip(create, empty, strict=True))
    return {f"create, of an empty DRF view, at {connections} connections": ratio}


def _line(result: load.Load) -> str:
    return f"{result.rate:7,.0f}/s (p50 {result.p50:.1f} ms, p99 {result.p99:.1f} ms)"
