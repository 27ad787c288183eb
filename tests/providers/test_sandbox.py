from __future__ import annotations

import phonenumbers
import pytest

from notifications.providers import sandbox
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Temporary,
)
from tests.providers.contract import ProviderContract, ends_within


class TestSandbox(ProviderContract):
    name = "sandbox"
    channel = "email"
    address = "ann@example.com"

    def test_it_says_that_nothing_went_out(self, provider: Provider) -> None:
        sent = self.send(provider)
        assert sent.provider_message_id.startswith("sandbox-")
        assert sent.detail == "nothing has left the machine"
        assert not sent.delivered

    def test_in_app_is_delivered_at_once(self, provider: Provider) -> None:
        assert self.send(provider, channel="in_app", to="user-1").delivered

    @pytest.mark.parametrize(
        ("name", "number", "outcome"),
        [
            ("refused", "+15005550009", Permanent),
            ("temporary", "+15005550002", Temporary),
            ("misconfigured", "+15005550003", Misconfigured),
            ("ambiguous", "+15005550004", Ambiguous),
            ("late", "+15005550011", Ambiguous),
        ],
    )
    def test_an_address_simulates_an_outcome(
        self, provider: Provider, name: str, number: str, outcome: type[ProviderError]
    ) -> None:
        for to in (f"{name}@sandbox.test", f"{name.upper()}+order-7@Sandbox.Test"):
            with pytest.raises(outcome):
                self.send(provider, to=to)
        with pytest.raises(outcome):
            self.send(provider, channel="sms", to=number)

    @pytest.mark.parametrize(
        ("channel", "to"), [("email", "delivered@sandbox.test"), ("sms", "+15005550006")]
    )
    def test_an_address_simulates_success(self, provider: Provider, channel: str, to: str) -> None:
        assert self.send(provider, channel=channel, to=to).provider_message_id

    def test_the_same_name_elsewhere_means_nothing(self, provider: Provider) -> None:
        assert self.send(provider, to="bounced@example.com").provider_message_id

    def test_slow_is_slow_but_holds_the_deadline(
        self, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sandbox, "SLOW_SECONDS", 0.2)
        with pytest.raises(AssertionError, match="took"), ends_within(0.2):
            self.send(provider, to="slow@sandbox.test")
        with ends_within(0.15):
            self.send(provider, deadline=0.05, to="slow@sandbox.test")

    @pytest.mark.parametrize("name", [name for name in sandbox.SIMULATIONS if name[0] == "+"])
    def test_its_numbers_are_possible_ones(self, name: str) -> None:
        assert phonenumbers.is_possible_number(phonenumbers.parse(name))

    def test_its_table_has_every_address_that_simulates_something(self) -> None:
        for name in sandbox.SIMULATIONS:
            assert name in (sandbox.__doc__ or "")
