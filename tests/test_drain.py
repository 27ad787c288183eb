"""manage.py drain: sends what is due from a shell, when there is no worker at all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from notifications import stopping, sweeping
from notifications.models import Circuit, Notification
from notifications.providers.base import Sent
from notifications.providers.sandbox import Sandbox
from tests.factories import NotificationFactory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _not_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_stopping", threading.Event())


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """What the sandbox does with each message before it takes it."""

    def answer(act: Callable[[], Any]) -> None:
        monkeypatch.setattr(Sandbox, "send", lambda *args: act() or Sent())

    return answer


def drain(*args: str) -> tuple[int, str, str]:
    """Exit code, what it printed, what it said on the error stream."""
    out, err = StringIO(), StringIO()
    try:
        call_command("drain", *args, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def waiting(**fields: Any) -> Notification:
    fields = {"live": False, "lane": "sandbox"} | fields
    notification: Notification = NotificationFactory(**fields)
    return notification


def statuses() -> list[str]:
    return sorted(Notification.objects.values_list("status", flat=True))


def test_it_sends_what_is_due_in_all_lanes_and_says_how_many() -> None:
    for _ in range(3):
        waiting()
    waiting(channel="in_app", lane="in_app.high", priority="high", live=True)
    code, out, _ = drain()
    assert code == 0
    assert statuses() == ["delivered", "sent", "sent", "sent"]
    assert "4 calls: 4 accepted." in out
    assert "Nothing is due any more." in out


def test_it_leaves_what_is_not_due_yet() -> None:
    waiting(due_at=timezone.now() + timedelta(hours=1))
    assert drain()[0] == 0
    assert statuses() == ["pending"]


def test_it_sends_only_the_lanes_that_are_named() -> None:
    waiting()
    waiting(channel="in_app", lane="in_app.low", priority="low", live=True)
    assert drain("--lane", "in_app.low")[0] == 0
    assert statuses() == ["delivered", "pending"]


def test_a_lane_that_there_is_not_is_refused() -> None:
    with pytest.raises(CommandError, match="pigeon"):
        drain("--lane", "pigeon.low")


def test_it_takes_back_what_a_worker_that_died_had_claimed() -> None:
    waiting(leased_until=timezone.now() - timedelta(minutes=1), fence=1)
    assert drain()[0] == 0
    assert statuses() == ["sent"]


def test_what_a_provider_refuses_for_now_is_not_tried_in_a_loop() -> None:
    waiting(address="temporary@sandbox.test")
    code, out, _ = drain()
    assert code == 0
    assert "1 call: 1 temporary." in out
    assert statuses() == ["pending"]


def test_what_an_open_circuit_holds_back_is_left_and_said(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    waiting(lane="email.normal", live=True)
    Circuit.objects.create(provider="smtp", open_until=timezone.now() + timedelta(minutes=5))
    code, out, _ = drain()
    assert code == 1
    assert "Still due: email.normal (1)." in out


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_what_is_in_flight_and_claims_nothing_new(
    monkeypatch: pytest.MonkeyPatch, answer: Any, signum: int
) -> None:
    monkeypatch.setattr(Sandbox, "max_in_flight", 1)
    answer(lambda: os.kill(os.getpid(), signum) or threading.Event().wait(0.5))
    waiting()
    waiting()
    code, out, err = drain()
    assert code == 1
    assert statuses() == ["pending", "sent"]
    assert Notification.objects.get(status="pending").leased_until is None
    assert "nothing new is claimed" in err
    assert "1 call: 1 accepted." in out


def test_a_second_ctrl_c_says_that_it_is_finishing(answer: Any) -> None:
    def interrupt_twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.5)

    answer(interrupt_twice)
    waiting()
    code, _, err = drain()
    assert code == 0
    assert statuses() == ["sent"]
    assert "Still finishing" in err


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    drain()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_database_that_is_away_is_said_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(sweeping, "sweep", away)
    with pytest.raises(CommandError, match="The database does not answer: connection refused"):
        drain()
