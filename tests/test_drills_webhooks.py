"""The drills' vendors report until they are heard, and the judge is told of what bounced only when it was."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path

import pytest

from drills import evidence, webhooks
from drills.webhooks import Teller, mailgun_event


async def tell(record: Path, event: str, *answers: bytes) -> list[bytes]:
    """One event, to a web that answers like this, one after the other; the connection ends after an empty answer.

    Returns the bodies that came.
    """
    left, bodies = list(answers), []
    ended = asyncio.Semaphore(0)

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                bodies.append(await reader.readexactly(length))
                answer = left.pop(0)
                if not answer:
                    break
                writer.write(b"HTTP/1.1 %b Answer\r\ncontent-length: 0\r\n\r\n" % answer)
        writer.close()
        await writer.wait_closed()
        ended.release()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    teller = Teller(f"http://127.0.0.1:{port}", record / "webhooks.jsonl", connections=1)
    await teller.tell_mailgun("a", mailgun_event(event, "1", "a@example.com"))
    teller.close()
    for _ in range(1 + answers.count(b"")):
        await ended.acquire()
    server.close()
    return bodies


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REPEATED_AFTER", 0.01)


def test_a_webhook_is_told_again_until_it_is_answered_with_2xx(tmp_path: Path) -> None:
    bodies = asyncio.run(tell(tmp_path, "delivered", b"503", b"", b"204"))
    told = evidence.webhooks(tmp_path)
    assert [(each.status, each.was_taken) for each in told] == [
        *((503, False), (None, False)),
        (204, True),
    ]
    assert len({each.event_id for each in told}) == 1
    assert len(bodies) == 3


def test_each_time_the_same_event_is_signed_anew(tmp_path: Path) -> None:
    bodies = map(json.loads, asyncio.run(tell(tmp_path, "delivered", b"500", b"200")))
    first, second = bodies
    assert first["event-data"] == second["event-data"]
    assert first["signature"]["token"] != second["signature"]["token"]


@pytest.mark.parametrize(("event", "bounced"), [("failed", {"a"}), ("delivered", set())])
def test_what_a_vendor_has_reported_as_bounced_is_known_to_the_judge(
    tmp_path: Path, event: str, bounced: set[str]
) -> None:
    asyncio.run(tell(tmp_path, event, b"200"))
    assert evidence.bounced(tmp_path) == bounced


def test_a_bounce_of_which_nobody_heard_excuses_nothing(tmp_path: Path) -> None:
    (tmp_path / "webhooks.jsonl").write_text(
        '{"ref": "a", "event": "failed", "event_id": "1", "status": 403, "at": 0, "seconds": 0}\n'
    )
    assert evidence.bounced(tmp_path) == set()
