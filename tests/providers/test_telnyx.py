from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from notifications import providers, receipts
from notifications.models import Notification, Receipt, Suppression
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
from tests.providers.contract import (
    PUBLIC_URL,
    VendorContract,
    Webhook,
    WebhookContract,
    configure,
    link_to,
)
from tests.providers.vendors import DRIP, HANG, RESET, FakeTelnyx


class TestTelnyx(VendorContract):
    name = "telnyx"
    channel = "sms"
    address = "+15005550009"
    secret = FakeTelnyx.password

    @pytest.fixture
    def vendor(self) -> Iterator[FakeTelnyx]:
        with FakeTelnyx() as server:
            yield server

    def make_refuse_for_now(self, vendor: FakeTelnyx) -> None:
        vendor.next_error(429, "10011", "Too many requests")

    def make_refuse_for_good(self, vendor: FakeTelnyx) -> None:
        vendor.next_error(400, "40310", "Invalid 'to' address")

    def make_refuse_us(self, vendor: FakeTelnyx) -> None:
        vendor.next_error(401, "10009", "Authentication failed")

    def make_vanish_after_the_message(self, vendor: FakeTelnyx) -> None:
        vendor.next(RESET)

    def make_hang_after_the_message(self, vendor: FakeTelnyx) -> None:
        vendor.next(HANG)

    def make_drip(self, vendor: FakeTelnyx) -> None:
        vendor.next(DRIP)

    def test_the_document_has_the_message(self, provider: Provider, vendor: FakeTelnyx) -> None:
        self.send(provider, text="Grüße 👋")
        assert vendor.accepted == [
            {"to": self.address, "from": "+15005550006", "text": "Grüße 👋"},
        ]

    def test_the_vendors_id_is_kept(self, provider: Provider) -> None:
        assert UUID(self.send(provider).provider_message_id)

    def test_a_messaging_profile_may_choose_the_sender(
        self, vendor: FakeTelnyx, settings: Any
    ) -> None:
        profile = "00000000-0000-4000-8000-000000000000"
        configure(settings, vendor.settings | {"TELNYX_FROM": profile})
        self.send(providers.get("telnyx"))
        assert vendor.accepted[0]["messaging_profile_id"] == profile
        assert "from" not in vendor.accepted[0]

    def test_telnyx_is_told_where_to_report_and_tells_nobody_else(
        self, provider: Provider, vendor: FakeTelnyx, settings: Any
    ) -> None:
        settings.PUBLIC_URL = PUBLIC_URL
        message = self.message()
        provider.send(message, Deadline(5.0))
        [document] = vendor.accepted
        place, _, link = document["webhook_url"].rpartition("/")
        assert place == "https://notify.example.com/hooks/telnyx"
        assert notification_of(link) == message.notification_id
        assert document["use_profile_webhooks"] is False

    def test_another_key_for_this_host_in_netrc_is_not_used(
        self, provider: Provider, vendor: FakeTelnyx, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        self.send(provider)
        assert len(vendor.accepted) == 1

    @pytest.mark.parametrize(
        ("status", "code", "too_fast"),
        [(429, "10011", True), (400, "40318", True), (429, "99999", True), (503, "10007", False)],
    )
    def test_it_says_when_we_are_too_fast(
        self, provider: Provider, vendor: FakeTelnyx, status: int, code: str, too_fast: bool
    ) -> None:
        vendor.next_error(status, code, "In its words")
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.throttled is too_fast

    @pytest.mark.parametrize(
        ("status", "code", "meaning"),
        [
            (401, "10009", Misconfigured),
            (403, "10010", Misconfigured),
            (404, "10005", Misconfigured),
            (422, "10006", Misconfigured),
            (422, "10003", Misconfigured),
            (403, "20012", Misconfigured),
            (403, "20100", Misconfigured),
            (400, "40013", Misconfigured),
            (400, "40305", Misconfigured),
            (400, "40312", Misconfigured),
            (400, "40321", Misconfigured),
            (400, "40329", Misconfigured),
            (429, "10011", Temporary),
            (400, "40318", Temporary),
            (400, "40310", Permanent),
            (403, "40300", Permanent),
            (403, "40309", Permanent),
            (403, "40010", Permanent),
            (400, "40302", Permanent),
            (422, "10015", Permanent),
            (422, "99999", Permanent),
            (403, "99999", Misconfigured),
            (500, "10007", Ambiguous),
            (503, "10007", Temporary),
        ],
    )
    def test_a_code_means_what_the_table_says(
        self,
        provider: Provider,
        vendor: FakeTelnyx,
        status: int,
        code: str,
        meaning: type[ProviderError],
    ) -> None:
        vendor.next_error(status, code, "A title", "and the detail.")
        with pytest.raises(meaning) as refused:
            self.send(provider)
        assert refused.value.code == f"telnyx_{code}"
        assert refused.value.detail == "A title: and the detail."

    @pytest.mark.parametrize(
        ("code", "title", "reject_reason"),
        [
            ("40300", "Blocked due to STOP message", "unsubscribed"),
            ("40300", "Blocked for another reason", "blocked"),
            ("40310", "Invalid 'to' address", "invalid"),
            ("40001", "Not routable", "invalid"),
            ("40012", "Invalid messaging destination number", "other"),
            ("40309", "Invalid destination region", None),
            ("40302", "Message too large", None),
        ],
    )
    def test_a_refusal_says_what_is_wrong_with_the_number_itself(
        self,
        provider: Provider,
        vendor: FakeTelnyx,
        code: str,
        title: str,
        reject_reason: str | None,
    ) -> None:
        vendor.next_error(400, code, title)
        with pytest.raises(Permanent) as refused:
            self.send(provider)
        assert refused.value.reject_reason == reject_reason

    @pytest.mark.parametrize(
        ("status", "meaning"), [(502, Ambiguous), (503, Temporary), (403, Misconfigured)]
    )
    @pytest.mark.parametrize("body", ["<html>from some proxy</html>", "[]", '{"errors": ["odd"]}'])
    def test_an_answer_that_is_not_telnyxs_counts_by_its_status(
        self,
        provider: Provider,
        vendor: FakeTelnyx,
        status: int,
        meaning: type[ProviderError],
        body: str,
    ) -> None:
        vendor.next(status=status, body=body)
        with pytest.raises(meaning) as refused:
            self.send(provider)
        assert (refused.value.code, refused.value.detail) == (f"http_{status}", body)

    @pytest.mark.parametrize("body", ["", "<html></html>", "[]", "{}", '{"data": {"id": null}}'])
    def test_a_success_that_cannot_be_read_is_ambiguous(
        self, provider: Provider, vendor: FakeTelnyx, body: str
    ) -> None:
        vendor.next(status=200, body=body)
        with pytest.raises(Ambiguous) as unread:
            self.send(provider)
        assert unread.value.code == "unreadable_answer"

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"x-ratelimit-reset": "4"}, 4),
            ({"x-ratelimit-reset": "4", "Retry-After": "3"}, 3),
            ({}, None),
        ],
    )
    def test_how_long_to_wait_is_in_a_header_of_telnyxs_own(
        self, provider: Provider, vendor: FakeTelnyx, headers: dict[str, str], seconds: int | None
    ) -> None:
        vendor.next_error(429, "10011", "Too many requests", **headers)
        with pytest.raises(Temporary) as refused:
            self.send(provider)
        assert refused.value.retry_after == seconds

    def test_a_wrong_key_is_a_misconfiguration(self, vendor: FakeTelnyx, settings: Any) -> None:
        configure(settings, vendor.settings | {"TELNYX_API_KEY": "key-wrong"})
        for call in (self.send, lambda provider: provider.verify(Deadline(5.0))):
            with pytest.raises(Misconfigured, match="10009"):
                call(providers.get("telnyx"))

    def test_asking_says_what_money_is_left(self, provider: Provider, vendor: FakeTelnyx) -> None:
        assert provider.verify(Deadline(5.0)) == "the key is right, and 400.00 USD are left"
        vendor.credit = "-0.01"
        with pytest.raises(Misconfigured, match=r"-0\.01 USD"):
            provider.verify(Deadline(5.0))


# --- Webhooks -------------------------------------------------------------------------------------------

TELNYXS_KEY, ANOTHER_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def public(key: Ed25519PrivateKey) -> str:
    """As Telnyx's portal shows it."""
    return b64encode(key.public_key().public_bytes_raw()).decode()


def signed(
    path: str, body: bytes, *, key: Ed25519PrivateKey = TELNYXS_KEY, at: float | None = None
) -> Webhook:
    timestamp = str(int(at or time.time()))
    signature = key.sign(timestamp.encode() + b"|" + body)
    headers = {
        "Content-Type": "application/json",
        "telnyx-timestamp": timestamp,
        "telnyx-signature-ed25519": b64encode(signature).decode(),
    }
    return Webhook(path, headers, body)


def document(status: str, event_type: str = "message.finalized", **payload: Any) -> bytes:
    """https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks"""
    data = {
        "event_type": event_type,
        "id": "00000000-0000-4000-8000-000000000001",
        "occurred_at": "2019-12-09T21:32:14.148+00:00",
        "payload": {
            "completed_at": "2019-12-09T21:32:14.148+00:00",
            "cost": {"amount": "0.0051", "currency": "USD"},
            "direction": "outbound",
            "encoding": "GSM-7",
            "errors": [],
            "from": {"phone_number": "+15005550006", "carrier": "Telnyx", "line_type": "Wireless"},
            "id": WebhookContract.message_id,
            "messaging_profile_id": "00000000-0000-4000-8000-000000000002",
            "parts": 1,
            "record_type": "message",
            "tags": [],
            "text": "It is on its way.",
            "to": [
                {
                    "carrier": "T-MOBILE USA, INC.",
                    "line_type": "Wireless",
                    "phone_number": "+15005550009",
                    "status": status,
                }
            ],
            "type": "SMS",
        }
        | payload,
        "record_type": "event",
    }
    return json.dumps({"data": data, "meta": {"attempt": 1}}).encode()


def failure(code: str, title: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "title": title, "detail": "In Telnyx's words."}]}


class TestTelnyxsWebhooks(WebhookContract):
    name = "telnyx"
    channel = "sms"
    secrets = {"TELNYX_PUBLIC_KEY": [public(TELNYXS_KEY)]}

    def webhook(self, notification: Notification, word: str, *, forged: bool = False) -> Webhook:
        key = ANOTHER_KEY if forged else TELNYXS_KEY
        return signed(link_to("telnyx", notification), document(word), key=key)

    def unsigned(self, webhook: Webhook) -> Webhook:
        return Webhook(webhook.path, {"Content-Type": "application/json"}, webhook.body)

    @pytest.mark.parametrize(
        ("status", "error", "event", "reject_reason"),
        [
            ("queued", None, "queued", ""),
            ("sent", None, "sent", ""),
            ("delivery_unconfirmed", None, "sent", ""),
            ("delivery_failed", ("40008", "Undeliverable"), "bounced", "other"),
            ("delivery_failed", ("40001", "Not routable"), "bounced", "invalid"),
            ("delivery_failed", ("49999", "Something new"), "bounced", ""),
            ("sending_failed", ("40015", "Blocked as spam - internal"), "failed", "blocked"),
            ("sending_failed", ("40300", "Blocked due to STOP message"), "failed", "unsubscribed"),
            ("sending_failed", ("40300", "Blocked otherwise"), "failed", "blocked"),
            ("expired", ("40014", "Message expired in queue"), "failed", "timed_out"),
        ],
    )
    def test_telnyxs_words_are_ours(
        self,
        sent: Notification,
        status: str,
        error: tuple[str, str] | None,
        event: str,
        reject_reason: str,
    ) -> None:
        body = document(status, **failure(*error) if error else {})
        assert self.post(signed(link_to("telnyx", sent), body)).ok
        kept = Receipt.objects.get()
        assert (kept.event, kept.reject_reason) == (event, reject_reason)
        assert kept.code == (f"telnyx_{error[0]}" if error else "")
        assert kept.detail == (f"{error[1]}: In Telnyx's words." if error else "")
        assert kept.occurred_at.isoformat() == "2019-12-09T21:32:14.148000+00:00"

    def test_a_stop_fails_the_message_and_suppresses_the_number(self, sent: Notification) -> None:
        body = document("sending_failed", **failure("40300", "Blocked due to STOP message"))
        assert self.post(signed(link_to("telnyx", sent), body)).ok
        receipts.apply_all()
        sent.refresh_from_db()
        assert (sent.status, sent.failure_code) == ("failed", "telnyx_40300")
        assert Suppression.objects.get().reason == "stop"

    def test_without_a_link_the_vendors_id_finds_the_notification(self, sent: Notification) -> None:
        assert self.post(signed("/hooks/telnyx", document("delivered"))).ok
        receipts.apply_all()
        sent.refresh_from_db()
        assert sent.status == "delivered"

    def test_what_somebody_writes_to_us_says_nothing_of_what_we_sent(
        self, sent: Notification
    ) -> None:
        body = document("delivered", "message.received", direction="inbound", text="STOP")
        assert self.post(signed(link_to("telnyx", sent), body)).ok
        receipts.apply_all()
        sent.refresh_from_db()
        assert (Receipt.objects.get().event, sent.status) == ("unknown", "sent")

    @pytest.mark.parametrize("age", [-320, 320, 86_400])
    def test_an_old_or_future_signature_is_refused(self, sent: Notification, age: int) -> None:
        self._refused(signed(link_to("telnyx", sent), document("delivered"), at=time.time() - age))

    def test_a_signature_of_some_minutes_ago_is_taken(self, sent: Notification) -> None:
        webhook = signed(link_to("telnyx", sent), document("delivered"), at=time.time() - 280)
        assert self.post(webhook).ok

    def test_a_changed_body_or_time_is_refused(self, sent: Notification) -> None:
        webhook = self.webhook(sent, "delivered")
        later = str(int(webhook.headers["telnyx-timestamp"]) + 1)
        self._refused(Webhook(webhook.path, webhook.headers, document("delivery_failed")))
        headers = webhook.headers | {"telnyx-timestamp": later}
        self._refused(Webhook(webhook.path, headers, webhook.body))

    def test_the_link_of_nobody_is_refused(self) -> None:
        self._refused(signed(f"/hooks/telnyx/{uuid4().hex}.forged", document("delivered")))

    @pytest.mark.parametrize(
        "headers",
        [
            {"telnyx-timestamp": "nan"},
            {"telnyx-timestamp": "soon"},
            {"telnyx-timestamp": "9" * 400},
            {"telnyx-signature-ed25519": "no base64!"},
            {"telnyx-signature-ed25519": "c2hvcnQ="},
            {"telnyx-signature-ed25519": "é".encode()},
        ],
    )
    def test_headers_that_cannot_be_read_are_refused(
        self, sent: Notification, headers: dict[str, Any]
    ) -> None:
        webhook = self.webhook(sent, "delivered")
        self._refused(Webhook(webhook.path, webhook.headers | headers, webhook.body))

    def test_two_keys_hold_while_one_takes_the_others_place(
        self, sent: Notification, settings: Any
    ) -> None:
        settings.TELNYX_PUBLIC_KEY = ["unreadable", public(ANOTHER_KEY), public(TELNYXS_KEY)]
        for forged in (False, True):
            assert self.post(self.webhook(sent, "delivered", forged=forged)).ok
        third = Ed25519PrivateKey.generate()
        answer = self.post(signed(link_to("telnyx", sent), document("delivered"), key=third))
        assert answer.status_code == 403

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff",
            b"[]",
            b'"x"',
            b"{}",
            b'{"data": null}',
            b'{"data": {"id": "1", "event_type": "message.sent"}}',
            b'{"data": {"id": "1", "event_type": "message.sent", "payload": []}}',
            b'{"data": {"id": "1", "event_type": "message.sent", "payload": {"to": []}}}',
            b'{"data": {"id": "1", "event_type": "message.sent", "payload": {"to": [{"status": []}]}}}',
            b'{"data": {"id": "1", "event_type": "call.answered", "payload": {}, "occurred_at": "x"}}',
        ],
    )
    def test_what_is_signed_and_no_event_is_unreadable(self, body: bytes) -> None:
        answer = self.post(signed("/hooks/telnyx", body))
        assert (answer.status_code, answer.json()["code"]) == (400, "unreadable")
        assert not Receipt.objects.exists()
