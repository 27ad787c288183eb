"""Load generators that cost little themselves: as many requests as possible, or so many a second."""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import selectors
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
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
    return send(port, [request_of(path, body, key)], connections, seconds)


def request_of(path: str, body: bytes, key: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Send these requests as fast as they are answered, again and again, from two processes."""
    shares = [connections - connections // 2, connections // 2]
    jobs = [
        (port, requests[number::2] or requests, share, seconds)
        for number, share in enumerate(shares)
        if share
    ]
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
    port: int, requests: Sequence[bytes], connections: int, seconds: float
) -> tuple[list[float], dict[str, int]]:
    following = itertools.cycle(requests)
    selector = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        started[connection] = time.perf_counter()
        connection.sendall(next(following))
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
            connection.sendall(next(following))
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


#: What is posted, where nothing else is said.
E_MAIL = {"user_id": "ada", "recipient": "ada@example.com", "channel": "email", "message": "Hello"}


def paced(
    port: int,
    key: str,
    rate: float,
    seconds: float = 600.0,
    until: Callable[[], bool] | None = None,
    priority: str = "normal",
    took: list[float] | None = None,
    connections: int = PACED_CONNECTIONS,
    body: Callable[[], dict[str, str]] = E_MAIL.copy,
) -> Posted:
    """POST so many notifications a second, however long each takes, for so long or until something holds.

    `took` is given the milliseconds from when each should have been posted to its answer; `body` makes each.
    """
    posted: Posted = {}
    answered = [] if took is None else took
    ended = threading.Event()
    begun = time.time() + 0.1
    threads = [
        threading.Thread(
            target=_post_in_turn,
            args=(port, key, priority, posted, answered, ended, body),
            kwargs={"first": begun + number / rate, "every": connections / rate},
        )
        for number in range(connections)
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
    took: list[float],
    ended: threading.Event,
    body: Callable[[], dict[str, str]],
    *,
    first: float,
    every: float,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    due = first
    while not ended.wait(max(due - time.time(), 0)):
        content = json.dumps(body() | {"priority": priority})
        connection.request("POST", "/api/v1/notifications", content, headers)
        answer = json.load(connection.getresponse())
        posted[UUID(answer["id"])] = due
        took.append((time.time() - due) * 1000)
        due += every
    connection.close()


@contextmanager
def offered(
    port: int, requests: Sequence[bytes], rate: float, connections: int
) -> Iterator[Counter[str]]:
    """While the block runs, send so many a second from a process of its own, as far as connections are free.

    Yields the answers by status, counted when the block has ended.
    """
    context = multiprocessing.get_context("spawn")
    begun, ended, counted = context.Event(), context.Event(), context.SimpleQueue()
    job = (port, requests, rate, connections, begun, ended, counted)
    process = context.Process(target=_offer, args=job)
    process.start()
    begun.wait(60)
    statuses: Counter[str] = Counter()
    try:
        yield statuses
    finally:
        ended.set()
        statuses.update(counted.get())
        process.join()


def _offer(
    port: int,
    requests: Iterable[bytes],
    rate: float,
    connections: int,
    begun: Event,
    ended: Event,
    counted: SimpleQueue[Counter[str]],
) -> None:
    free = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    for connection in free:
        selector.register(connection, selectors.EVENT_READ)
    statuses: Counter[str] = Counter()
    following, sent, start = iter(requests), 0, time.monotonic()
    begun.set()
    while not ended.is_set() or len(free) < connections:
        due = int((time.monotonic() - start) * rate) if not ended.is_set() else 0
        while free and sent < due and (request := next(following, None)):
            free.pop().sendall(request)
            sent += 1
        for key, _ in selector.select(timeout=0.005):
            statuses[_read_answer(key.fileobj)] += 1  # type: ignore[arg-type]
            free.append(key.fileobj)  # type: ignore[arg-type]
    counted.put(statuses)


def percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
