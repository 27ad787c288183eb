"""The clients of the drill `stream`: they find a number that is missing, and one that comes twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from drills.listeners import Listener

Told = tuple[str, dict[str, Any]]


def item(name: str, position: int, *, read: bool = False, archived: bool = False) -> dict[str, Any]:
    at = "2030-01-01T00:00:00Z"
    return {
        "id": name,
        "position": position,
        "read_at": at if read else None,
        "archived_at": at if archived else None,
    }


def created(position: int, unread: int) -> Told:
    content = {"position": position, "unread": unread}
    return "created", content | {"notification": item(f"item-{position}", position)}


@contextmanager
def served(*events: Told) -> Iterator[tuple[int, list[str]]]:
    """Web and stream in one: an inbox that is at 1, and a stream that says this to the first who asks, then nothing.

    Yields the port, and the numbers after which the stream was asked for.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            if self.path.startswith("/api/v1/inbox/stream"):
                self.wfile.write(b"" if asked else as_stream(events))
                asked.append(self.headers["Last-Event-ID"])
            else:
                page = {"position": 1, "unread": 1, "next": None, "results": [item("item-1", 1)]}
                self.wfile.write(json.dumps(page).encode())

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def as_stream(events: tuple[Told, ...]) -> bytes:
    return "".join(
        f"event: {name}\nid: {data['position']}\ndata: {json.dumps(data)}\n\n"
        for name, data in events
    ).encode()


def listened(wait_until: Any, *events: Told) -> tuple[Listener, list[str]]:
    """What a client makes of it, from its start until it has come back for more."""
    with served(*events) as (port, asked):
        client = Listener(f"http://127.0.0.1:{port}", port, "token")
        client.start()
        wait_until(lambda: len(asked) > 1)
        client.end()
        client.join(10)
        return client, asked


def test_a_client_applies_what_it_hears_and_comes_back_with_the_last_number(
    wait_until: Any,
) -> None:
    client, asked = listened(
        wait_until,
        ("count", {"position": 1, "unread": 1}),
        created(2, 2),
        ("updated", {"position": 3, "unread": 1, "notification": item("item-1", 1, read=True)}),
        ("updated", {"position": 4, "unread": 1, "notification": item("item-1", 1, archived=True)}),
        created(5, 2),
        ("read_all", {"position": 6, "unread": 1, "read_up_to": 4}),
        ("removed", {"position": 7, "unread": 0, "id": "item-5"}),
    )
    assert asked[:2] == ["1", "7"]
    assert (client.copy.position, client.copy.unread) == (7, 0)
    assert client.copy.items == {"item-2": True}
    assert (client.gaps, client.repeats) == (0, 0)


def test_a_number_that_is_missing_is_found(wait_until: Any) -> None:
    client, _ = listened(wait_until, created(2, 2), created(4, 4))
    assert (client.gaps, client.repeats) == (1, 0)
    assert client.copy.position == 2


def test_a_number_that_comes_twice_is_found(wait_until: Any) -> None:
    client, _ = listened(wait_until, created(2, 2), created(2, 2))
    assert (client.gaps, client.repeats) == (0, 1)


def test_a_client_that_is_told_to_loads_its_list_anew(wait_until: Any) -> None:
    client, asked = listened(
        wait_until, created(2, 2), ("reset", {"position": 2_000, "unread": 900})
    )
    assert client.resets == 1
    # What the list says, and not what the stream did.
    assert asked[:2] == ["1", "1"]
    assert client.copy.items == {"item-1": False}
