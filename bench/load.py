"""Load generators that cost little themselves: as many requests as possible, or so many a second."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

#: Id -> when it should have been posted (seconds since 1970).
Posted = dict[UUID, float]

#: Connections of a paced load.
PACED_CONNECTIONS = 16


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


def paced(
    port: int,
    key: str,
    rate: float,
    seconds: float = 600.0,
    until: Callable[[], bool] | None = None,
    priority: str = "normal",
) -> Posted:
    """POST so many notifications a second, however long each takes, for so long or until something holds."""
    posted: Posted = {}
    ended = threading.Event()
    begun = time.time() + 0.1
    threads = [
        threading.Thread(
            target=_post_in_turn,
            args=(port, key, priority, posted, ended),
            kwargs={"first": begun + number / rate, "every": PACED_CONNECTIONS / rate},
        )
        for number in range(PACED_CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    while time.time() < begun + seconds and not (until and until()):
        time.sleep(0.1)
    ended.set()
    for thread in threads:
        thread.join()
    return posted


def _post_in_turn(
    port: int,
    key: str,
    priority: str,
    posted: Posted,
    ended: threading.Event,
    *,
    first: float,
    every: float,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = {"user_id": "ada", "recipient": "ada@example.com", "channel": "email"}
    body |= {"message": "Hello", "priority": priority}
    due = first
    while not ended.wait(max(due - time.time(), 0)):
        connection.request("POST", "/api/v1/notifications", json.dumps(body), headers)
        answer = json.load(connection.getresponse())
        posted[UUID(answer["id"])] = due
        due += every
    connection.close()


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
