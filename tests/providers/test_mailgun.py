from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from notifications import providers
from notifications.models import Notification
from notifications.providers import http
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    Provider,
    ProviderError,
    Temporary,
)
from notifications.providers.deadline import Deadline
from tests.providers.contract import (
    VendorContract,
    Webhook,
    WebhookContract,
    configure,
    ends_within,
    overriding,
)
from tests.providers.vendors import DRIP, HANG, RESET, RESET_EARLY, Authority, FakeMailgun

#: More than the sockets' buffers take, so that a request breaks while it is being sent.
LARGE = "x" * 20_000_000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


class MailgunContract(VendorContract):
    name = "mailgun"
    channel = "email"
    address = "ann@example.com"
    secret = FakeMailgun.password

    def make_refuse_for_now(self, vendor: FakeMailgun) -> None:
        vendor.next(status=429, body='{"message": "Too many requests"}')

    def make_refuse_for_good(self, vendor: FakeMailgun) -> None:
        vendor.next(status=400, body='{"message": "\'to\' parameter is not a valid address."}')

    def make_refuse_us(self, vendor: FakeMailgun) -> None:
        vendor.next(status=401, body="Forbidden")

    def make_vanish_after_the_message(self, vendor: FakeMailgun) -> None:
        vendor.next(RESET)

    def make_hang_after_the_message(self, vendor: FakeMailgun) -> None:
        vendor.next(HANG)

    def make_drip(self, vendor: FakeMailgun) -> None:
        vendor.next(DRIP)


class TestMailgun(MailgunContract):
    @pytest.mark.parametrize(
        ("setting", "value"),
        [("MAILGUN_API_KEY", "another-key"), ("MAILGUN_SENDER_DOMAIN", "other.example.com")],
    )
    def test_asking_with_a_wrong_key_or_domain_says_that_we_are_refused(
        self, vendor: FakeMailgun, settings: Any, setting: str, value: str
    ) -> None:
        configure(settings, vendor.settings)
        settings.ANYMAIL = settings.ANYMAIL | {setting: value}
        with pytest.raises(Misconfigured):
            providers.get("mailgun").verify(Deadline(5.0))

    @pytest.fixture
    def vendor(self) -> Iterator[FakeMailgun]:
        with FakeMailgun() as server:
            yield server

    def test_the_form_has_all_of_the_message(
        self, provider: Provider, vendor: FakeMailgun, settings: Any
    ) -> None:
        settings.DEFAULT_FROM_EMAIL = "notifications@example.com"
        notification_id = UUID("01890000-0000-7000-8000-000000000001")
        self.send(
            provider,
            notification_id=notification_id,
            subject="Grüße",
            html="<p>Hallo</p>",
            from_email="Shop <shop@example.com>",
            reply_to="help@example.com",
        )
        form = vendor.accepted[0]
        assert form["to"] == [self.address]
        assert form["from"] == ["Shop <shop@example.com>"]
        assert form["h:Reply-To"] == ["help@example.com"]
        assert form["subject"] == ["Grüße"]
        assert form["text"] == ["It is on its way."]
        assert form["html"] == ["<p>Hallo</p>"]
        assert form["h:Message-Id"] == [f"<{notification_id}@example.com>"]
        assert form["v:notification_id"] == [str(notification_id)]

    def test_the_vendors_id_is_kept(self, provider: Provider) -> None:
        assert self.send(provider).provider_message_id.endswith("@mg.example.com>")

    @pytest.mark.parametrize(
        ("status", "words", "meaning", "code"),
        [
            (400, "'to' parameter is not a valid address", Permanent, "invalid_address"),
            (400, "to parameter is missing", Permanent, "invalid_address"),
            (400, "'from' parameter is not a valid address", Misconfigured, "invalid_sender"),
            (400, "Message size exceeds 25 MB", Permanent, "http_400"),
            (401, "Forbidden", Misconfigured, "http_401"),
            (402, "Payment required", Misconfigured, "http_402"),
            (403, "Domain mg.example.com is not allowed to send", Misconfigured, "http_403"),
            (403, "add it to authorized recipients", Permanent, "recipient_not_authorized"),
            (404, "Domain not found: mg.example.com", Misconfigured, "unknown_domain"),
            (302, "Moved", Misconfigured, "http_302"),
            (413, "Too large", Permanent, "http_413"),
            (429, "Too many requests", Temporary, "http_429"),
            (500, "Internal error", Ambiguous, "http_500"),
            (502, "Bad gateway", Ambiguous, "http_502"),
            (503, "Service unavailable", Temporary, "http_503"),
            (504, "Gateway timeout", Ambiguous, "http_504"),
            (200, "Mailgun Magnificent API", Misconfigured, "invalid_url"),
            (200, "<html>Welcome to the hotel's Wi-Fi</html>", Ambiguous, "http_200"),
        ],
    )
    def test_an_answer_means_what_the_table_says(
        self,
        provider: Provider,
        vendor: FakeMailgun,
        status: int,
        words: str,
        meaning: type[ProviderError],
        code: str,
    ) -> None:
        vendor.next(status=status, body=json.dumps({"message": words}))
        with pytest.raises(meaning) as refused:
            self.send(provider)
        assert refused.value.code == code
        assert words in refused.value.detail

    @pytest.mark.parametrize(("status", "too_fast"), [(429, True), (503, False)])
    def test_only_429_says_that_we_are_too_fast(
        self, provider: Provider, vendor: FakeMailgun, status: int, too_fast: bool
    ) -> None:
        vendor.next(status=status)
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.throttled is too_fast

    def test_retry_after_may_be_seconds(self, provider: Provider, vendor: FakeMailgun) -> None:
        vendor.next(status=429, headers={"Retry-After": "7"})
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.retry_after == 7

    def test_retry_after_may_be_a_date(self, provider: Provider, vendor: FakeMailgun) -> None:
        later = datetime.now(UTC) + timedelta(seconds=90)
        vendor.next(status=503, headers={"Retry-After": format_datetime(later, usegmt=True)})
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.retry_after == pytest.approx(90, abs=3)

    @pytest.mark.parametrize("value", ["", "soon", "-5", "1e999"])
    def test_a_retry_after_that_is_neither_is_ignored(
        self, provider: Provider, vendor: FakeMailgun, value: str
    ) -> None:
        vendor.next(status=429, headers={"Retry-After": value})
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.retry_after is None

    def test_a_redirect_is_not_followed(self, provider: Provider, vendor: FakeMailgun) -> None:
        vendor.next(status=307, headers={"Location": f"{vendor.url}/v3/mg.example.com/messages"})
        with pytest.raises(Misconfigured):
            self.send(provider)
        assert vendor.accepted == []

    def test_a_request_that_broke_half_way_is_temporary(
        self, provider: Provider, vendor: FakeMailgun
    ) -> None:
        vendor.next(RESET_EARLY)
        with pytest.raises(Temporary) as lost:
            self.send(provider, text=LARGE)
        assert lost.value.code == "connection_lost"

    def test_an_idle_connection_is_not_trusted(
        self, provider: Provider, vendor: FakeMailgun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "IDLE_LIMIT", 0.0)
        self.send(provider)
        self.send(provider)
        assert vendor.connections == 2

    def test_a_server_that_never_reads_is_given_up_before_the_deadline(
        self, provider: Provider, vendor: FakeMailgun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http, "READ_TIMEOUT", 0.2)
        vendor.next(HANG)
        with ends_within(1), pytest.raises(Ambiguous) as failed:
            self.send(provider)
        assert failed.value.code == "timed_out"

    @pytest.mark.parametrize("field", ["subject", "to", "from_email", "reply_to"])
    def test_a_line_break_in_a_header_is_refused(
        self, provider: Provider, vendor: FakeMailgun, field: str
    ) -> None:
        with pytest.raises(Permanent) as refused:
            self.send(provider, **overriding(field, "a@example.com\nBcc: eve@example.com"))
        assert refused.value.code == "invalid_header"
        assert vendor.accepted == []

    def test_a_wrong_key_is_a_misconfiguration(self, vendor: FakeMailgun, settings: Any) -> None:
        wrong = vendor.settings["ANYMAIL"] | {"MAILGUN_API_KEY": "key-wrong"}
        configure(settings, vendor.settings | {"ANYMAIL": wrong})
        with pytest.raises(Misconfigured):
            self.send(providers.get("mailgun"))


class TestMailgunOverTls(MailgunContract):
    @pytest.fixture
    def vendor(
        self, authority: Authority, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[FakeMailgun]:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.write(tmp_path / "authority.pem"))
        with FakeMailgun(tls=authority.server_context()) as server:
            yield server

    def test_a_certificate_of_nobody_is_a_misconfiguration(
        self, provider: Provider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with pytest.raises(Misconfigured) as refused:
            self.send(provider)
        assert refused.value.code == "tls_certificate"


class TestMailgunsWebhooks(WebhookContract):
    """Mailgun's own words are in tests/test_hooks.py."""

    name = "mailgun"
    channel = "email"
    signing_key = "signing-key-example"
    secrets = {"MAILGUN_WEBHOOK_SIGNING_KEY": [signing_key], "ANYMAIL": {}}
    message_id = "<message-id@mg.example.com>"

    def webhook(self, notification: Notification, word: str, *, forged: bool = False) -> Webhook:
        """The signature covers a time and a token, and nothing of the event."""
        timestamp, token = str(int(time.time())), uuid4().hex
        key = b"another-key" if forged else self.signing_key.encode()
        signature = hmac.new(key, f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
        document = {
            "signature": {"timestamp": timestamp, "token": token, "signature": signature},
            "event-data": {
                "id": "event-id-example",
                "event": word,
                "timestamp": 1529006854.329574,
                "recipient": "ann@example.com",
                "message": {"headers": {"message-id": self.message_id.strip("<>")}},
                "user-variables": {"notification_id": str(notification.id)},
            },
        }
        return _of_mailgun(document)

    def unsigned(self, webhook: Webhook) -> Webhook:
        return _of_mailgun({"event-data": json.loads(webhook.body)["event-data"]})


def _of_mailgun(document: dict[str, Any]) -> Webhook:
    headers = {"Content-Type": "application/json"}
    return Webhook("/hooks/mailgun", headers, json.dumps(document).encode())


class TestAnotherVendorOfAnymail:
    ACCEPTED = json.dumps(
        {"ErrorCode": 0, "Message": "OK", "MessageID": "m-1", "To": "ann@example.com"}
    )
    INACTIVE = json.dumps(
        {
            "ErrorCode": 406,
            "Message": "Found inactive addresses: ann@example.com. Inactive recipients are ones "
            "that have generated a hard bounce.",
        }
    )
    NO_STATUS = '{"ErrorCode": 0, "Message": "OK", "MessageID": "m-1", "To": ""}'

    def test_its_name_and_its_settings_are_enough(self, settings: Any) -> None:
        with FakeMailgun() as server:
            server.next(status=200, body=self.ACCEPTED)
            api = {"POSTMARK_SERVER_TOKEN": "token-example", "POSTMARK_API_URL": server.url}
            configure(settings, {"ANYMAIL": api})
            sent = TestMailgun().send(providers.get("postmark"))
        assert sent.provider_message_id == "m-1"

    def test_without_its_settings_it_is_misconfigured(self, settings: Any) -> None:
        configure(settings, {"ANYMAIL": {}})
        with pytest.raises(Misconfigured) as refused:
            TestMailgun().send(providers.get("postmark"))
        assert refused.value.code == "not_configured"

    def test_a_success_that_cannot_be_read_is_ambiguous(self, settings: Any) -> None:
        with FakeMailgun() as server:
            server.next(status=200, body=self.NO_STATUS)
            api = {"POSTMARK_SERVER_TOKEN": "token-example", "POSTMARK_API_URL": server.url}
            configure(settings, {"ANYMAIL": api})
            with pytest.raises(Ambiguous):
                TestMailgun().send(providers.get("postmark"))

    def test_a_recipient_that_it_refuses_is_permanent(self, settings: Any) -> None:
        with FakeMailgun() as server:
            server.next(status=422, body=self.INACTIVE)
            api = {"POSTMARK_SERVER_TOKEN": "token-example", "POSTMARK_API_URL": server.url}
            configure(settings, {"ANYMAIL": api})
            with pytest.raises(Permanent):
                TestMailgun().send(providers.get("postmark"))
