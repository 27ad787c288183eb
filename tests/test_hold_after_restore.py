"""manage.py hold_after_restore: what may have gone out since the backup waits for an operator."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from notifications import invariants, queue, restoring
from notifications.heartbeats import beat
from notifications.models import Inbox, Notification
from notifications.streaming import feeding
from notifications.sweeping import sweep
from tests.factories import NotificationFactory, RecipientFactory, arrived

pytestmark = pytest.mark.django_db

SOON = timedelta(seconds=30)


def hold() -> str:
    out = StringIO()
    call_command("hold_after_restore", stdout=out)
    return out.getvalue()


def status(notification: Notification) -> str:
    notification.refresh_from_db()
    return notification.status


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"leased_until": timezone.now() + SOON, "fence": 1},
        {"status": "sending", "leased_until": timezone.now() + SOON, "fence": 1},
        {"status": "unknown", "review_at": timezone.now() - SOON},
    ],
    ids=["due", "claimed", "being sent", "unknown with a policy"],
)
def test_what_may_have_gone_out_is_unknown_and_stays_so(fields: dict[str, Any]) -> None:
    notification = NotificationFactory(**fields)
    assert "Held: " in hold()
    assert status(notification) == "unknown"
    assert (notification.review_at, notification.leased_until) == (None, None)
    sweep()
    assert queue.claim("email.normal", "smtp", 10, 60) == []
    assert status(notification) == "unknown"


def test_what_is_due_later_goes_out_as_planned() -> None:
    later = NotificationFactory(due_at=timezone.now() + timedelta(hours=1))
    hold()
    assert status(later) == "pending"


def test_what_has_ended_stays_as_it_is() -> None:
    ended = NotificationFactory(status="cancelled")
    hold()
    assert status(ended) == "cancelled"


def test_it_says_how_many_and_a_second_run_finds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "CHUNK", 2)
    for _ in range(5):
        NotificationFactory()
    assert "Held: 5 that were due, 0 that a worker had, 0 unknown" in hold()
    assert "Held: 0 that were due, 0 that a worker had, 0 unknown" in hold()


def test_inboxes_go_on_where_no_browser_has_been() -> None:
    """A browser has seen more changes than the restored inbox knows of: it must not go on among others' numbers."""
    ann = arrived(RecipientFactory()).recipient
    seen = 150
    assert "Moved ahead: 1 inboxes" in hold()
    hold()
    for _ in range(3):
        arrived(ann)
    key = (ann.pk, True)
    states, changes = feeding.look({(key, seen), (key, 1)})
    for place in ((key, seen), (key, 1)):
        lines, position = feeding.next_lines(states[key], place[1], changes.get(place, []))
        assert b"event: reset" in lines
        assert position == states[key].position > restoring.AHEAD
    [theirs] = Inbox.objects.all()
    assert theirs.unread == 4
    codes = {breach.invariant.code for breach in invariants.breaches(window=None)}
    assert not codes & {"inbox_gap", "inbox_count_wrong"}


def test_it_refuses_while_a_worker_runs() -> None:
    due = NotificationFactory()
    beat("worker one", "worker", "low")
    with pytest.raises(CommandError, match="worker one"):
        hold()
    assert status(due) == "pending"
