"""Clients of the inbox's stream that do as docs/inbox.md tells them to: each ends up with what the database has.

Each is a thread: it loads the list, opens the stream after the list's position, applies what comes, and comes back with the
number of the last event when the stream breaks. What it is told to load anew, it does.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

#: Seconds after which a client whose stream broke comes back, and without a sign of life gives it up.
COME_BACK_AFTER = 0.2
SILENCE = 20.0
#: Notifications in one call, where many are sent.
IN_A_CALL = 400


@dataclass
class Copy:
    """An inbox as a client has it: for each item, whether it is read."""

    position: int = -1
    unread: int = 0
    items: dict[str, bool] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)


class Listener(threading.Thread):
    def __init__(self, web: str, stream_port: int, token: str) -> None:
        super().__init__(daemon=True)
        self._web, self._port, self._token = web, stream_port, token
        self.copy = Copy()
        self.streams = self.resets = self.gaps = self.repeats = 0
        self._ended, self._open = threading.Event(), threading.Event()
        self._open.set()
        self._connection: http.client.HTTPConnection | None = None

    # -- for the drill ----------------------------------------------------------------------------------

    def cut(self) -> None:
        """As a network that goes away: nothing more is said on this connection."""
        connection = self._connection
        if connection and connection.sock:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """As a laptop that is shut: it knows what it knew."""
        self._open.clear()
        self.cut()

    def come_back(self) -> None:
        self._open.set()

    def end(self) -> None:
        self._ended.set()
        self._open.set()
        self.cut()

    # -- what a client does -----------------------------------------------------------------------------

    def run(self) -> None:
        while not self._ended.is_set():
            with suppress(OSError, http.client.HTTPException, ValueError):
                if self.copy.position < 0:
                    self._load()
                self._listen()
            self._ended.wait(COME_BACK_AFTER)
            self._open.wait()

    def _load(self) -> None:
        """The whole list, newest first. Its position is that of the first page: what came since, the stream brings."""
        copy, url = Copy(), f"{self._web}/api/v1/inbox?limit=250"
        while url:
            request = urllib.request.Request(url, headers=self._headers())
            with urllib.request.urlopen(request, timeout=10) as answer:
                page = json.load(answer)
            if copy.position < 0:
                copy.position, copy.unread = page["position"], page["unread"]
            for item in page["results"]:
                self._put(copy, item)
            url = page["next"]
        self.copy = copy

    def _listen(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SILENCE)
        self._connection = connection
        try:
            headers = self._headers() | {"Last-Event-ID": str(self.copy.position)}
            connection.request("GET", "/api/v1/inbox/stream", headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                return
            self.streams += 1
            for event, data in _events(response):
                self._take(event, data)
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}

    def _take(self, event: str, data: dict[str, Any]) -> None:
        if event == "end":
            return
        copy = self.copy
        position = data["position"]
        if event == "reset":
            self.resets += 1
            return self._load()
        if event == "count":
            copy.unread = data["unread"] if position == copy.position else copy.unread
            return
        if position != copy.position + 1:
            self.gaps += position > copy.position + 1
            self.repeats += position <= copy.position
            return
        copy.position, copy.unread = position, data["unread"]
        self._apply(event, data)

    def _apply(self, event: str, data: dict[str, Any]) -> None:
        copy = self.copy
        if event in ("created", "updated"):
            self._put(copy, data["notification"])
        elif event == "removed":
            copy.items.pop(data["id"], None)
        elif event == "read_all":
            for name in copy.items:
                copy.items[name] |= copy.positions[name] <= data["read_up_to"]

    @staticmethod
    def _put(copy: Copy, item: dict[str, Any]) -> None:
        copy.positions[item["id"]] = item["position"]
        copy.items[item["id"]] = item["read_at"] is not None
        if item["archived_at"]:
            del copy.items[item["id"]]


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    fields: dict[str, str] = {}
    while line := response.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
            continue
        if "data" in fields:
            yield fields["event"], json.loads(fields["data"])
        fields = {}


class Load(threading.Thread):
    """Sends to the people, and reads, archives and reads all in their place, until it is told to end."""

    def __init__(self, web: str, key: str, tokens: dict[str, str], rate: float) -> None:
        super().__init__(daemon=True)
        self._web, self._key, self._tokens, self._rate = web, key, tokens, rate
        self._ended = threading.Event()
        self.calls: dict[str, int] = {}
        self.sent = self.failed = 0

    def end(self) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        turn = 0
        began = time.monotonic()
        while not self._ended.wait(max(0.0, began + turn / self._rate - time.monotonic())):
            turn += 1
            person = f"person-{turn % len(self._tokens)}"
            try:
                self._do(turn, person)
            except (OSError, ValueError):
                self.failed += 1

    def _do(self, turn: int, person: str) -> None:
        send = {"channel": "in_app", "user_id": person, "message": f"message {turn}"}
        self._call("POST", "/notifications", self._key, send)
        self.sent += 1
        if turn % 3 == 0:
            self._mark(person, ("read", "unread", "archived")[turn % 9 // 3])
        if turn % 50 == 0:
            self._read_all(person)

    def burst(self, person: str, count: int) -> None:
        """So many to one person, in few calls. Raises OSError."""
        message = {"channel": "in_app", "user_id": person, "message": "one of very many"}
        for at in range(0, count, IN_A_CALL):
            many = [message] * min(IN_A_CALL, count - at)
            self._call("POST", "/notifications/batch", self._key, {"notifications": many})

    def _mark(self, person: str, status: str) -> None:
        token = self._tokens[person]
        page = self._call("GET", "/inbox?limit=5", token)
        for item in page["results"][-1:]:
            self._call("PATCH", f"/inbox/{item['id']}", token, {"status": status})

    def _read_all(self, person: str) -> None:
        token = self._tokens[person]
        position = self._call("GET", "/inbox/count", token)["position"]
        self._call("POST", "/inbox/read-all", token, {"up_to": position})

    def _call(self, method: str, path: str, token: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self._web}/api/v1{path}", content, headers, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            self.calls[method] = self.calls.get(method, 0) + 1
            return json.load(answer)
