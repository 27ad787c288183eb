"""Slots: the lanes of a process share a provider's connections, and urgent ones go first."""

import pytest

from notifications.providers.sandbox import Sandbox
from notifications.slots import Slots


class Narrow(Sandbox):
    max_in_flight = 4


@pytest.fixture
def slots():
    slots = Slots(Narrow())
    yield slots
    slots.pool.shutdown()


def nobody_calls():
    raise AssertionError("called although slots were free")


def test_two_lanes_together_have_no_more_than_the_provider_takes(slots):
    assert slots.take("email.normal", 3, nobody_calls) == 3
    assert slots.take("email.high", 3, nobody_calls) == 1


def test_who_found_none_is_called_when_one_is_free(slots):
    called = []
    slots.take("email.normal", 4, nobody_calls)
    assert slots.take("email.low", 4, lambda: called.append("low")) == 0
    slots.give_back(1)
    assert called == ["low"]
    assert slots.take("email.low", 4, nobody_calls) == 1


def test_the_next_free_slot_is_the_urgent_lanes(slots):
    slots.take("email.normal", 4, nobody_calls)
    slots.take("email.high", 4, lambda: None)
    slots.give_back(1)
    assert slots.take("email.normal", 4, lambda: None) == 0
    assert slots.take("email.high", 4, nobody_calls) == 1


def test_an_urgent_lane_that_ends_waits_no_more(slots):
    slots.take("email.normal", 4, nobody_calls)
    slots.take("email.high", 4, nobody_calls)
    slots.leave("email.high")
    slots.give_back(1)
    assert slots.take("email.normal", 4, nobody_calls) == 1


def test_a_flood_of_urgent_calls_slows_other_lanes_down_and_does_not_stop_them(slots):
    slots.take("email.high", 4, nobody_calls)
    slots.take("email.high", 4, lambda: None)
    slots.give_back(1)
    assert [slots.take("email.normal", 4, lambda: None) for _ in range(10)] == [0] * 9 + [1]
