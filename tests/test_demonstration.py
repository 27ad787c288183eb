"""The demonstration: a plausible ledger that holds together, and of which nothing can reach anybody."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db.models import Q
from django.utils import timezone

from notifications import demonstration, invariants
from notifications.models import (
    Attempt,
    Batch,
    CallCount,
    HourlyCount,
    Inbox,
    InboxEvent,
    Notification,
    Receipt,
    Suppression,
)
from tests.factories import NotificationFactory, ProjectFactory, RecipientFactory
from users.models import Address, Project, Recipient

pytestmark = pytest.mark.django_db

ROWS = 3000


@pytest.fixture
def seeded(db: None) -> None:
    demonstration.seed(ROWS)


def test_it_holds_together(seeded: None) -> None:
    assert Notification.objects.count() == ROWS
    assert not list(invariants.breaches())
    assert not list(invariants.breaches(window=None))
    for notification in Notification.objects.prefetch_related("attempts")[::10]:
        notification.full_clean(exclude=["resend_of", "api_key", "recipient", "project", "flow"])
        assert notification.attempt_count == len(notification.attempts.all())
    newest = Notification.objects.order_by("-created_at")[0].created_at
    assert newest < timezone.now()
    assert not Attempt.objects.filter(started_at__gt=timezone.now()).exists()


def test_it_has_every_kind_of_thing(seeded: None) -> None:
    statuses = Counter(Notification.objects.values_list("status", flat=True))
    assert set(statuses) == {
        *("pending", "sent", "delivered", "failed", "cancelled", "expired", "unknown")
    }
    assert set(Notification.objects.values_list("channel", flat=True)) == {"email", "sms", "in_app"}
    assert 1.1 < Attempt.objects.count() / ROWS < 1.3
    for there in (
        Notification.objects.held(),
        Notification.objects.filter(status="unknown", review_at__isnull=False),
        Notification.objects.filter(status="pending", attempt_count__gt=0),
        Notification.objects.filter(scheduled_for__gt=timezone.now()),
        Notification.objects.filter(resend_of__isnull=False),
        Notification.objects.filter(read_at__isnull=False),
        Suppression.objects.filter(reason="hard_bounce"),
        Receipt.objects.filter(event="delivered"),
        Batch.objects.filter(status="paused"),
    ):
        assert there.exists(), there.query
    for batch in Batch.objects.all():
        assert Notification.objects.filter(flow=batch.flow).count() == batch.loaded


def test_all_of_it_is_counted(seeded: None) -> None:
    assert sum(HourlyCount.objects.values_list("count", flat=True)) == ROWS
    hours = CallCount.objects.filter(span="hour")
    assert sum(hours.values_list("calls", flat=True)) == Attempt.objects.count()


def test_inboxes_hold_what_was_delivered_in_app_and_count_what_is_unread(seeded: None) -> None:
    arrived = Notification.objects.filter(channel="in_app", status="delivered")
    assert arrived.filter(inbox_position=None).count() == 0
    assert Notification.objects.exclude(inbox_position=None).count() == arrived.count()
    assert arrived.exclude(archived_at=None).exists()
    assert sum(Inbox.objects.values_list("position", flat=True)) == arrived.count()
    for inbox in Inbox.objects.all():
        theirs = arrived.filter(recipient=inbox.recipient, live=inbox.live)
        positions = sorted(theirs.values_list("inbox_position", flat=True))
        assert positions == list(range(1, inbox.position + 1))
        assert inbox.unread == sum(each.is_unread for each in theirs)
    assert {inbox.live for inbox in Inbox.objects.all()} == {True, False}
    kept = InboxEvent.objects.order_by("inbox", "number").last()
    assert kept is not None
    assert (kept.number, kept.unread) == (kept.inbox.position, kept.inbox.unread)


def test_nothing_that_is_live_can_go_out_by_itself(seeded: None) -> None:
    moves = Q(status__in=("pending", "sending")) | Q(status="unknown", review_at__isnull=False)
    waiting = Notification.objects.filter(moves)
    assert waiting.exists()
    in_sandbox = Q(live=False, flow__lane="sandbox")
    in_paused_batch = Q(flow__paused=True, flow__batch__status="paused")
    assert not waiting.exclude(in_sandbox | in_paused_batch).exists()
    assert not Notification.objects.filter(live=False).exclude(flow__lane="sandbox").exists()


def test_all_addresses_are_nobodys(seeded: None) -> None:
    addresses = set(Address.objects.values_list("value", flat=True))
    addresses |= set(
        Notification.objects.exclude(channel="in_app").values_list("address", flat=True)
    )
    addresses |= set(Suppression.objects.values_list("address", flat=True))
    nobodys = re.compile(r"[a-z.]+[0-9]+@example\.(com|test)|\+1[2-9][0-8][0-9]55501[0-9]{2}")
    assert len(addresses) > 50
    assert not [address for address in addresses if not nobodys.fullmatch(address)]


def test_a_project_that_somebody_uses_is_left_alone(stranger: Project) -> None:
    shop = ProjectFactory(name="Demo bank")
    NotificationFactory(recipient=RecipientFactory(project=shop))
    with pytest.raises(CommandError, match="'Demo bank' is in use"):
        call_command("seed_demo", "--rows", "100", "--yes")
    assert Notification.objects.count() == 1
    assert Recipient.objects.count() == 1


def test_it_can_go_into_one_project_of_any_name(stranger: Project, capsys: Any) -> None:
    call_command("seed_demo", "--rows", "200", "--yes", "--project", "Tried out")
    assert Notification.objects.filter(project__name="Tried out").count() == 200
    assert "200 notifications stored" in capsys.readouterr().out


def test_it_is_refused_in_production(settings: Any) -> None:
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="production"):
        call_command("seed_demo", "--rows", "100", "--yes")
    assert not Project.objects.exists()


@pytest.mark.parametrize("rows", ["many", "0", "-5", "99999999999"])
def test_a_senseless_number_is_refused(rows: str) -> None:
    with pytest.raises(CommandError, match="--rows"):
        call_command("seed_demo", f"--rows={rows}", "--yes")


def test_nobody_there_to_agree_is_a_no() -> None:
    with pytest.raises(CommandError, match="Nothing was stored"):
        call_command("seed_demo", "--rows", "100")
    assert not Project.objects.exists()
