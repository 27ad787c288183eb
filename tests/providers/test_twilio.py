from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from twilio.request_validator import RequestValidator

from notifications import providers
from notifications.models import Notification
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Temporary,
)
from notifications.providers.callbacks import notification_of
from notifications.providers.deadline import Deadline
from notifications.providers.events import Forged
from tests.providers.contract import (
    PUBLIC_URL,
    VendorContract,
    Webhook,
    WebhookContract,
    configure,
    link_to,
)
from tests.providers.vendors import DRIP, HANG, RESET, FakeTwilio


class TestTwilio(VendorContract):
    name = "twilio"
    channel = "sms"
    address = "+15005550009"
    secret = FakeTwilio.password

    @pytest.fixture
    def vendor(self) -> Iterator[FakeTwilio]:
        with FakeTwilio() as server:
            yield server

    def make_refuse_for_now(self, vendor: FakeTwilio) -> None:
        vendor.next_error(429, 20429, "Too Many Requests")

    def make_refuse_for_good(self, vendor: FakeTwilio) -> None:
        vendor.next_error(400, 21211, "Invalid 'To' Phone Number")

    def make_refuse_us(self, vendor: FakeTwilio) -> None:
        vendor.next_error(401, 20003, "Authenticate")

    def make_vanish_after_the_message(self, vendor: FakeTwilio) -> None:
        vendor.next(RESET)

    def make_hang_after_the_message(self, vendor: FakeTwilio) -> None:
        vendor.next(HANG)

    def make_drip(self, vendor: FakeTwilio) -> None:
        vendor.next(DRIP)

    def test_asking_with_a_wrong_token_says_that_we_are_refused(
        self, provider: Provider, vendor: FakeTwilio
    ) -> None:
        self.make_refuse_us(vendor)
        with pytest.raises(Misconfigured, match="20003"):
            provider.verify(Deadline(5.0))

    def test_asking_for_a_suspended_account_says_so(
        self, provider: Provider, vendor: FakeTwilio
    ) -> None:
        vendor.account_status = "suspended"
        with pytest.raises(Misconfigured, match="suspended"):
            provider.verify(Deadline(5.0))

    def test_the_form_has_the_message(self, provider: Provider, vendor: FakeTwilio) -> None:
        self.send(provider, text="Grüße 👋")
        assert vendor.accepted == [
            {"To": [self.address], "From": ["+15005550006"], "Body": ["Grüße 👋"]}
        ]

    def test_the_sid_is_kept(self, provider: Provider) -> None:
        assert self.send(provider).provider_message_id.startswith("SM")

    def test_a_messaging_service_may_choose_the_sender(
        self, vendor: FakeTwilio, settings: Any
    ) -> None:
        service = "MG" + "0" * 32
        configure(settings, vendor.settings | {"TWILIO_FROM": service})
        self.send(providers.get("twilio"))
        assert vendor.accepted[0]["MessagingServiceSid"] == [service]
        assert "From" not in vendor.accepted[0]

    @pytest.mark.parametrize(
        ("status", "code", "too_fast"),
        [(429, 20429, True), (400, 21611, True), (429, 29999, True), (503, 20503, False)],
    )
    def test_it_says_when_we_are_too_fast(
        self, provider: Provider, vendor: FakeTwilio, status: int, code: int, too_fast: bool
    ) -> None:
        vendor.next_error(status, code, "In its words")
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.throttled is too_fast

    @pytest.mark.parametrize(
        ("status", "code", "meaning"),
        [
            (401, 20003, Misconfigured),
            (403, 20005, Misconfigured),
            (404, 20404, Misconfigured),
            (400, 21212, Misconfigured),
            (400, 21603, Misconfigured),
            (400, 21606, Misconfigured),
            (400, 21659, Misconfigured),
            (429, 20429, Temporary),
            (429, 14107, Temporary),
            (400, 21611, Temporary),
            (400, 21211, Permanent),
            (400, 21408, Permanent),
            (400, 21608, Permanent),
            (400, 21610, Permanent),
            (400, 21614, Permanent),
            (400, 21617, Permanent),
            (400, 29999, Permanent),
            (403, 29999, Misconfigured),
            (500, 20500, Ambiguous),
            (503, 20503, Temporary),
        ],
    )
    def test_a_code_means_what_the_table_says(
        self,
        provider: Provider,
        vendor: FakeTwilio,
        status: int,
        code: int,
        meaning: type[ProviderError],
    ) -> None:
        vendor.next_error(status, code, "In Twilio's words")
        with pytest.raises(meaning) as refused:
            self.send(provider)
        assert refused.value.code == f"twilio_{code}"
        assert refused.value.detail == "In Twilio's words"

    @pytest.mark.parametrize(
        ("status", "meaning"), [(502, Ambiguous), (503, Temporary), (403, Misconfigured)]
    )
    def test_an_answer_that_is_not_twilios_counts_by_its_status(
        self, provider: Provider, vendor: FakeTwilio, status: int, meaning: type[ProviderError]
    ) -> None:
        vendor.next(status=status, body="<html>from some proxy</html>")
        with pytest.raises(meaning) as refused:
            self.send(provider)
        assert refused.value.code == f"http_{status}"

    @pytest.mark.parametrize("body", ["", "<html></html>", "{}"])
    def test_a_success_that_cannot_be_read_is_ambiguous(
        self, provider: Provider, vendor: FakeTwilio, body: str
    ) -> None:
        vendor.next(status=201, body=body)
        with pytest.raises(Ambiguous) as unread:
            self.send(provider)
        assert unread.value.code == "unreadable_answer"

    @pytest.mark.parametrize(
        ("code", "reject_reason"),
        [(21610, "unsubscribed"), (21211, "invalid"), (21614, "invalid"), (21408, None)],
    )
    def test_a_refusal_says_what_is_wrong_with_the_number_itself(
        self, provider: Provider, vendor: FakeTwilio, code: int, reject_reason: str | None
    ) -> None:
        vendor.next_error(400, code, "In Twilio's words")
        with pytest.raises(Permanent) as refused:
            self.send(provider)
        assert refused.value.reject_reason == reject_reason

    def test_twilio_is_told_where_to_report_by_a_link_that_only_we_can_make(
        self, provider: Provider, vendor: FakeTwilio, settings: Any
    ) -> None:
        settings.PUBLIC_URL = "https://notify.example.com"
        message = self.message()
        provider.send(message, Deadline(5.0))
        [url] = vendor.accepted[0]["StatusCallback"]
        place, _, link = url.rpartition("/")
        assert place == "https://notify.example.com/hooks/twilio"
        assert notification_of(link) == message.notification_id
        with pytest.raises(Forged):
            notification_of(link[:-1] + ("A" if link[-1] != "A" else "B"))

    def test_retry_after_is_kept(self, provider: Provider, vendor: FakeTwilio) -> None:
        vendor.next_error(429, 20429, "Too Many Requests", **{"Retry-After": "3"})
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.retry_after == 3

    def test_a_wrong_token_is_a_misconfiguration(self, vendor: FakeTwilio, settings: Any) -> None:
        configure(settings, vendor.settings | {"TWILIO_AUTH_TOKEN": "token-wrong"})
        with pytest.raises(Misconfigured) as refused:
            self.send(providers.get("twilio"))
        assert refused.value.code == "twilio_20003"


class TestTwiliosWebhooks(WebhookContract):
    """Twilio's own words are in tests/test_hooks.py."""

    name = "twilio"
    channel = "sms"
    secrets = {"TWILIO_AUTH_TOKEN": FakeTwilio.password, "TWILIO_AUTH_TOKEN_FALLBACKS": []}

    def webhook(self, notification: Notification, word: str, *, forged: bool = False) -> Webhook:
        """Signed for our public address, which the server itself does not have."""
        path = link_to("twilio", notification)
        form = {"MessageSid": self.message_id, "MessageStatus": word, "To": "+15005550009"}
        validator = RequestValidator("another-token" if forged else FakeTwilio.password)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Twilio-Signature": validator.compute_signature(f"{PUBLIC_URL}{path}", form),
        }
        return Webhook(path, headers, urlencode(form).encode())

    def unsigned(self, webhook: Webhook) -> Webhook:
        headers = {"Content-Type": webhook.headers["Content-Type"]}
        return Webhook(webhook.path, headers, webhook.body)
