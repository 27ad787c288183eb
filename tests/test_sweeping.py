"""The sweep puts right what no living worker will."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections
from django.db.models.functions import Now
from django.utils import timezone

from notifications import queue, sweeping, worker
from notifications.models import LANES, Attempt, Circuit, Flow, Heartbeat, Notification
from notifications.sweeping import Swept, overdue_lanes, sweep
from notifications.worker import SweepThread
from tests.factories import BatchFactory, NotificationFactory
from users.models import Project

pytestmark = pytest.mark.django_db

LANE = "email.normal"
AGO = timedelta(minutes=1)


def lapsed(**fields):
    """A row whose worker died: its lease has ended."""
    return NotificationFactory(leased_until=timezone.now() - AGO, fence=1, **fields)


def test_a_claim_whose_worker_died_is_due_again_and_will_be_claimed_alone():
    notification = lapsed()
    assert sweep() == Swept(freed=1)
    notification.refresh_from_db()
    assert (notification.status, notification.leased_until, notification.lapses) == (
        "pending",
        None,
        1,
    )
    assert queue.claim(LANE, "smtp", 10, 60) == []
    assert [row.id for row in queue.claim_suspect(LANE, "smtp", 60)] == [notification.id]


def test_a_row_that_died_alone_three_times_is_poison():
    notification = lapsed()
    for _ in range(4):
        assert notification.status == "pending"
        sweep()
        queue.claim_suspect(LANE, "smtp", 60)
        Notification.objects.filter(status="pending").update(leased_until=Now() - AGO)
        notification.refresh_from_db()
    assert (notification.failure_kind, notification.failure_code) == ("technical", "poison")


def test_a_begun_row_whose_worker_died_is_unknown_and_not_sent_again_yet():
    notification = lapsed(status="sending", provider="smtp")
    assert sweep() == Swept(lapsed=1)
    notification.refresh_from_db()
    assert notification.status == "unknown"
    assert notification.review_at > timezone.now()


@pytest.mark.parametrize("provider", ["inbox", "sandbox"])
def test_a_begun_row_of_a_repeatable_provider_is_simply_due_again(provider):
    notification = lapsed(status="sending", provider=provider)
    sweep()
    notification.refresh_from_db()
    assert (notification.status, notification.lapses) == ("pending", 0)


def test_a_lease_that_still_holds_is_left_alone():
    NotificationFactory(status="sending", leased_until=timezone.now() + timedelta(seconds=30))
    assert sweep() == Swept()


def test_a_waiting_row_past_its_time_expires():
    notification = NotificationFactory(expires_at=timezone.now() - AGO)
    assert sweep() == Swept(expired=1)
    notification.refresh_from_db()
    assert notification.status == "expired"


@pytest.mark.parametrize("priority", ["high", "normal"])
def test_an_unknown_one_is_sent_once_more_after_its_review_time(priority):
    notification = NotificationFactory(
        status="unknown", priority=priority, review_at=timezone.now() - AGO
    )
    assert sweep() == Swept(reviewed=1)
    notification.refresh_from_db()
    assert (notification.status, notification.resends) == ("pending", 1)


@pytest.mark.parametrize(
    "held",
    [{"priority": "low"}, {"resends": 1}, {"expires_at": timezone.now() - timedelta(days=1)}],
    ids=["bulk", "resent once already", "too late"],
)
def test_an_unknown_one_is_otherwise_held_for_an_operator(held):
    notification = NotificationFactory(status="unknown", review_at=timezone.now() - AGO, **held)
    sweep()
    notification.refresh_from_db()
    assert (notification.status, notification.review_at) == ("unknown", None)


@pytest.mark.parametrize("priority", ["high", "normal", "low"])
@pytest.mark.parametrize(("policy", "status"), [("resend", "pending"), ("hold", "unknown")])
def test_a_projects_own_policy_counts_for_every_priority(policy, status, priority):
    notification = NotificationFactory(
        status="unknown",
        priority=priority,
        review_at=timezone.now() - AGO,
        recipient__project__unknown_policy=policy,
    )
    assert sweep() == Swept(reviewed=1)
    notification.refresh_from_db()
    assert (notification.status, notification.review_at) == (status, None)
    assert sweep() == Swept()


@pytest.mark.parametrize(
    "held", [{"resends": 1}, {"expires_at": timezone.now() - timedelta(days=1)}]
)
def test_also_a_project_that_resends_does_so_once_and_never_too_late(held):
    notification = NotificationFactory(
        status="unknown",
        review_at=timezone.now() - AGO,
        recipient__project__unknown_policy="resend",
        **held,
    )
    sweep()
    notification.refresh_from_db()
    assert (notification.status, notification.review_at) == ("unknown", None)


def test_the_policy_is_the_one_of_the_review_time_not_of_the_accident():
    notification = NotificationFactory(status="unknown", review_at=timezone.now() - AGO)
    Project.objects.update(unknown_policy="hold")
    sweep()
    notification.refresh_from_db()
    assert (notification.status, notification.resends) == ("unknown", 0)


@pytest.fixture
def smtp(settings):
    settings.EMAIL_URL = "smtp://127.0.0.1:1"


def test_lanes_with_something_overdue_are_found_and_paused_ones_are_not(smtp):
    past = timezone.now() - timedelta(minutes=1)
    NotificationFactory(due_at=past)
    paused = NotificationFactory(due_at=past, priority="low")
    Flow.objects.filter(id=paused.flow_id).update(paused=True)
    NotificationFactory(due_at=timezone.now() + timedelta(hours=1), priority="high")
    assert overdue_lanes(LANES) == [LANE]


@pytest.mark.parametrize(
    ("open_for", "overdue"), [(timedelta(minutes=1), []), (-timedelta(minutes=1), [LANE])]
)
def test_what_an_open_circuit_holds_is_overdue_only_when_a_probe_may_go(smtp, open_for, overdue):
    NotificationFactory(due_at=timezone.now() - AGO)
    Circuit.objects.create(provider="smtp", sender="", open_until=timezone.now() + open_for)
    assert overdue_lanes(LANES) == overdue


def test_a_lane_of_a_newer_release_or_without_a_vendor_is_left_alone():
    NotificationFactory(due_at=timezone.now() - AGO, lane="push.high")
    NotificationFactory(due_at=timezone.now() - AGO, channel="sms")
    assert overdue_lanes([*LANES, "push.high"]) == []


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_at_once_do_not_disturb_each_other():
    lapsed()
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (sweeping.LOCK,))
            assert sweep() == Swept()
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    assert sweep() == Swept(freed=1)


@pytest.mark.django_db(transaction=True)
def test_without_any_wake_up_the_sweep_delivers(wait_until):
    notification = NotificationFactory(
        lane="sandbox", due_at=timezone.now() - timedelta(seconds=10)
    )
    SweepThread(["normal"]).sweep_once()
    wait_until(lambda: Notification.objects.get(id=notification.id).status == "sent")
    assert Attempt.objects.get().outcome == "accepted"
    assert Heartbeat.objects.get().queues == "normal"


@pytest.mark.django_db(transaction=True)
def test_a_drain_that_the_sweep_starts_outlives_the_sweep(monkeypatch, wait_until):
    """A daemon would die with the process, between the provider's answer and its being stored."""
    daemons = []
    monkeypatch.setattr(
        worker, "_drain_overdue", lambda lane: daemons.append(threading.current_thread().daemon)
    )
    NotificationFactory(lane="sandbox")
    sweeper = SweepThread(["normal"])
    monkeypatch.setattr(sweeper, "run", lambda: (sweeper.sweep_once(), connection.close()))
    sweeper.start()
    sweeper.join()
    wait_until(lambda: daemons == [False])


@pytest.mark.django_db(transaction=True)
def test_a_worker_drains_only_the_lanes_of_its_own_queues():
    NotificationFactory(lane="sandbox", due_at=timezone.now() - timedelta(seconds=10))
    SweepThread(["low"]).sweep_once()
    assert Notification.objects.get().status == "pending"


@pytest.mark.django_db(transaction=True)
def test_a_worker_with_much_to_sweep_says_between_the_chunks_that_it_is_alive(monkeypatch):
    monkeypatch.setattr(sweeping, "CHUNK", 2)
    for _ in range(3):
        NotificationFactory(expires_at=timezone.now() - AGO)
    sweeper = SweepThread([])
    heard = []
    monkeypatch.setattr("notifications.heartbeats.beat", lambda *args: heard.append(args))
    sweeper.sweep_once()
    assert (sweeper.has_more, Notification.objects.filter(status="expired").count()) == (True, 2)
    sweeper.sweep_once()
    assert (sweeper.has_more, Notification.objects.filter(status="expired").count()) == (False, 3)
    assert len(heard) == 2


def test_a_fault_in_looking_after_batches_does_not_keep_what_is_overdue_from_going_out(monkeypatch):
    done = []
    sweeper = SweepThread(["low"])
    monkeypatch.setattr("notifications.batches.tend", lambda: 1 / 0)
    monkeypatch.setattr(sweeper, "sweep_once", lambda: done.append("swept"))
    rounds = iter([False, False, True])
    monkeypatch.setattr(worker.stopping, "is_stopping", lambda: next(rounds))
    monkeypatch.setattr(worker.stopping, "wait", lambda seconds: None)
    # The test's own connection stays open for the next look.
    monkeypatch.setattr(worker, "connection", type("Kept", (), {"close": lambda self: None})())
    sweeper.run()
    assert done == ["swept", "swept"]


def test_a_worker_starts_a_batch_whose_time_has_come():
    batch = BatchFactory(status="ready")
    SweepThread(["normal"]).look_after_batches()
    batch.refresh_from_db()
    assert batch.status == "running"
