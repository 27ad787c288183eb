"""`wake()` never fails and never blocks, and the last of a burst has a wake-up of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from notifications import waking
from notifications.waking import Waker


def test_a_burst_is_published_a_few_times_only(wait_until):
    published = []
    waker = Waker(published.append)
    for _ in range(1000):
        waker.mark("email.high")
    wait_until(lambda: published)
    time.sleep(0.1)
    assert 1 <= len(published) <= 10


def test_a_lane_marked_while_publishing_is_published_again(wait_until):
    published, publishing, go_on = [], threading.Event(), threading.Event()

    def slow_publish(lane):
        published.append(lane)
        publishing.set()
        go_on.wait(5)

    waker = Waker(slow_publish)
    waker.mark("email.high")
    publishing.wait(5)
    waker.mark("email.high")
    go_on.set()
    wait_until(lambda: published == [{"email.high"}, {"email.high"}])


def test_a_frozen_broker_holds_up_nobody():
    """It takes the connection and never answers."""
    from notifyproj.celery import app

    with socket.create_server(("127.0.0.1", 0)) as frozen:
        broker = f"redis://127.0.0.1:{frozen.getsockname()[1]}/0"

        def publish(lane):
            with contextlib.suppress(Exception):  # when the test ends before the time-out
                app.connection_for_write(broker).connect()

        waker = Waker(publish)
        started = time.monotonic()
        for _ in range(100):
            waker.mark("email.high")
        assert time.monotonic() - started < 0.1


def test_a_broker_that_refuses_is_tried_again_with_the_next_mark(monkeypatch, wait_until):
    tried = []

    def refuse(lane):
        tried.append(lane)
        raise ConnectionError

    monkeypatch.setattr(waking, "BROKER_AWAY_PAUSE", 0.01)
    waker = Waker(refuse)
    waker.mark("email.high")
    wait_until(lambda: len(tried) == 1)
    waker.mark("sms.low")
    wait_until(lambda: tried == [{"email.high"}, {"sms.low"}])


@pytest.mark.parametrize("lane", ["email.high", "sms.low", "sandbox"])
def test_a_wake_up_carries_a_lane_and_nothing_else(lane, redis_client):
    from django.conf import settings

    from notifications.models import queue_of

    prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]
    key = f"{prefix}{queue_of(lane)}"
    redis_client.delete(key)
    waking.publish(lane)
    [message] = redis_client.lrange(key, 0, -1)
    redis_client.delete(key)
    assert f'"argsrepr": "(\'{lane}\',)"' in message.decode()


def test_hints_that_nobody_reads_do_not_pile_up(monkeypatch, redis_client):
    from django.conf import settings

    key = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] + "high"
    redis_client.delete(key)
    monkeypatch.setattr(waking, "_unread", waking.Unread())
    monkeypatch.setattr(waking, "MOST_UNREAD", 5)
    monkeypatch.setattr(waking, "LOOK_PAUSE", 0)
    for _ in range(20):
        waking.hint({"email.high"})
    assert redis_client.llen(key) == 5
    redis_client.delete(key)  # a worker has read them
    waking.hint({"email.high"})
    assert redis_client.llen(key) == 1
    redis_client.delete(key)


@pytest.mark.parametrize(("took", "pause"), [(0.0001, 0.01), (0.005, 0.05), (3, 0.25)])
def test_the_longer_publishing_takes_the_more_rarely_hints_come(took, pause):
    assert waking.pause_after(took) == pytest.approx(pause)


def test_a_retried_wake_up_stays_with_the_workers_of_its_lane():
    """Celery gives a retry the exchange that it came from, and to its router no queue."""
    assert waking.route(waking.DRAIN_TASK, ("sms.low",), {}, {}) == {"queue": "low"}
    assert waking.route("notifications.tasks.housekeeping", (), {}, {}) is None
