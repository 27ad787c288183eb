"""Pausing a lane, a provider or a flow: what it holds, what it leaves alone, and how it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from notifications import delivery, doctor, invariants, pausing, queue, sweeping
from notifications.doctor import backlog
from notifications.models import LANES, Attempt, Circuit, Flow, Notification, Pause
from tests.factories import (
    BatchFactory,
    NotificationFactory,
    ProjectFactory,
    RecipientFactory,
    UserFactory,
    row_of,
)
from users.models import Project
from users.refusals import Conflict, Refused

pytestmark = pytest.mark.django_db

LANE, PROVIDER = "email.normal", "smtp"
#: Each with what it holds of the lane above.
TARGETS = [LANE, PROVIDER]


@pytest.fixture(autouse=True)
def _mail_server(settings: Any) -> None:
    """Live e-mails go by SMTP."""
    settings.EMAIL_URL = "smtp://127.0.0.1:1"


def claimed(lane: str = LANE, provider: str = PROVIDER) -> list[UUID]:
    return [row.id for row in queue.claim(lane, provider, 10, 60)]


# --- What is held -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_of_a_paused_lane_or_provider_is_claimed(target: str) -> None:
    NotificationFactory()
    pausing.pause(target, None, "")
    assert claimed() == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_flow_that_is_made_while_its_lane_is_paused_waits_too(target: str) -> None:
    pausing.pause(target, None, "")
    NotificationFactory(recipient=RecipientFactory(project=ProjectFactory()))
    assert claimed() == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_rows_of_a_batch_wait_too(target: str) -> None:
    row_of(BatchFactory(priority="normal"), 1)
    pausing.pause(target, None, "")
    assert claimed() == []


@pytest.mark.parametrize("target", TARGETS)
def test_what_has_a_rate_waits_too_and_takes_no_slot(target: str) -> None:
    flow = NotificationFactory().flow
    Flow.objects.filter(id=flow.id).update(rate=5, next_slot_at=timezone.now())
    pausing.pause(target, None, "")
    assert queue.claim_paced(LANE, PROVIDER, 10, 60) == []
    assert queue.next_opening(LANE, PROVIDER) is None


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_worker_once_died_with_waits_too(target: str) -> None:
    NotificationFactory(lapses=1)
    pausing.pause(target, None, "")
    assert queue.claim_suspect(LANE, PROVIDER, 60) == []


@pytest.mark.parametrize("target", TARGETS)
def test_an_open_circuit_is_not_probed_while_it_is_paused(target: str) -> None:
    NotificationFactory()
    Circuit.objects.create(provider=PROVIDER, open_until=timezone.now() - timedelta(seconds=1))
    pausing.pause(target, None, "")
    assert queue.claim_probe(LANE, PROVIDER, 60, 30) == []
    pausing.resume(target, None)
    assert len(queue.claim_probe(LANE, PROVIDER, 60, 30)) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_claimed_before_does_not_begin(target: str) -> None:
    NotificationFactory()
    rows = queue.claim(LANE, PROVIDER, 10, 60)
    pausing.pause(target, None, "")
    assert queue.begin(rows, PROVIDER, 60) == set()
    assert not Attempt.objects.exists()


def test_a_paused_provider_holds_all_its_lanes_and_no_other() -> None:
    NotificationFactory(priority="high")
    NotificationFactory(priority="low")
    of_sms = NotificationFactory(channel="sms", priority="high")
    pausing.pause(PROVIDER, None, "")
    assert claimed("email.high") == claimed("email.low") == []
    assert claimed("sms.high", "twilio") == [of_sms.id]


def test_a_provider_is_held_for_each_sender() -> None:
    for sender in ("", "shop@example.com"):
        project = ProjectFactory(from_email=sender)
        NotificationFactory(recipient=RecipientFactory(project=project))
    assert len(claimed()) == 2
    Notification.objects.update(leased_until=None)
    pausing.pause(PROVIDER, None, "")
    assert claimed() == []


def test_the_sandbox_is_a_lane_and_a_provider_at_once() -> None:
    NotificationFactory(lane="sandbox")
    pausing.pause("sandbox", None, "")
    assert claimed("sandbox", "sandbox") == []
    assert pausing.lanes_of("sandbox") == ["sandbox"]


def test_what_waits_expires_in_its_time() -> None:
    late = NotificationFactory(expires_at=timezone.now() - timedelta(seconds=1))
    pausing.pause(LANE, None, "")
    assert sweeping.sweep().expired == 1
    late.refresh_from_db()
    assert late.status == "expired"


# --- Going on ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("target", "lanes"), [(LANE, {LANE}), (PROVIDER, {"email.high", LANE, "email.low"})]
)
def test_what_is_resumed_goes_out_at_once(target: str, lanes: set[str], woken: list[str]) -> None:
    pausing.pause(target, None, "")
    waiting = NotificationFactory()
    assert pausing.resume(target, None)
    assert set(woken) == lanes
    assert claimed() == [waiting.id]


def test_a_resumed_lane_stays_held_while_its_provider_is_paused() -> None:
    NotificationFactory()
    for target in TARGETS:
        pausing.pause(target, None, "")
    pausing.resume(LANE, None)
    assert claimed() == []


@pytest.mark.django_db(transaction=True)
def test_a_drain_that_meets_a_pause_gives_back_what_it_has_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause comes between its claim and its begin."""
    waiting = NotificationFactory(lane="sandbox", live=False)
    begin = queue.begin

    def pause_first(*args: Any) -> set[UUID]:
        pausing.pause("sandbox", None, "")
        return begin(*args)

    monkeypatch.setattr(queue, "begin", pause_first)
    assert delivery.drain("sandbox") == 0
    waiting.refresh_from_db()
    assert (waiting.status, waiting.leased_until, waiting.attempt_count) == ("pending", None, 0)
    monkeypatch.setattr(queue, "begin", begin)
    pausing.resume("sandbox", None)
    assert delivery.drain("sandbox") == 1


@pytest.mark.django_db(transaction=True)
def test_two_who_pause_at_once_leave_one_pause() -> None:
    start = threading.Barrier(2)

    def pause(reason: str) -> None:
        start.wait()
        try:
            pausing.pause(LANE, None, reason)
        finally:
            connection.close()

    threads = [threading.Thread(target=pause, args=(reason,)) for reason in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Pause.objects.get().reason in {"one", "two"}


# --- It is no standstill, and everybody is told --------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_paused_is_not_overdue(target: str) -> None:
    NotificationFactory(due_at=timezone.now() - timedelta(minutes=20))
    assert sweeping.overdue_lanes(LANES) == [LANE]
    assert "overdue" in {breach.invariant.code for breach in invariants.breaches()}
    pausing.pause(target, None, "")
    assert sweeping.overdue_lanes(LANES) == []
    assert not list(invariants.breaches())
    assert [(lane.waiting, lane.overdue) for lane in backlog.lanes()] == [(1, 0)]


@pytest.mark.parametrize(
    ("target", "code"),
    [(LANE, "lane_paused"), ("sandbox", "lane_paused"), (PROVIDER, "provider_paused")],
)
def test_the_doctor_names_what_is_paused_who_did_it_and_why(target: str, code: str) -> None:
    pausing.pause(target, UserFactory(username="olga"), "wrong texts")
    [finding] = doctor.examine_database((backlog.pauses,))
    assert finding.code == code
    assert target in finding.sentence
    assert "olga" in finding.detail
    assert "wrong texts" in finding.detail


def test_health_is_degraded_and_tells_no_reason(client: Client) -> None:
    assert client.get("/health").json()["components"]["pauses"]["status"] == "ok"
    from notifications import health

    health.memory.forget()
    pausing.pause(LANE, UserFactory(username="olga"), "the boss's secret")
    document = client.get("/health").json()
    assert document["components"]["pauses"]["status"] == "degraded"
    assert LANE in document["components"]["pauses"]["detail"]
    assert "secret" not in str(document)
    assert "olga" not in str(document)


def test_the_pause_of_a_lane_is_told_before_its_providers() -> None:
    assert pausing.holding(LANE, PROVIDER) is None
    for target in (PROVIDER, LANE):
        pausing.pause(target, None, "")
    first = pausing.holding(LANE, PROVIDER)
    assert first is not None
    assert first.target == LANE
    pausing.resume(LANE, None)
    second = pausing.holding(LANE, PROVIDER)
    assert second is not None
    assert second.target == PROVIDER


# --- Who, and why -----------------------------------------------------------------------------------


def test_who_paused_and_resumed_is_logged_with_the_reason() -> None:
    olga, boris = UserFactory(username="olga"), UserFactory(username="boris")
    pausing.pause(LANE, olga, "wrong texts")
    pausing.pause(LANE, boris, "")
    assert Pause.objects.get().paused_by == olga
    pausing.pause(LANE, boris, "wrong prices")
    assert (Pause.objects.get().paused_by, Pause.objects.get().reason) == (boris, "wrong prices")
    pausing.resume(LANE, boris)
    told = LogEntry.objects.order_by("id").values_list("user__username", "change_message")
    assert list(told) == [
        ("olga", "Paused: wrong texts"),
        ("boris", "Paused: wrong prices"),
        ("boris", "Resumed."),
    ]


@pytest.mark.parametrize("act", [pausing.pause, pausing.resume])
def test_an_unknown_target_is_refused_and_the_known_ones_are_named(act: Callable[..., Any]) -> None:
    arguments = ("fax.high", None, "")[: 3 if act is pausing.pause else 2]
    with pytest.raises(Refused, match=r"email\.high.*twilio"):
        act(*arguments)
    assert not Pause.objects.exists()


def test_a_provider_that_is_gone_can_still_be_resumed() -> None:
    Pause.objects.create(target="carrier_pigeon")
    assert pausing.resume("carrier_pigeon", None)


def test_resuming_what_is_not_paused_is_fine_and_changes_nothing(woken: list[str]) -> None:
    assert not pausing.resume(LANE, UserFactory())
    assert not LogEntry.objects.exists()
    assert not woken


# --- A flow ------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_flow_is_paused_and_resumed_and_both_are_logged(woken: list[str]) -> None:
    waiting = NotificationFactory()
    olga = UserFactory(username="olga")
    pausing.pause_flow(waiting.flow_id, olga, "their shop is down")
    assert claimed() == []
    assert pausing.resume_flow(waiting.flow_id, olga)
    assert not pausing.resume_flow(waiting.flow_id, olga)
    assert woken == [LANE]
    assert claimed() == [waiting.id]
    told = LogEntry.objects.order_by("id").values_list("change_message", flat=True)
    assert list(told) == ["Paused: their shop is down", "Resumed."]


@pytest.mark.parametrize("status", ["running", "paused"])
def test_a_batchs_flow_is_paused_with_its_batch_alone(status: str) -> None:
    flow = BatchFactory(status=status, name="Spring").flow
    with pytest.raises(Conflict, match="Spring"):
        pausing.pause_flow(flow.id, None, "")
    with pytest.raises(Conflict, match="Spring"):
        pausing.resume_flow(flow.id, None)
    assert Flow.objects.get(id=flow.id).paused == (status == "paused")


@pytest.mark.django_db(transaction=True)
def test_a_flow_is_paused_while_a_worker_stores_a_notification_in_it() -> None:
    """Pausing must not wait for whoever refers to the flow, nor hold them up."""
    flow = NotificationFactory().flow
    done = threading.Event()

    def pause() -> None:
        try:
            pausing.pause_flow(flow.id, None, "")
            done.set()
        finally:
            connection.close()

    with transaction.atomic():
        NotificationFactory(flow_id=flow.id)
        thread = threading.Thread(target=pause)
        thread.start()
        assert done.wait(5)
    thread.join()


# --- From the shell -----------------------------------------------------------------------------------


def said(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue().strip()


def test_the_command_pauses_lists_and_resumes_a_lane() -> None:
    assert said("pause") == "Nothing is paused."
    assert said("pause", "sms.high", "--reason", "wrong texts").startswith("sms.high is paused.")
    assert said("pause").endswith("now: 'wrong texts'.")
    assert said("resume", "sms.high") == "sms.high goes out again."
    assert said("resume", "sms.high") == "sms.high was not paused."


def test_the_command_pauses_a_projects_flow(alice: Project) -> None:
    alice.name = "Alice/Bob"
    alice.save()
    flow = NotificationFactory(recipient=RecipientFactory(project=alice)).flow
    said("pause", f"Alice/Bob/{LANE}")
    assert Flow.objects.get(id=flow.id).paused
    assert said("pause") == f"Alice/Bob/{LANE} is paused."
    assert said("resume", f"Alice/Bob/{LANE}").endswith("goes out again.")


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("fax.high", "Known are: email.high"),
        ("Alice's shop/fax.high", "There is no lane 'fax.high'"),
        ("Nobody's shop/sms.high", "There is no project named"),
        ("Alice's shop/sms.high", "has never sent anything in sms.high"),
    ],
)
def test_the_command_names_what_it_does_not_know(
    alice: Project, command: str, target: str, words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        said(command, target)
