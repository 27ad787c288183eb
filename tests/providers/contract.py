"""What every provider promises, as tests. A new provider's test class inherits them.

`ProviderContract` is for all; `VendorContract` adds what only a vendor across a network can get wrong.
A subclass has a `vendor` fixture (a running stand-in from vendors.py) and says how that one misbehaves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from notifications import providers
from notifications.providers.base import (
    Ambiguous,
    Message,
    Misconfigured,
    Permanent,
    Provider,
    Sent,
    Temporary,
)
from notifications.providers.deadline import Deadline

#: Long enough for a send on loopback on a busy machine.
AMPLE = 5.0
#: For a server that will not answer.
SHORT = 0.4


class ProviderContract:
    name: ClassVar[str]
    channel: ClassVar[str]
    address: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _fresh_registry(self) -> Iterator[None]:
        providers.reset()
        yield
        providers.reset()

    @pytest.fixture
    def provider(self) -> Provider:
        return providers.get(self.name)

    def message(self, **overrides: Any) -> Message:
        fields: dict[str, Any] = {
            "notification_id": uuid4(),
            "channel": self.channel,
            "to": self.address,
            "subject": "Your order",
            "text": "It is on its way.",
        }
        return Message(**fields | overrides)

    def send(self, provider: Provider, *, deadline: float = AMPLE, **overrides: Any) -> Sent:
        return provider.send(self.message(**overrides), Deadline(deadline))

    def test_a_message_is_sent(self, provider: Provider) -> None:
        assert isinstance(self.send(provider), Sent)

    def test_it_is_one_instance_under_its_name(self, provider: Provider) -> None:
        assert provider is providers.get(self.name)
        assert provider.name == self.name

    def test_the_registry_knows_whether_it_may_repeat(self, provider: Provider) -> None:
        assert (self.name in providers.repeatable_names()) == provider.repeatable

    def test_many_threads_send_at_once(self, provider: Provider) -> None:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: self.send(provider), range(24)))
        assert all(isinstance(answer, Sent) for answer in answers)

    def test_it_can_be_asked_whether_it_would_take_a_message(self, provider: Provider) -> None:
        assert isinstance(provider.verify(Deadline(AMPLE)), str)


class VendorContract(ProviderContract):
    """Each `make_...` scripts the stand-in's next answer."""

    secret: ClassVar[str]

    def make_refuse_for_now(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_refuse_for_good(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_refuse_us(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_vanish_after_the_message(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_hang_after_the_message(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_drip(self, vendor: Any) -> None:
        raise NotImplementedError

    @pytest.fixture
    def provider(self, vendor: Any, settings: Any) -> Provider:
        configure(settings, vendor.settings)
        return providers.get(self.name)

    def test_it_is_asked_over_a_connection_and_is_sent_nothing(
        self, provider: Provider, vendor: Any
    ) -> None:
        assert provider.verify(Deadline(AMPLE))
        assert vendor.connections == 1
        assert vendor.accepted == []
        self.send(provider)
        assert len(vendor.accepted) == 1

    def test_asking_one_that_is_down_says_so_in_time(self, provider: Provider, vendor: Any) -> None:
        vendor.__exit__()
        with pytest.raises(Temporary), ends_within(AMPLE):
            provider.verify(Deadline(AMPLE))

    def test_the_vendor_has_the_message_once(self, provider: Provider, vendor: Any) -> None:
        self.send(provider)
        assert len(vendor.accepted) == 1

    def test_connections_are_reused(self, provider: Provider, vendor: Any) -> None:
        for _ in range(5):
            self.send(provider)
        assert vendor.connections == 1

    def test_a_connection_that_the_vendor_closed_costs_nothing(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.send(provider)
        vendor.close_connections()
        time.sleep(0.05)
        self.send(provider)
        assert (len(vendor.accepted), vendor.connections) == (2, 2)

    def test_a_refusal_for_now_is_temporary(self, provider: Provider, vendor: Any) -> None:
        self.make_refuse_for_now(vendor)
        with pytest.raises(Temporary):
            self.send(provider)
        self.send(provider)

    def test_a_refusal_for_good_is_permanent(self, provider: Provider, vendor: Any) -> None:
        self.make_refuse_for_good(vendor)
        with pytest.raises(Permanent):
            self.send(provider)
        self.send(provider)

    def test_a_refusal_of_us_is_a_misconfiguration_without_our_secret(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_refuse_us(vendor)
        with pytest.raises(Misconfigured) as refused:
            self.send(provider)
        assert self.secret not in f"{refused.value.code} {refused.value.detail}"

    def test_no_server_at_all_is_temporary(self, provider: Provider, vendor: Any) -> None:
        vendor.__exit__()
        with pytest.raises(Temporary) as failed:
            self.send(provider)
        assert failed.value.code == "connection_failed"

    def test_a_connection_lost_after_the_message_is_ambiguous(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_vanish_after_the_message(vendor)
        with pytest.raises(Ambiguous) as lost:
            self.send(provider)
        assert lost.value.code == "connection_lost"

    def test_no_answer_until_the_deadline_is_ambiguous(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_hang_after_the_message(vendor)
        with ends_within(SHORT + 0.3), pytest.raises(Ambiguous) as failed:
            self.send(provider, deadline=SHORT)
        assert failed.value.code == "timed_out"

    def test_a_server_that_drips_ends_at_the_deadline(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_drip(vendor)
        with ends_within(SHORT + 0.3), pytest.raises(Ambiguous):
            self.send(provider, deadline=SHORT)

    def test_a_kept_connection_is_under_the_deadline_of_the_call_that_uses_it(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.send(provider)
        self.make_drip(vendor)
        with ends_within(SHORT + 0.3), pytest.raises(Ambiguous):
            self.send(provider, deadline=SHORT)
        assert vendor.connections == 1

    def test_the_next_send_after_a_cut_one_works(self, provider: Provider, vendor: Any) -> None:
        self.make_drip(vendor)
        with pytest.raises(Ambiguous):
            self.send(provider, deadline=SHORT)
        self.send(provider)

    def test_a_passed_deadline_sends_nothing(self, provider: Provider, vendor: Any) -> None:
        with pytest.raises(Temporary):
            self.send(provider, deadline=0)
        assert vendor.accepted == []

    def test_a_passed_deadline_sends_nothing_over_a_kept_connection(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.send(provider)
        with pytest.raises(Temporary):
            self.send(provider, deadline=0)
        assert len(vendor.accepted) == 1


class ends_within:
    """`with ends_within(1):` fails when the block takes longer than so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *exc_info: object) -> None:
        took = time.monotonic() - self.began
        assert took < self.seconds, f"took {took:.2f} s"


def overriding(field: str, value: str) -> dict[str, Any]:
    return {field: value}


def configure(settings: Any, values: dict[str, Any]) -> None:
    """Put a stand-in's settings into Django's, for one test."""
    for name, value in values.items():
        setattr(settings, name, value)
    providers.reset()
