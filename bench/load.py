"""A load generator that costs little itself: raw sockets, one request in flight on each connection."""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What was measured: `rate` in answers a second, times in milliseconds."""

    rate: float
    p50: float
    p99: float
    statuses: dict[str, int]


def post(port: int, path: str, body: bytes, key: str, connections: int, seconds: float) -> Load:
    """POST the same body over and over, from two processes."""
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    shares = [connections - connections // 2, connections // 2]
    jobs = [(port, request, share, seconds) for share in shares if share]
    with multiprocessing.get_context("spawn").Pool(len(jobs)) as pool:
        results = pool.starmap(_drive, jobs)
    times = sorted(took for result in results for took in result[0])
    statuses: dict[str, int] = {}
    for _, counted in results:
        for status, count in counted.items():
            statuses[status] = statuses.get(status, 0) + count
    return Load(
        rate=len(times) / seconds,
        p50=statistics.median(times) * 1000,
        p99=times[int(len(times) * 0.99)] * 1000,
        statuses=statuses,
    )


def _drive(
    port: int, request: bytes, connections: int, seconds: float
) -> tuple[list[float], dict[str, int]]:
    selector = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        started[connection] = time.perf_counter()
        connection.sendall(request)
    times: list[float] = []
    statuses: dict[str, int] = {}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in selector.select(timeout=1):
            connection = key.fileobj  # type: ignore[assignment]
            status = _read_answer(connection)
            now = time.perf_counter()
            times.append(now - started[connection])
            statuses[status] = statuses.get(status, 0) + 1
            started[connection] = now
            connection.sendall(request)
    for connection in started:
        connection.close()
    return times, statuses


def _read_answer(connection: socket.socket) -> str:
    answer = connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head[9:12].decode()
