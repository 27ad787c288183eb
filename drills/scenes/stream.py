"""The inbox's stream breaks in every way, under load; every client ends with what the database has."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from contextlib import suppress

from drills.catalogue import drill
from drills.listeners import Listener, Load
from drills.processes import Process
from drills.run import Run
from drills.servers import wait_until
from drills.stack import Stack, _free_port

PEOPLE = 20
#: Open pages of each.
TABS = 3
#: Seconds between two faults at least, and the share of the clients that are back by then: some, not all.
BETWEEN = 0.8
SOME = 1 / 3
#: Messages for one who is away meanwhile: more than a stream tells one after the other.
BURST = 1_200
#: Seconds in which they have arrived.
BURST_ARRIVES_WITHIN = 10
#: Seconds that a stream process has to end in: granian is told as much.
ENDS_WITHIN = 10

# What an inbox is, told by the notifications alone.
_TRUTH = """
SELECT inbox.recipient_id, inbox.position, inbox.unread,
       coalesce(jsonb_object_agg(n.id, n.read_at IS NOT NULL) FILTER (WHERE n.archived_at IS NULL), '{}'),
       count(*) FILTER (WHERE n.read_at IS NULL AND n.archived_at IS NULL)
FROM notifications_inbox inbox JOIN notifications_notification n
    ON n.recipient_id = inbox.recipient_id AND n.live = inbox.live AND n.inbox_position IS NOT NULL
JOIN users_recipient recipient ON recipient.id = inbox.recipient_id
WHERE recipient.user_id = %s GROUP BY inbox.id
"""
_NUMBERED_WITH_GAPS = """
SELECT inbox_id FROM notifications_inboxevent GROUP BY inbox_id
HAVING count(*) <> max(number) OR count(DISTINCT number) <> count(*)
"""


@drill(
    "stream",
    number=42,
    breaks="kill -9 of the stream's process, of Redis, of all its connections, and SIGTERM as at a deployment, 50 times in "
    "turn, while 20 people with 3 pages each are sent, read and archive messages; one is away while 1,200 arrive",
    holds="every client ends with the database's list and count; no number twice, none missing; what was accepted is in "
    "an inbox; the pages of the one who was away load their lists anew; the process ends within 10 s",
)
def stream(run: Run) -> None:
    rounds = run.scale(50, 9)
    # A page comes back five times a second as long as nothing answers.
    with run.stack(INBOX_RATE_LIMIT="1000000/60") as stack:
        stack.web()
        stack.await_workers(stack.worker("worker"))
        port = _free_port()
        process = _start(stack, port)
        tokens = {f"person-{number}": _token(stack, f"person-{number}") for number in range(PEOPLE)}
        clients = {
            person: [Listener(stack.url, port, token) for _ in range(TABS)]
            for person, token in tokens.items()
        }
        everybody = [client for tabs in clients.values() for client in tabs]
        for client in everybody:
            client.start()
        load = Load(stack.url, run.servers.key, tokens, rate=40)
        load.start()
        time.sleep(3)
        for number in range(rounds // 2):
            _break(run, process, port, everybody, number)
        _be_away_for_long(run, load, clients["person-0"])
        for number in range(rounds // 2, rounds):
            _break(run, process, port, everybody, number)
        load.end()
        run.figure("rounds", rounds)
        run.figure("calls", sum(load.calls.values()))
        run.expect("the API answered all the time", load.failed == 0)
        stack.wait_until_quiet()
        _compare(run, stack, clients)
        arrived = stack.count("inbox_position IS NOT NULL")
        run.figure("arrived", arrived)
        run.expect("what was accepted has arrived", arrived == load.sent + BURST)
        breaches = stack.breaches()
        run.expect(f"the ledger's invariants hold (but {breaches})", not breaches)
        for client in everybody:
            client.end()
    run.figure("streams opened", sum(client.streams for client in everybody))
    run.figure("lists loaded anew", sum(client.resets for client in everybody))
    gaps, repeats = (sum(getattr(c, name) for c in everybody) for name in ("gaps", "repeats"))
    run.figure("gaps", gaps)
    run.figure("given twice", repeats)
    run.expect("no number is missing, none comes twice", gaps == repeats == 0)


def _start(stack: Stack, port: int) -> Process:
    """The stream, as script/server runs it."""
    process = stack.start(
        "stream", "granian", "--interface", "asgi", "--workers", "1", "--no-ws",
        "--respawn-failed-workers", "--workers-kill-timeout", "10", "--backpressure", "4096",
        "--host", "127.0.0.1", "--port", str(port), "notifications.streaming.app:application",
    )  # fmt: skip
    wait_until(lambda: _answers(port), 60, "the stream does not answer")
    return process


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2):
            return True
    except OSError:
        return False


def _token(stack: Stack, person: str) -> str:
    """As a backend makes it."""
    request = urllib.request.Request(
        f"{stack.url}/api/v1/users/{person}/inbox-tokens",
        b"{}",
        {"Authorization": f"Bearer {stack.servers.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        token: str = json.load(answer)["token"]
        return token


def _break(run: Run, process: Process, port: int, clients: list[Listener], number: int) -> None:
    opened = _opened(clients)
    match number % 4:
        case 0:
            # Its session: granian, and the process below it that holds the streams.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        case 1:
            run.servers.valkey.kill()
            time.sleep(BETWEEN)
            run.servers.valkey.start()
            opened -= len(clients)  # It breaks no stream.
        case 2:
            for client in clients:
                client.cut()
        case _:
            # Granian itself overhears a signal while its worker is still starting.
            wait_until(lambda: _answers(port), 60, "the stream does not answer")
            took = process.terminate()
            run.expect(
                f"the process ends when it is told to (took {took:.1f} s)", took < ENDS_WITHIN
            )
    time.sleep(BETWEEN)
    some = opened + len(clients) * SOME
    wait_until(lambda: _opened(clients) >= some, 60, "nobody comes back")


def _opened(clients: list[Listener]) -> int:
    return sum(client.streams for client in clients)


def _be_away_for_long(run: Run, load: Load, tabs: list[Listener]) -> None:
    """All pages of one person close; so much arrives that they are to load their lists anew when they are open again."""
    for tab in tabs:
        tab.leave()
    before = sum(tab.resets for tab in tabs)
    load.burst("person-0", BURST)
    time.sleep(BURST_ARRIVES_WITHIN)
    for tab in tabs:
        tab.come_back()
    with suppress(TimeoutError):
        wait_until(lambda: sum(tab.resets for tab in tabs) >= before + TABS, 30, "no reset")
    run.expect("who was away for long is told so", sum(tab.resets for tab in tabs) >= before + TABS)


def _compare(run: Run, stack: Stack, clients: dict[str, list[Listener]]) -> None:
    """Every client, with the database; and the count with what it counts."""
    wrong = 0
    for person, tabs in clients.items():
        [(_, position, unread, items, counted)] = stack.query(_TRUTH, person)
        run.expect(f"{person}'s count is exact ({unread}, {counted})", unread == counted)
        with suppress(TimeoutError):
            wait_until(lambda: all(tab.copy.position == position for tab in tabs), 30, "behind")  # noqa: B023
        wrong += sum(
            (tab.copy.position, tab.copy.unread, tab.copy.items) != (position, unread, items)
            for tab in tabs
        )
    run.figure("clients that differ from the database", wrong)
    run.expect("every client has the database's list and count", wrong == 0)
    gaps = stack.query(_NUMBERED_WITH_GAPS)
    run.expect(f"the changes are numbered without a gap (but {gaps})", not gaps)
