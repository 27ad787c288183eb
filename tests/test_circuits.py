"""Circuits: who refuses our account or is down is left alone, the others go on, and nothing is spent."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from notifications import circuits, delivery, providers, queue, slots
from notifications.circuits import Breaker, Observation, Sign, Tally, sign_of
from notifications.models import Attempt, Circuit, Notification
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    Provider,
    Sent,
    Temporary,
)
from tests.factories import (
    NotificationFactory,
    ProjectFactory,
    RecipientFactory,
    SuppressionFactory,
)

LANE = "email.normal"
FAILS = Sign(Circuit.Cause.FAILING, "smtp_451")
NO_CONNECTION = Sign(Circuit.Cause.UNREACHABLE, "connection_failed")


# -- what an answer says about the provider ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Sent(), ""),
        (Permanent("smtp_550"), ""),
        (Temporary("smtp_450", recipient_only=True), ""),
        (Temporary("smtp_451"), "failing"),
        (Ambiguous("timed_out"), "failing"),
        (Temporary("connection_failed"), "unreachable"),
        (Temporary("http_429", retry_after=30), "throttled"),
        (Misconfigured("smtp_535"), "refused"),
    ],
)
def test_an_answer_says_how_the_provider_is(answer, cause):
    assert sign_of(answer).cause == cause


def count(tally, sign, calls, now=0.0):
    return [tally.opens_with(sign, now) for _ in range(calls)]


@pytest.mark.parametrize("cause", ["refused", "throttled"])
def test_a_refused_account_and_a_wish_for_a_pause_open_at_once(cause):
    assert Tally().opens_with(Sign(cause), 0.0)


def test_five_calls_in_a_row_without_a_connection_open():
    tally = Tally()
    count(tally, NO_CONNECTION, 4)
    count(tally, circuits.WORKS, 1)
    assert count(tally, NO_CONNECTION, 5) == [False] * 4 + [True]


def test_half_of_twenty_calls_that_fail_open_and_fewer_do_not():
    tally = Tally()
    count(tally, circuits.WORKS, 11)
    assert not any(count(tally, FAILS, 10))
    assert count(tally, FAILS, 1) == [True]


def test_nineteen_failures_alone_are_too_few_to_tell():
    assert not any(count(Tally(), FAILS, 19))


def test_what_is_long_ago_does_not_count():
    tally = Tally()
    count(tally, FAILS, 19, now=0.0)
    assert not any(count(tally, FAILS, 19, now=61.0))
    assert count(tally, FAILS, 1, now=91.5) == [True]


# -- its state, shared by all ------------------------------------------------------------------------------


def saw(sign, sender="", *, probe=False):
    Breaker("smtp").note([Observation(sender, sign, probe)])


def rests():
    """Seconds until the circuit may be probed, to the nearest ten."""
    left = Circuit.objects.get().open_until - timezone.now()
    return round(left.total_seconds(), -1)


REFUSED = Sign(Circuit.Cause.REFUSED, "smtp_535", "535 wrong password")


@pytest.mark.django_db
def test_a_circuit_opens_with_the_providers_words():
    saw(REFUSED)
    circuit = Circuit.objects.get()
    assert (circuit.provider, circuit.sender, circuit.cause) == ("smtp", "", "refused")
    assert (circuit.code, circuit.detail) == ("smtp_535", "535 wrong password")
    assert rests() == 30


@pytest.mark.django_db
def test_calls_that_were_in_flight_when_it_opened_do_not_move_its_time():
    saw(REFUSED)
    opened = Circuit.objects.get().open_until
    saw(REFUSED)
    assert Circuit.objects.get().open_until == opened


@pytest.mark.django_db
def test_each_failed_probe_doubles_the_rest_up_to_ten_minutes():
    saw(REFUSED)
    doubled = []
    for _ in range(6):
        saw(REFUSED, probe=True)
        doubled.append(rests())
    assert doubled == [60, 120, 240, 480, 600, 600]


@pytest.mark.django_db
def test_a_pause_that_was_asked_for_is_given():
    saw(Sign(Circuit.Cause.THROTTLED, "http_429", rest=120.0))
    assert rests() == 120


@pytest.mark.django_db
def test_a_probe_that_works_closes_it_and_the_next_time_begins_with_30_seconds():
    saw(REFUSED)
    saw(REFUSED, probe=True)
    saw(circuits.WORKS, probe=True)
    assert Circuit.objects.get().open_until is None
    saw(REFUSED)
    assert rests() == 30


@pytest.mark.django_db
def test_a_worker_that_starts_asks_again_whoever_refused_the_account_but_grants_a_pause():
    for sender, sign in [("", REFUSED), ("a@b.test", Sign(Circuit.Cause.THROTTLED, rest=90.0))]:
        saw(sign, sender)
    circuits.probe_what_was_refused()
    ready = Circuit.objects.filter(open_until__lte=Now())
    assert [circuit.sender for circuit in ready] == [""]


# -- what is claimed and begun -------------------------------------------------------------------------------


def opened(sender="", until=timedelta(minutes=1)):
    return Circuit.objects.create(
        provider="smtp", sender=sender, open_until=timezone.now() + until, trips=1
    )


def claim():
    return queue.claim(LANE, "smtp", 10, 60.0)


def probe():
    return queue.claim_probe(LANE, "smtp", 60.0, 100.0)


def of_sender(address):
    project = ProjectFactory(from_email=address)
    return NotificationFactory(recipient=RecipientFactory(project=project))


@pytest.mark.django_db
def test_nothing_of_an_open_circuit_is_claimed_and_other_senders_go_on():
    of_sender("news@example.com")
    other = of_sender("shop@example.com")
    opened("news@example.com")
    assert [row.id for row in claim()] == [other.id]


@pytest.mark.django_db
def test_another_providers_circuit_holds_nothing():
    NotificationFactory()
    Circuit.objects.create(provider="mailgun", open_until=timezone.now() + timedelta(minutes=1))
    assert len(claim()) == 1


@pytest.mark.django_db
def test_the_sender_of_an_sms_is_the_services_own():
    project = ProjectFactory(from_email="news@example.com")
    NotificationFactory(recipient=RecipientFactory(project=project), channel="sms")
    opened("news@example.com")
    [row] = queue.claim("sms.normal", "smtp", 10, 60.0)
    assert row.sender == ""


@pytest.mark.django_db
def test_what_was_claimed_before_it_opened_is_not_begun():
    NotificationFactory()
    rows = claim()
    opened()
    assert queue.begin(rows, "smtp", 40.0) == set()
    assert not Attempt.objects.exists()


@pytest.mark.django_db
def test_when_its_time_is_over_one_row_is_claimed_as_a_probe_and_no_other():
    NotificationFactory()
    NotificationFactory()
    opened(until=-timedelta(seconds=1))
    assert claim() == []
    [row] = probe()
    assert row.probe
    assert queue.begin([row], "smtp", 40.0) == {row.id}
    assert probe() == claim() == []


@pytest.mark.django_db
def test_before_its_time_there_is_no_probe():
    NotificationFactory()
    opened()
    assert probe() == []


@pytest.mark.django_db
def test_a_suppressed_one_is_no_probe_and_does_not_use_up_its_turn():
    recipient = RecipientFactory()
    early = timezone.now() - timedelta(hours=1)
    stopped = NotificationFactory(recipient=recipient, address="Ann@example.com", due_at=early)
    other = NotificationFactory(recipient=recipient, address="bea@example.com")
    SuppressionFactory(project=recipient.project, address="ann@example.com")
    saw(REFUSED)
    Circuit.objects.update(open_until=Now() - timedelta(seconds=1))
    [first] = probe()
    assert (first.id, first.suppressed) == (stopped.id, "hard_bounce")
    [second] = probe()
    assert (second.id, second.suppressed) == (other.id, "")
    assert probe() == []
    assert rests() == 100


@pytest.mark.django_db
def test_the_probe_of_a_worker_that_died_is_followed_by_another():
    NotificationFactory()
    circuit = opened(until=-timedelta(seconds=1))
    probe()
    Circuit.objects.filter(id=circuit.id).update(open_until=Now() - timedelta(seconds=1))
    NotificationFactory()
    assert len(probe()) == 1


@pytest.mark.django_db
def test_a_row_that_a_worker_died_with_waits_for_the_circuit_too():
    NotificationFactory(lapses=1)
    opened()
    assert queue.claim_suspect(LANE, "smtp", 60.0) == []


# -- the whole engine ----------------------------------------------------------------------------------------


class Vendor(Provider):
    """An e-mail provider that answers as it is told."""

    name = "smtp"
    max_in_flight = 4

    def __init__(self):
        self.answer = Sent(provider_message_id="ok")
        self.calls = 0

    def send(self, message, deadline):
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def vendor(monkeypatch, settings):
    vendor = Vendor()
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    monkeypatch.setattr(providers, "_instances", {"smtp": vendor})
    monkeypatch.setattr(slots, "_slots", {})
    monkeypatch.setattr(delivery, "_breakers", {})
    yield vendor
    for each in slots._slots.values():
        each.pool.shutdown()


def due(count):
    recipient = RecipientFactory()
    return [NotificationFactory(recipient=recipient) for _ in range(count)]


def probe_may_go():
    Circuit.objects.update(open_until=Now() - timedelta(seconds=1))


@pytest.mark.django_db(transaction=True)
def test_a_wrong_password_stops_the_calls_fails_nothing_and_all_goes_out_once_it_is_right(vendor):
    due(50)
    vendor.answer = Misconfigured("smtp_535", "535 wrong password")
    delivery.drain(LANE)
    assert vendor.calls <= 8  # What was in flight; not each of the fifty.
    assert set(Notification.objects.values_list("status", "attempt_count")) == {("pending", 0)}

    probe_may_go()
    before = vendor.calls
    delivery.drain(LANE)
    assert vendor.calls == before + 1
    assert rests() == 60

    vendor.answer = Sent(provider_message_id="ok")
    probe_may_go()
    Notification.objects.update(due_at=Now() - timedelta(seconds=1))
    delivery.drain(LANE)
    delivery.drain(LANE)
    assert set(Notification.objects.values_list("status", "attempt_count")) == {("sent", 1)}
    assert Circuit.objects.get().open_until is None


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_down_costs_few_attempts(vendor):
    due(200)
    vendor.answer = Temporary("connection_failed", "refused")
    delivery.drain(LANE)
    assert vendor.calls < 20
    assert Notification.objects.filter(attempt_count=0).count() > 180


@pytest.mark.django_db(transaction=True)
def test_after_a_429_nobody_calls_until_the_time_that_was_asked_for(vendor):
    due(50)
    vendor.answer = Temporary("http_429", "slow down", retry_after=120.0)
    delivery.drain(LANE)
    calls = vendor.calls
    delivery.drain(LANE)
    assert vendor.calls == calls <= 8
    assert rests() == 120


@pytest.mark.django_db(transaction=True)
def test_greylisted_recipients_do_not_stop_the_others(vendor):
    due(60)
    vendor.answer = Temporary("smtp_450", retry_after=600, recipient_only=True)
    assert delivery.drain(LANE) == 60
    assert not Circuit.objects.exists()
