"""The drain: everything due goes out once, many at a time, whatever the provider answers."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, connection
from django.utils import timezone

from notifications import delivery, providers, queue, slots, watchdog
from notifications.models import Attempt, Notification
from notifications.providers.base import Provider, Sent, Temporary
from tests.factories import NotificationFactory, RecipientFactory

pytestmark = pytest.mark.django_db(transaction=True)

LANE = "sandbox"


class Recorder(Provider):
    """A provider that remembers what it was given, and answers as the test says."""

    name = "sandbox"
    repeatable = True
    has_circuit = False
    max_in_flight = 8

    def __init__(self, answer=lambda message: Sent(provider_message_id="ok")):
        self.answer = answer
        self.given = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def send(self, message, deadline):
        with self.lock:
            self.given.append(str(message.notification_id))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return self.answer(message)
        finally:
            with self.lock:
                self.in_flight -= 1


@pytest.fixture
def recorder(monkeypatch):
    """Registered as the sandbox, with threads of its own."""
    recorder = Recorder()
    monkeypatch.setattr(providers, "_instances", {"sandbox": recorder})
    monkeypatch.setattr(slots, "_slots", {})
    yield recorder
    for each in slots._slots.values():
        each.pool.shutdown()


def due(count, **fields):
    recipient = RecipientFactory()
    return [NotificationFactory(recipient=recipient, lane=LANE, **fields) for _ in range(count)]


def statuses():
    return sorted(Notification.objects.values_list("status", flat=True))


def test_everything_due_goes_out_once(recorder):
    ids = [str(notification.id) for notification in due(50)]
    assert delivery.drain(LANE) == 50
    assert sorted(recorder.given) == sorted(ids)
    assert statuses() == ["sent"] * 50


def test_many_are_in_flight_at_once_but_no_more_than_the_provider_wants(recorder):
    recorder.answer = lambda message: time.sleep(0.02) or Sent()
    due(40)
    delivery.drain(LANE)
    assert recorder.most_in_flight == 8


def test_one_slow_call_does_not_hold_up_the_others(recorder):
    slow, *rest = due(41)
    recorder.answer = lambda message: (
        time.sleep(0.8 if message.notification_id == slow.id else 0.001) or Sent()
    )
    thread = threading.Thread(target=_drain_in_thread)
    thread.start()
    time.sleep(0.5)
    assert statuses().count("sent") == 40
    thread.join()
    assert statuses().count("sent") == 41


def _drain_in_thread():
    try:
        delivery.drain(LANE)
    finally:
        connection.close()


def test_what_becomes_due_during_a_slow_call_goes_out_at_once(recorder, wait_until):
    """The drain had found nothing more to claim; it must not wait for the slow call to look again."""
    go_on = threading.Event()
    [slow] = due(1)

    def answer(message):
        if message.notification_id == slow.id:
            go_on.wait(10)
        return Sent()

    recorder.answer = answer
    thread = threading.Thread(target=_drain_in_thread)
    thread.start()
    wait_until(lambda: recorder.in_flight == 1)
    time.sleep(0.1)
    quick = NotificationFactory(recipient=slow.recipient, lane=LANE)
    assert delivery.drain(LANE) == 0
    wait_until(lambda: Notification.objects.get(id=quick.id).status == "sent", seconds=3)
    assert Notification.objects.get(id=slow.id).status == "sending"
    go_on.set()
    thread.join()


def test_a_temporary_error_is_tried_again_when_it_is_due_and_not_before(recorder):
    recorder.answer = _raise(Temporary("busy", retry_after=300))
    due(1)
    delivery.drain(LANE)
    delivery.drain(LANE)
    assert len(recorder.given) == 1
    Notification.objects.update(due_at=timezone.now())
    recorder.answer = lambda message: Sent()
    delivery.drain(LANE)
    assert list(Attempt.objects.values_list("outcome", flat=True)) == ["temporary", "accepted"]
    assert Notification.objects.get().attempt_count == 2


def _raise(error):
    def answer(message):
        raise error

    return answer


@pytest.mark.parametrize("bug", ["an exception", "a wrong answer"])
def test_a_bug_in_a_provider_leaves_the_message_unknown_not_lost(recorder, bug):
    recorder.answer = _raise(ZeroDivisionError()) if bug == "an exception" else lambda message: True
    due(1)
    delivery.drain(LANE)
    assert statuses() == ["unknown"]
    assert Attempt.objects.get().code == "unexpected_error"


def test_a_stopping_worker_claims_nothing_new_and_settles_what_is_in_flight(recorder):
    stopping = threading.Event()
    recorder.answer = lambda message: stopping.set() or time.sleep(0.05) or Sent()
    due(100)
    delivery.drain(LANE, stopping.is_set)
    assert set(statuses()) == {"pending", "sent"}
    assert len(recorder.given) == statuses().count("sent")
    assert not Notification.objects.filter(leased_until__isnull=False).exists()


def test_a_call_during_a_drain_makes_it_look_once_more(recorder):
    """So a row stored while the drain was making its last, empty claim is not left to the sweep."""
    first = due(1)[0]
    recorder.answer = lambda message: _store_one_and_wake(message, first) or Sent()
    delivery.drain(LANE)
    assert statuses() == ["sent", "sent"]


def _store_one_and_wake(message, first):
    if message.notification_id == first.id:
        NotificationFactory(recipient=first.recipient, lane=LANE)
        connection.close()
        assert delivery.drain(LANE) == 0


def test_answers_are_kept_while_the_database_is_away(recorder, monkeypatch):
    monkeypatch.setattr(delivery, "DATABASE_AWAY_WAIT", 0.05)
    settle, refusals = queue.settle, iter([True, True, False])

    def refuse_twice(*arguments):
        if next(refusals):
            raise OperationalError("the database is away")
        settle(*arguments)

    monkeypatch.setattr(queue, "settle", refuse_twice)
    due(3)
    with pytest.raises(OperationalError):
        delivery.drain(LANE)
    assert len(recorder.given) == 3
    assert statuses() == ["sent"] * 3


def test_a_message_that_cannot_be_rendered_fails_alone(recorder, monkeypatch):
    bad, good = due(2)
    render = delivery.render

    def fail_for_one(row, default_from):
        if row.id == bad.id:
            raise ValueError("no such thing")
        return render(row, default_from)

    monkeypatch.setattr(delivery, "render", fail_for_one)
    delivery.drain(LANE)
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, bad.failure_code) == ("failed", "rendering_failed")
    assert good.status == "sent"


def test_rows_that_a_worker_died_with_are_claimed_one_by_one_and_not_left_to_the_end(
    recorder, monkeypatch
):
    due(20)
    suspects = {str(suspect.id) for suspect in due(3, lapses=1)}
    begun, begin = [], queue.begin
    monkeypatch.setattr(
        queue, "begin", lambda rows, *rest: begun.append([r.id for r in rows]) or begin(rows, *rest)
    )
    delivery.drain(LANE)
    assert statuses() == ["sent"] * 23
    alone = [ids for ids in begun if suspects & {str(id) for id in ids}]
    assert [len(ids) for ids in alone] == [1, 1, 1]
    assert alone[-1] != begun[-1]


def test_one_answer_that_cannot_be_stored_does_not_take_the_others_with_it(recorder, monkeypatch):
    bad, *_ = due(8)
    settle = queue.settle

    def refuse_one(settlements, review_after):
        if any(settlement.id == bad.id for settlement in settlements):
            raise DataError("interval out of range")
        settle(settlements, review_after)

    monkeypatch.setattr(queue, "settle", refuse_one)
    delivery.drain(LANE)
    assert statuses() == ["sending"] + ["sent"] * 7


def test_a_begin_whose_answer_is_lost_makes_nothing_unknown(recorder, monkeypatch):
    begin, losses = queue.begin, iter([True, False])

    def lose_the_answer(*arguments):
        begun = begin(*arguments)
        if next(losses, False):
            raise OperationalError("the connection was lost")
        return begun

    monkeypatch.setattr(queue, "begin", lose_the_answer)
    due(8)
    with pytest.raises(OperationalError):
        delivery.drain(LANE)
    assert recorder.given == []
    assert statuses() == ["pending"] * 8
    delivery.drain(LANE)
    assert statuses() == ["sent"] * 8
    assert set(Notification.objects.values_list("attempt_count", flat=True)) == {1}


def test_what_cannot_be_begun_in_time_is_given_back(recorder, settings):
    settings.CLAIM_LEASE = 0.6
    recorder.answer = lambda message: time.sleep(0.5) or Sent()
    due(12)
    delivery.drain(LANE)
    assert statuses() == ["sent"] * 12
    assert set(Notification.objects.values_list("lapses", flat=True)) == {0}


def test_two_workers_share_a_lane_without_sending_anything_twice(recorder):
    due(200)
    drains = [
        threading.Thread(target=_drain_as_another_process, args=(recorder,)) for _ in range(4)
    ]
    for thread in drains:
        thread.start()
    for thread in drains:
        thread.join()
    assert len(recorder.given) == len(set(recorder.given)) == 200
    assert statuses() == ["sent"] * 200


def _drain_as_another_process(recorder):
    """Past the registry that lets one drain of a lane run in a process."""
    try:
        delivery.Drain(LANE, recorder, delivery.never).run()
    finally:
        connection.close()


def test_a_lane_without_a_provider_keeps_its_rows(settings):
    settings.EMAIL_URL = settings.MAILGUN_API_KEY = settings.EMAIL_PROVIDER = ""
    NotificationFactory()
    assert delivery.drain("email.normal") == 0
    assert statuses() == ["pending"]


def test_what_is_scheduled_waits_for_its_time(recorder):
    due(1, due_at=timezone.now() + timedelta(minutes=5))
    assert delivery.drain(LANE) == 0
    assert recorder.given == []


# -- when other lanes have the provider's slots ------------------------------------------------------------


def a_drain_that_waits_for_slots(recorder):
    """Two of its rows are in flight, six are claimed, and another lane has the other slots."""
    due(8)
    drain = delivery.Drain(LANE, recorder, delivery.never)
    assert drain.slots.take("email.high", 6, lambda: None) == 6
    drain._refill()
    assert (drain.in_flight, len(drain.claimed)) == (2, 6)
    return drain


def test_what_is_claimed_does_not_wait_for_slots_until_its_lease_ends(recorder, settings):
    drain = a_drain_that_waits_for_slots(recorder)
    lease, settings.CLAIM_LEASE = settings.CLAIM_LEASE, 0
    drain._refill()
    assert Notification.objects.filter(status="pending", leased_until=None).count() == 6
    settings.CLAIM_LEASE = lease
    drain.slots.give_back(6)
    assert drain.run() == 8


def test_a_lane_that_waits_for_slots_does_not_stand_still_while_others_use_them(recorder):
    drain = a_drain_that_waits_for_slots(recorder)
    watchdog.expect(LANE)
    drain.slots.give_back(1)
    assert watchdog._watchdog.standing_still(-1) == []
    drain.slots.give_back(5)
    assert drain.run() == 8


# -- what must not happen, and does ------------------------------------------------------------------------


class NoThreads:
    """A pool in a process that ends: what had been queued is not done, and nothing more is taken."""

    def submit(self, *call):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def shutdown(self):
        pass


class OneThreadTooFew(NoThreads):
    """ThreadPoolExecutor queues before it starts a thread, so a call may be done although it was refused."""

    def submit(self, call, *arguments):
        call(*arguments)
        raise RuntimeError("can't start new thread")


def test_what_no_thread_takes_was_not_sent_and_is_due_again(recorder):
    due(3)
    slots.slots_of(recorder).pool = NoThreads()
    with pytest.raises(RuntimeError):
        delivery.drain(LANE)
    assert statuses() == ["pending"] * 3
    assert (
        list(Notification.objects.values_list("attempt_count", "leased_until")) == [(0, None)] * 3
    )
    assert slots.slots_of(recorder).take(LANE, 8, lambda: None) == 8


def test_what_a_thread_took_in_spite_of_all_is_sent_once(recorder):
    due(3)
    slots.slots_of(recorder).pool = OneThreadTooFew()
    with pytest.raises(RuntimeError):
        delivery.drain(LANE)
    assert len(recorder.given) == 3
    assert statuses() == ["sent"] * 3


def test_a_row_that_cannot_be_failed_leaves_its_neighbours_no_suspects(recorder, monkeypatch):
    due(3)

    def away(*args):
        raise OperationalError("away")

    monkeypatch.setattr(delivery, "render", away)
    monkeypatch.setattr(queue, "fail_unsent", away)
    with pytest.raises(OperationalError):
        delivery.drain(LANE)
    assert not Notification.objects.exclude(leased_until=None).exists()


def test_a_drain_that_dies_of_a_bug_keeps_no_slots(recorder, monkeypatch):
    due(2)
    slow, answered = threading.Event(), threading.Lock()
    recorder.answer = lambda message: (answered.acquire(blocking=False) or slow.wait(5)) and Sent()
    monkeypatch.setattr(queue, "settle", lambda *args: len(None))
    with pytest.raises(TypeError):
        delivery.drain(LANE)
    assert slots.slots_of(recorder).take("email.low", 8, lambda: None) == 8
    slow.set()


def test_many_that_are_claimed_alone_and_the_others_take_turns(recorder):
    due(10, lapses=1)
    [innocent] = due(1)
    drain = delivery.Drain(LANE, recorder, delivery.never)
    drain._refill()
    innocent.refresh_from_db()
    assert innocent.status == "sending"
    assert drain.run() == 11
