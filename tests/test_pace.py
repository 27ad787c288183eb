"""Pace: rates are exact over all workers, whatever is slow, late, paused or changed meanwhile."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection, connections
from django.db.models.functions import Now

from notifications import checks, delivery, providers, queue, slots
from notifications.models import Attempt, Flow, Notification, Pace
from notifications.pace import BURST, HORIZON, IN_TURN, LATE, LOWEST, ORDINARY, URGENT, ProviderPace
from notifications.providers.base import Temporary
from notifications.retry import judge
from tests.factories import NotificationFactory, RecipientFactory
from tests.test_delivery import Recorder

pytestmark = pytest.mark.django_db(transaction=True)

LANE = "sandbox"


@pytest.fixture
def recorder(monkeypatch):
    """Registered as the sandbox, with threads of its own."""
    recorder = Recorder()
    monkeypatch.setattr(providers, "_instances", {"sandbox": recorder})
    monkeypatch.setattr(slots, "_slots", {})
    yield recorder
    for each in slots._slots.values():
        each.pool.shutdown()


def due(count, lane=LANE, **fields):
    recipient = RecipientFactory()
    return [NotificationFactory(recipient=recipient, lane=lane, **fields) for _ in range(count)]


def paced(count, rate, lane=LANE, **fields):
    """So many due rows of one flow with that rate. Returns the flow."""
    flow_id = due(count, lane, **fields)[0].flow_id
    Flow.objects.filter(id=flow_id).update(rate=rate)
    return Flow.objects.get(id=flow_id)


def claim(limit=100, lane=LANE):
    return queue.claim_paced(lane, "sandbox", limit, 60.0)


def begun_at(**fields):
    moments = Attempt.objects.filter(**fields).order_by("started_at")
    return [moment.timestamp() for moment in moments.values_list("started_at", flat=True)]


def most_in_a_second(moments):
    return max(sum(first <= each < first + 1 for each in moments) for first in moments)


def drain_as_processes(recorder, count, stopping=delivery.never, lane=LANE):
    """Past the registry that lets one drain of a lane run in a process. Returns threads to be joined."""

    def run():
        try:
            delivery.Drain(lane, recorder, stopping).run()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def join(threads):
    for thread in threads:
        thread.join()


# -- slots ------------------------------------------------------------------------------------------------


def test_a_claim_takes_as_many_rows_as_there_are_slots_within_the_horizon():
    paced(20, rate=50)
    rows = claim()
    assert 5 <= len(rows) <= 6
    waits = [row.wait for row in sorted(rows, key=lambda row: row.wait)]
    assert all(abs(later - sooner - 0.02) < 0.005 for sooner, later in pairwise(waits))
    assert max(waits) <= HORIZON
    assert claim() == []


def test_rows_without_a_rate_have_no_slot_and_those_with_one_are_left_to_their_own_claim():
    paced(2, rate=50)
    [free] = due(1)
    [row] = queue.claim(LANE, "sandbox", 10, 60.0)
    assert (row.id, row.wait, row.begin_by) == (free.id, None, None)
    assert {each.id for each in claim()}.isdisjoint({free.id})


def test_slots_that_nobody_took_are_lost():
    flow = paced(500, rate=50)
    Flow.objects.filter(id=flow.id).update(next_slot_at="2020-01-01T00:00:00Z")
    assert len(claim()) <= 6


def test_few_rows_take_no_more_slots_than_they_need():
    paced(1, rate=10)
    assert len(claim()) == 1
    due_later = queue.next_opening(LANE, "sandbox")
    assert due_later is None
    flow = Flow.objects.get(rate=10)
    NotificationFactory(recipient=RecipientFactory(project=flow.project), lane=LANE)
    opening = queue.next_opening(LANE, "sandbox")
    assert opening <= 0.1


def test_two_claims_at_once_never_share_a_slot_and_do_not_wait_for_each_other():
    paced(400, rate=400)
    found, lock = [], threading.Lock()

    def run():
        for _ in range(20):
            rows = claim()
            with lock:
                found.extend(rows)
            time.sleep(0.005)
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    join(threads)
    begin_bys = sorted(row.begin_by for row in found)
    assert len(found) > 40
    assert all((b - a).total_seconds() > 0.0024 for a, b in pairwise(begin_bys))


def test_what_has_missed_its_slot_is_not_begun_and_takes_another():
    paced(1, rate=100)
    rows = claim()
    time.sleep(LATE * 2)
    assert queue.begin(rows, "sandbox", 60.0) == set()
    queue.give_back(rows)
    [again] = claim()
    assert again.begin_by > rows[0].begin_by
    assert queue.begin([again], "sandbox", 60.0) == {again.id}


def test_a_row_that_a_worker_died_with_takes_a_slot_too():
    flow = paced(1, rate=2, lapses=1)
    [row] = queue.claim_suspect(LANE, "sandbox", 60.0)
    assert row.begin_by is not None
    assert Flow.objects.get().next_slot_at > flow.next_slot_at
    NotificationFactory(recipient=RecipientFactory(project=flow.project), lane=LANE, lapses=1)
    assert queue.claim_suspect(LANE, "sandbox", 60.0) == []


def test_a_rate_that_was_raised_counts_at_once():
    flow = paced(1, rate=0.01)
    claim()
    NotificationFactory(recipient=RecipientFactory(project=flow.project), lane=LANE)
    assert claim() == []
    Flow.objects.update(rate=100)
    assert queue.next_opening(LANE, "sandbox") < 0.2


def test_a_flow_whose_batch_is_being_loaded_can_be_claimed_from():
    """A foreign key's lock is held by whoever stores rows, for as long as that takes."""
    flow = paced(3, rate=50)
    loading, loaded = threading.Event(), threading.Event()

    def load():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM notifications_flow WHERE id = %s FOR KEY SHARE", (flow.id,))
            loading.set()
            loaded.wait(5)
            cursor.execute("COMMIT")
        connections.close_all()

    thread = threading.Thread(target=load)
    thread.start()
    loading.wait(5)
    assert claim() != []
    loaded.set()
    thread.join()


# -- pause ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [None, 50])
def test_what_was_claimed_before_a_pause_is_not_begun(rate):
    paced(2, rate)
    rows = claim() or queue.claim(LANE, "sandbox", 10, 60.0)
    Flow.objects.update(paused=True)
    assert len(rows) == 2
    assert queue.begin(rows, "sandbox", 60.0) == set()


def test_a_pause_stops_a_drain_at_once_and_nothing_stays_claimed(recorder, wait_until):
    flow = paced(500, rate=50)
    threads = drain_as_processes(recorder, 2)
    wait_until(lambda: len(recorder.given) >= 10)
    Flow.objects.filter(id=flow.id).update(paused=True)
    time.sleep(0.2)
    given = len(recorder.given)
    join(threads)
    assert len(recorder.given) == given
    assert not Notification.objects.exclude(leased_until=None).exists()


# -- drains -----------------------------------------------------------------------------------------------


def test_several_drains_together_keep_the_rate_exactly(recorder):
    paced(150, rate=50)
    started = time.monotonic()
    join(drain_as_processes(recorder, 4))
    assert len(recorder.given) == len(set(recorder.given)) == 150
    assert time.monotonic() - started < 6
    assert most_in_a_second(begun_at()) <= 52


def test_a_high_rate_goes_out_in_groups(recorder):
    recorder.max_in_flight = 32
    paced(600, rate=400)
    started = time.monotonic()
    join(drain_as_processes(recorder, 2))
    assert len(recorder.given) == 600
    assert time.monotonic() - started < 6
    assert most_in_a_second(begun_at()) <= 400 * 1.04 + 1


def test_slow_calls_do_not_bunch_up_what_follows(recorder):
    recorder.answer = lambda message: time.sleep(0.5) or delivery.Sent()
    paced(60, rate=30)
    join(drain_as_processes(recorder, 2))
    assert len(recorder.given) == 60
    assert most_in_a_second(begun_at()) <= 30 * 1.04 + 1


def test_a_flow_without_a_rate_does_not_wait_for_one_that_has(recorder):
    paced(5, rate=2)
    due(100)
    thread = drain_as_processes(recorder, 1)
    time.sleep(1.0)
    assert Notification.objects.filter(flow__rate=None, status="sent").count() == 100
    join(thread)
    assert Notification.objects.filter(status="sent").count() == 105


def test_a_flood_without_a_rate_does_not_starve_a_flow_that_has_one(recorder, wait_until):
    recorder.answer = lambda message: time.sleep(0.02) or delivery.Sent()
    due(1500)
    paced(20, rate=20)
    stopping = threading.Event()
    threads = drain_as_processes(recorder, 1, stopping.is_set)
    wait_until(lambda: not Notification.objects.filter(flow__rate=20, status="pending").exists(), 4)
    assert Notification.objects.filter(status="pending").exists()
    stopping.set()
    join(threads)


def test_a_drain_that_waits_for_a_slot_stops_when_it_is_told_to(recorder):
    paced(3, rate=0.05)
    stopping = threading.Event()
    threads = drain_as_processes(recorder, 2, stopping.is_set)
    time.sleep(0.3)
    stopping.set()
    for thread in threads:
        thread.join(2)
        assert not thread.is_alive()
    assert len(recorder.given) == 1
    assert not Notification.objects.exclude(leased_until=None).exists()
    assert slots.slots_of(recorder).take(LANE, 8, lambda: None) == 8


def test_a_drain_that_waits_for_a_slot_asks_seldom(recorder, monkeypatch):
    paced(3, rate=0.05)
    asked, next_opening = [], queue.next_opening
    monkeypatch.setattr(
        queue, "next_opening", lambda *names: asked.append(names) or next_opening(*names)
    )
    stopping = threading.Event()
    threads = drain_as_processes(recorder, 1, stopping.is_set)
    time.sleep(2.0)
    stopping.set()
    join(threads)
    assert 2 <= len(asked) <= 8


def test_a_changed_rate_takes_effect_within_a_second(recorder, wait_until):
    flow = paced(60, rate=0.1)
    threads = drain_as_processes(recorder, 2)
    wait_until(lambda: len(recorder.given) == 1)
    Flow.objects.filter(id=flow.id).update(rate=60)
    wait_until(lambda: len(recorder.given) > 20, seconds=3)
    Flow.objects.filter(id=flow.id).update(rate=2)
    time.sleep(0.3)
    given = len(recorder.given)
    time.sleep(1.0)
    assert len(recorder.given) - given <= 3
    Flow.objects.filter(id=flow.id).update(rate=None)
    join(threads)
    assert len(recorder.given) == 60


def test_suspects_of_a_flow_with_a_rate_go_out_and_keep_the_rate(recorder):
    paced(4, rate=4, lapses=1)
    join(drain_as_processes(recorder, 2))
    assert len(recorder.given) == 4
    assert most_in_a_second(begun_at()) <= 5


# -- a provider's rate ------------------------------------------------------------------------------------


class Vendor(Recorder):
    """One that leaves the house, and so has a pace."""

    name = "smtp"
    repeatable = False
    has_circuit = True


@pytest.fixture
def vendor(monkeypatch):
    vendor = Vendor()
    monkeypatch.setattr(providers, "_instances", {"smtp": vendor})
    monkeypatch.setattr(slots, "_slots", {})
    yield vendor
    for each in slots._slots.values():
        each.pool.shutdown()


def email(count, priority, **fields):
    return due(count, lane=f"email.{priority}", priority=priority, **fields)


def test_a_providers_rate_is_kept_over_all_lanes_and_workers(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=50"]
    email(60, "low")
    email(60, "high")
    started = time.monotonic()
    threads = drain_as_processes(vendor, 2, lane="email.low")
    join(threads + drain_as_processes(vendor, 2, lane="email.high"))
    assert len(vendor.given) == len(set(vendor.given)) == 120
    assert most_in_a_second(begun_at(provider="smtp")) <= 52
    assert time.monotonic() - started < 5


def test_a_flow_and_its_provider_are_both_kept_to_their_rates(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=40"]
    flow = paced(30, 15, lane="email.low", priority="low")
    email(90, "low")
    join(drain_as_processes(vendor, 2, lane="email.low"))
    assert len(vendor.given) == 120
    assert most_in_a_second(begun_at(provider="smtp")) <= 40 * 1.04 + 1
    assert most_in_a_second(begun_at(notification__flow=flow)) <= 15 * 1.04 + 1


def test_a_row_that_had_its_flows_slot_and_none_of_its_provider_is_not_left_behind(
    vendor, settings, monkeypatch
):
    settings.PROVIDER_RATES = ["smtp=20"]
    paced(1, 10, lane="email.low", priority="low")
    take, refusals = ProviderPace.take, iter([True])

    def none_at_first(pace, wanted, precedence):
        slots = take(pace, wanted, precedence)
        return replace(slots, count=0, opens_in=0.05) if next(refusals, False) else slots

    monkeypatch.setattr(ProviderPace, "take", none_at_first)
    # A little ahead: the drain finds nothing more to wait for while it keeps the row until then.
    Flow.objects.update(next_slot_at=Now() + timedelta(seconds=0.1))
    join(drain_as_processes(vendor, 1, lane="email.low"))
    assert len(vendor.given) == 1


def test_an_urgent_one_does_not_wait_behind_the_others_of_its_provider(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=25"]
    email(300, "low")
    stopping = threading.Event()
    threads = drain_as_processes(vendor, 3, stopping.is_set, lane="email.low")
    time.sleep(1.0)
    waits = []
    for _ in range(5):
        [urgent] = email(1, "high")
        asked = time.monotonic()
        join(drain_as_processes(vendor, 1, lane="email.high"))
        assert str(urgent.id) in vendor.given
        waits.append(time.monotonic() - asked)
    stopping.set()
    join(threads)
    # An interval is 0.04 s; with four drains that take turns it would be four of them, and more.
    assert sorted(waits)[2] < 0.3
    assert not Notification.objects.exclude(leased_until=None).exists()


def test_urgent_ones_take_slots_earlier_than_others_and_those_in_turn_earlier_still(settings):
    settings.PROVIDER_RATES = ["smtp=5"]
    pace = ProviderPace("smtp")
    assert pace.take(1, ORDINARY).count == 1
    time.sleep(0.12)
    # The next is 0.08 s ahead, and the one after it 0.28 s.
    assert pace.take(1, ORDINARY).count == 0
    assert pace.take(1, URGENT).count == 1
    assert pace.take(1, URGENT).count == 0
    assert pace.take(1, IN_TURN).count == 1


@pytest.mark.parametrize("precedence", [ORDINARY, URGENT, IN_TURN])
def test_no_slot_is_taken_so_early_that_a_lease_could_end_before_it(settings, precedence):
    settings.PROVIDER_RATES = ["smtp=0.001"]
    pace = ProviderPace("smtp")
    assert pace.take(1, precedence).count == 1
    assert pace.take(1, precedence).count == 0


def test_a_flood_of_urgent_ones_slows_the_others_down_and_does_not_stop_them(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=100"]
    email(250, "high")
    email(3, "low")
    urgent = drain_as_processes(vendor, 1, lane="email.high")
    join(drain_as_processes(vendor, 1, lane="email.low"))
    assert Notification.objects.filter(priority="high", status="pending").exists()
    join(urgent)


def test_a_slow_provider_is_claimed_for_no_more_than_it_can_take(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=0.1"]
    email(20, "low")
    stopping = threading.Event()
    threads = drain_as_processes(vendor, 1, stopping.is_set, lane="email.low")
    time.sleep(0.5)
    assert Notification.objects.filter(status="pending").exclude(leased_until=None).count() <= 2
    stopping.set()
    join(threads)
    assert len(vendor.given) == 1
    assert slots.slots_of(vendor).take(LANE, 8, lambda: None) == 8


def test_the_slots_of_a_provider_do_not_accumulate(settings):
    settings.PROVIDER_RATES = ["smtp=50"]
    pace = ProviderPace("smtp")
    assert pace.take(1, ORDINARY).count == 1
    Pace.objects.update(next_slot_at=Now() - timedelta(minutes=5))
    assert pace.take(1000, URGENT).count <= 3


@pytest.mark.parametrize(
    "given", ["smtp", "smtp=", "smtp=fast", "smtp=0", "smtp=-1", "smtp=nan", "=5"]
)
def test_an_unreadable_rate_is_a_check_with_a_hint(settings, given):
    settings.PROVIDER_RATES = [given]
    [error] = checks.provider_rates()
    assert error.id == "notifications.E022"
    assert "smtp=100" in error.hint


def test_a_rate_of_an_unknown_provider_is_a_check_that_names_those_there_are(settings):
    settings.PROVIDER_RATES = ["smpt=5", "mailgun=3"]
    [error] = checks.provider_rates()
    assert "'smpt'" in error.msg
    assert "smtp" in error.hint


# -- "too many" -------------------------------------------------------------------------------------------

TOO_MANY = Temporary("http_429", "slow down", throttled=True)


def lowered(to, ago, provider="smtp"):
    Pace.objects.create(provider=provider, lowered_to=to, lowered_at=Now() - timedelta(seconds=ago))


def refuse(message):
    raise TOO_MANY


def test_too_many_costs_no_attempt_and_is_never_final():
    verdict = judge(TOO_MANY, attempt=25, max_attempts=25, chance=0.5)
    assert (verdict.status, verdict.spent) == ("pending", False)
    assert 0 < verdict.wait <= 30


def test_a_burst_of_too_many_lowers_the_pace_once(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=1000"]
    vendor.answer = refuse
    email(8, "low")
    join(drain_as_processes(vendor, 1, lane="email.low"))
    first = Pace.objects.get()
    assert LOWEST <= first.lowered_to <= 4
    ProviderPace("smtp").lower(seconds=0.1)
    assert Pace.objects.get().lowered_at == first.lowered_at
    assert set(Notification.objects.values_list("status", "attempt_count")) == {("pending", 0)}


def test_it_is_lowered_to_half_of_what_was_accepted_lately(vendor):
    email(100, "low")
    join(drain_as_processes(vendor, 1, lane="email.low"))
    pace = ProviderPace("smtp")
    pace.lower(seconds=0.1)
    assert 20 <= Pace.objects.get().lowered_to <= 50
    assert 20 <= pace.rate() <= 51


def test_a_configured_rate_is_at_most_halved_by_each_burst(vendor, settings):
    settings.PROVIDER_RATES = ["smtp=30"]
    email(60, "low")
    join(drain_as_processes(vendor, 1, lane="email.low"))
    ProviderPace("smtp").lower(seconds=0.1)
    first = Pace.objects.get().lowered_to
    assert 8 <= first <= 15
    Pace.objects.update(lowered_at=Now() - timedelta(seconds=BURST + 1))
    ProviderPace("smtp").lower(seconds=0.1)
    assert Pace.objects.get().lowered_to < first * 0.6


def test_a_lowered_pace_doubles_each_minute_until_it_is_the_configured_one(settings):
    settings.PROVIDER_RATES = ["smtp=35"]
    lowered(10, ago=60)
    assert ProviderPace("smtp").rate() == pytest.approx(20, rel=0.05)
    Pace.objects.update(lowered_at=Now() - timedelta(seconds=180))
    assert ProviderPace("smtp").rate() == 35


def test_a_lowered_pace_is_forgotten_where_none_is_configured():
    lowered(10, ago=120)
    pace = ProviderPace("smtp")
    assert pace.rate() == pytest.approx(40, rel=0.05)
    Pace.objects.update(lowered_at=Now() - timedelta(minutes=5))
    assert ProviderPace("smtp").rate() is None
    assert pace.take(5, ORDINARY) is None


def test_a_drain_keeps_to_a_pace_that_another_worker_has_lowered(vendor):
    lowered(10, ago=0)
    email(25, "low")
    join(drain_as_processes(vendor, 2, lane="email.low"))
    assert len(vendor.given) == 25
    assert most_in_a_second(begun_at(provider="smtp")) <= 12


def test_too_many_without_a_time_opens_no_circuit_and_with_one_does(vendor):
    from notifications.circuits import WORKS, sign_of

    assert sign_of(TOO_MANY) == WORKS
    assert sign_of(Temporary("http_429", retry_after=5, throttled=True)).rest == 5


def test_the_sandbox_has_no_pace(recorder):
    recorder.answer = refuse
    due(3)
    join(drain_as_processes(recorder, 1))
    assert not Pace.objects.exists()
