"""Webhooks over a real socket: the vendors' documented payloads with real signatures, made with example keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
import requests
from django.db import connection
from django.utils import timezone
from twilio.request_validator import RequestValidator

from notifications import providers, receipts
from notifications.models import Receipt, SpentToken, Suppression
from notifications.providers.callbacks import callback_url
from tests.factories import NotificationFactory

pytestmark = [
    pytest.mark.django_db(transaction=True),
    # It says so of SendGrid, whose webhooks it still reads.
    pytest.mark.filterwarnings("ignore::anymail.exceptions.AnymailNotSupportedWarning"),
]

SIGNING_KEY = "signing-key-example"
AUTH_TOKEN = "token-example"
BASIC = ("hooks", "password-example")
PUBLIC_URL = "https://notify.example.com"


@pytest.fixture(autouse=True)
def secrets(settings: Any) -> Iterator[None]:
    settings.MAILGUN_WEBHOOK_SIGNING_KEY = [SIGNING_KEY]
    settings.TWILIO_AUTH_TOKEN = AUTH_TOKEN
    settings.TWILIO_AUTH_TOKEN_FALLBACKS = []
    settings.PUBLIC_URL = PUBLIC_URL
    settings.ANYMAIL = {}
    providers.reset()
    yield
    providers.reset()


def mailgun(
    event: str = "delivered",
    *,
    key: str = SIGNING_KEY,
    at: float | None = None,
    token: str = "a" * 50,
    **data: Any,
) -> dict[str, Any]:
    """https://documentation.mailgun.com/docs/mailgun/user-manual/events/webhooks"""
    timestamp = str(int(at or time.time()))
    signature = hmac.new(key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    return {
        "signature": {"timestamp": timestamp, "token": token, "signature": signature},
        "event-data": {
            "event": event,
            "timestamp": 1529006854.329574,
            "id": "DACSsAdVSeGpLid7TN03WA",
            "recipient": "alice@example.com",
            "recipient-domain": "example.com",
            "message": {
                "headers": {"message-id": "20130503182626.18666.16540@example.com", "to": "Alice"}
            },
            "delivery-status": {"code": 250, "message": "OK", "description": ""},
            "user-variables": {},
            "tags": [],
        }
        | data,
    }


class Hooks:
    """The web server's, as a vendor calls them."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, **request: Any) -> requests.Response:
        return requests.post(f"{self.url}/hooks/{path}", timeout=10, **request)

    def mailgun(self, *args: Any, **data: Any) -> requests.Response:
        return self.post("mailgun", json=mailgun(*args, **data))

    def twilio(
        self, notification_id: UUID, form: dict[str, str], token: str = AUTH_TOKEN, **changed: Any
    ) -> requests.Response:
        """Signed for our public address, which the server itself does not have."""
        url = callback_url("twilio", notification_id)
        signature = RequestValidator(token).compute_signature(url, form)
        path = url.removeprefix(f"{PUBLIC_URL}/hooks/")
        return self.post(
            path, **{"data": form, "headers": {"X-Twilio-Signature": signature}} | changed
        )


@pytest.fixture
def hooks(live_server: Any) -> Hooks:
    return Hooks(live_server.url)


def refused(answer: requests.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert not Receipt.objects.exists()
    assert not SpentToken.objects.exists()


# --- Mailgun ----------------------------------------------------------------------------------------


def test_a_genuine_webhook_is_kept_as_it_came(hooks: Hooks, woken: list[str]) -> None:
    notification = NotificationFactory()
    variables = {"notification_id": str(notification.id)}
    answer = hooks.mailgun(**{"user-variables": variables})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == "0"
    kept = Receipt.objects.get()
    assert (kept.provider, kept.event, kept.named_id) == ("mailgun", "delivered", notification.id)
    assert kept.provider_message_id == "<20130503182626.18666.16540@example.com>"
    assert kept.occurred_at.timestamp() == pytest.approx(1529006854.329574)
    assert json.loads(kept.raw)["event-data"]["recipient"] == "alice@example.com"
    assert woken == ["receipts"]


def test_it_is_applied_by_the_next_that_looks(hooks: Hooks) -> None:
    notification = NotificationFactory(status="sent", sent_at=timezone.now(), provider="mailgun")
    hooks.mailgun(**{"user-variables": {"notification_id": str(notification.id)}})
    receipts.apply_all()
    notification.refresh_from_db()
    assert notification.status == "delivered"


def test_our_message_id_names_the_notification_where_the_variables_are_gone(hooks: Hooks) -> None:
    notification = NotificationFactory()
    headers = {"message-id": f"{notification.id}@example.com"}
    hooks.mailgun(message={"headers": headers})
    assert Receipt.objects.get().named_id == notification.id


@pytest.mark.parametrize(
    ("data", "event", "reject_reason"),
    [
        ({"event": "failed", "severity": "temporary", "reason": "generic"}, "deferred", "other"),
        ({"event": "failed", "severity": "permanent", "reason": "bounce"}, "bounced", "bounced"),
        ({"event": "failed", "severity": "permanent", "reason": "generic"}, "bounced", "other"),
        ({"event": "failed", "severity": "permanent", "reason": "old"}, "bounced", "timed_out"),
        (
            {"event": "failed", "severity": "permanent", "reason": "suppress-complaint"},
            "bounced",
            "spam",
        ),
        (
            {"event": "failed", "severity": "permanent", "reason": "suppress-unsubscribe"},
            "bounced",
            "unsubscribed",
        ),
        ({"event": "rejected", "reject": {"reason": "Sandbox subdomains"}}, "rejected", "other"),
        ({"event": "complained"}, "complained", ""),
        ({"event": "unsubscribed"}, "unsubscribed", ""),
        ({"event": "opened"}, "opened", ""),
        ({"event": "something new"}, "unknown", ""),
    ],
)
def test_mailguns_words_are_ours(
    hooks: Hooks, data: dict[str, Any], event: str, reject_reason: str
) -> None:
    assert hooks.mailgun(**data).status_code == 200
    kept = Receipt.objects.get()
    assert (kept.event, kept.reject_reason) == (event, reject_reason)


def test_the_same_webhook_told_a_hundred_times_at_once_is_one_receipt(hooks: Hooks) -> None:
    body = mailgun()
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: hooks.post("mailgun", json=body), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert Receipt.objects.count() == SpentToken.objects.count() == 1


def test_the_same_event_signed_anew_is_still_the_same(hooks: Hooks) -> None:
    for token in ("a" * 50, "b" * 50):
        assert hooks.mailgun(token=token).status_code == 200
    assert Receipt.objects.count() == 1


def test_a_signature_that_was_used_says_nothing_else(hooks: Hooks) -> None:
    assert hooks.mailgun().status_code == 200
    body = mailgun("complained", id="another-event")
    answer = hooks.post("mailgun", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_verified")
    assert Receipt.objects.get().event == "delivered"


@pytest.mark.parametrize("age", [-301, 301, 86_400])
def test_an_old_or_future_signature_is_refused(hooks: Hooks, age: int) -> None:
    refused(hooks.mailgun(at=time.time() - age), 403, "not_verified")


def test_a_signature_of_some_minutes_ago_is_taken(hooks: Hooks) -> None:
    assert hooks.mailgun(at=time.time() - 280).status_code == 200


def test_a_forged_signature_is_refused(hooks: Hooks) -> None:
    refused(hooks.mailgun(key="another key"), 403, "not_verified")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"x"',
        b"{",
        b"\xff",
        b'{"signature": null}',
        b'{"signature": {"token": 1, "timestamp": 2, "signature": 3}}',
        b'{"signature": {"token": "\xc3\xa9", "timestamp": "2", "signature": "3"}}',
        b'{"signature": {"token": "t", "timestamp": "2", "signature": "\xc3\xa9"}}',
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data"])
def test_whatever_else_is_sent_is_refused_and_never_an_error(
    hooks: Hooks, body: bytes, content_type: str
) -> None:
    answer = hooks.post("mailgun", data=body, headers={"Content-Type": content_type})
    assert answer.status_code in (400, 403), answer.text
    assert not Receipt.objects.exists()


def test_a_signed_time_that_is_no_number_is_refused(hooks: Hooks) -> None:
    body = mailgun()
    for word in ("nan", "inf", "soon"):
        signed = hmac.new(SIGNING_KEY.encode(), f"{word}t".encode(), hashlib.sha256).hexdigest()
        body["signature"] = {"timestamp": word, "token": "t", "signature": signed}
        refused(hooks.post("mailgun", json=body), 403, "not_verified")


@pytest.mark.parametrize("key", ["", "none is set"])
def test_without_a_key_of_ours_none_is_believed_also_not_the_empty_one(
    hooks: Hooks, settings: Any, key: str
) -> None:
    settings.MAILGUN_WEBHOOK_SIGNING_KEY = []
    settings.ANYMAIL = {"MAILGUN_API_KEY": ""}
    settings.MAILGUN_API_KEY = ""
    providers.reset()
    refused(hooks.mailgun(key=key), 403, "not_verified")


def test_without_a_signing_key_the_api_key_counts(hooks: Hooks, settings: Any) -> None:
    settings.MAILGUN_WEBHOOK_SIGNING_KEY = []
    settings.ANYMAIL = {"MAILGUN_API_KEY": "api-key-example"}
    providers.reset()
    assert hooks.mailgun(key="api-key-example").status_code == 200


def test_several_keys_hold_while_one_takes_the_others_place(hooks: Hooks, settings: Any) -> None:
    settings.MAILGUN_WEBHOOK_SIGNING_KEY = ["new key", "old key"]
    providers.reset()
    for number, key in enumerate(("new key", "old key")):
        assert hooks.mailgun(key=key, token=str(number), id=str(number)).status_code == 200
    assert Receipt.objects.count() == 2
    assert hooks.mailgun(key=SIGNING_KEY, token="3").status_code == 403


def test_what_mailgun_signs_but_we_cannot_read_is_kept(hooks: Hooks) -> None:
    body = mailgun() | {"event-data": {"no": "event"}}
    assert hooks.post("mailgun", json=body).status_code == 200
    kept = Receipt.objects.get()
    assert kept.event == "unknown"
    assert json.loads(kept.raw)["event-data"] == {"no": "event"}


def test_mailguns_older_form_is_read_too(hooks: Hooks) -> None:
    timestamp, token = str(int(time.time())), "legacy-token"
    key = SIGNING_KEY.encode()
    form = {
        "timestamp": timestamp,
        "token": token,
        "signature": hmac.new(key, f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest(),
        "event": "complained",
        "recipient": "alice@example.com",
        "Message-Id": "<1@example.com>",
    }
    assert hooks.post("mailgun", data=form).status_code == 200
    assert hooks.post("mailgun", data=form).status_code == 200
    kept = Receipt.objects.get()
    assert (kept.event, kept.provider_message_id) == ("complained", "<1@example.com>")


# --- Twilio ------------------------------------------------------------------------------------------


def status(word: str, **more: str) -> dict[str, str]:
    """https://www.twilio.com/docs/messaging/guides/track-outbound-message-status"""
    return {
        "SmsSid": "SM0123456789",
        "SmsStatus": word,
        "MessageSid": "SM0123456789",
        "MessageStatus": word,
        "To": "+15005550009",
        "From": "+15005550006",
        "AccountSid": "AC0123456789",
        "ApiVersion": "2010-04-01",
    } | more


@pytest.mark.parametrize(
    ("form", "event", "reject_reason", "code"),
    [
        (status("queued"), "queued", "", ""),
        (status("sent"), "sent", "", ""),
        (status("delivered"), "delivered", "", ""),
        (status("undelivered", ErrorCode="30005"), "bounced", "invalid", "twilio_30005"),
        (status("undelivered", ErrorCode="30003"), "bounced", "timed_out", "twilio_30003"),
        (status("undelivered", ErrorCode="39999"), "bounced", "", "twilio_39999"),
        (status("failed", ErrorCode="21610"), "failed", "unsubscribed", "twilio_21610"),
        (status("canceled"), "unknown", "", ""),
    ],
)
def test_twilios_words_are_ours_and_the_link_names_the_notification(
    hooks: Hooks, form: dict[str, str], event: str, reject_reason: str, code: str
) -> None:
    notification = NotificationFactory(channel="sms")
    assert hooks.twilio(notification.id, form).status_code == 200
    kept = Receipt.objects.get()
    assert (kept.event, kept.reject_reason, kept.code) == (event, reject_reason, code)
    assert (kept.named_id, kept.provider_message_id) == (notification.id, "SM0123456789")


def test_each_status_of_a_message_is_one_receipt(hooks: Hooks) -> None:
    notification = NotificationFactory(channel="sms")
    for word in ("sent", "delivered", "sent", "delivered"):
        assert hooks.twilio(notification.id, status(word)).status_code == 200
    assert Receipt.objects.count() == 2


def test_a_callback_settles_an_unknown_one_whose_sid_we_never_learned(hooks: Hooks) -> None:
    notification = NotificationFactory(channel="sms", status="unknown", provider="twilio")
    hooks.twilio(notification.id, status("delivered"))
    receipts.apply_all()
    notification.refresh_from_db()
    assert notification.status == "delivered"
    assert notification.provider_message_id == "SM0123456789"


@pytest.mark.parametrize(
    "changed",
    [
        {"headers": {}},
        {"headers": {"X-Twilio-Signature": "bm9uZQ=="}},
        {"headers": {"X-Twilio-Signature": "é".encode()}},
        {"data": status("failed", ErrorCode="21610")},
    ],
)
def test_an_unsigned_or_changed_callback_is_refused(hooks: Hooks, changed: dict[str, Any]) -> None:
    notification = NotificationFactory(channel="sms")
    refused(hooks.twilio(notification.id, status("delivered"), **changed), 403, "not_verified")


def test_a_callback_for_another_address_or_link_is_refused(hooks: Hooks, settings: Any) -> None:
    form, validator = status("delivered"), RequestValidator(AUTH_TOKEN)
    for url in (
        f"{PUBLIC_URL}/hooks/twilio/not-a-link",
        "https://other.example.com/hooks/twilio/x",
    ):
        signed = {"X-Twilio-Signature": validator.compute_signature(url, form)}
        path = url.partition("/hooks/")[2]
        refused(hooks.post(path, data=form, headers=signed), 403, "not_verified")


def test_a_token_that_takes_anothers_place_holds_beside_it(hooks: Hooks, settings: Any) -> None:
    settings.TWILIO_AUTH_TOKEN_FALLBACKS = ["next-token"]
    notification = NotificationFactory(channel="sms")
    for token, code in ((AUTH_TOKEN, 200), ("next-token", 200), ("another", 403)):
        answer = hooks.twilio(notification.id, status("delivered"), token=token)
        assert answer.status_code == code


def test_without_a_token_of_ours_no_callback_is_believed(hooks: Hooks, settings: Any) -> None:
    settings.TWILIO_AUTH_TOKEN = ""
    notification = NotificationFactory(channel="sms")
    refused(hooks.twilio(notification.id, status("sent"), token=""), 403, "not_verified")


def test_a_signed_callback_without_a_status_says_what_is_missing(hooks: Hooks) -> None:
    notification = NotificationFactory(channel="sms")
    refused(hooks.twilio(notification.id, {"To": "+15005550009"}), 400, "unreadable")


# --- Vendors without a signature: basic auth ---------------------------------------------------------

POSTMARK_BOUNCE = {
    "ID": 4323372036854775807,
    "Type": "HardBounce",
    "TypeCode": 1,
    "Tag": "Test",
    "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
    "Metadata": {},
    "Description": "The server was unable to deliver your message (ex: unknown user).",
    "Details": "smtp;550 5.1.1 unknown user",
    "Email": "john@example.com",
    "BouncedAt": "2026-01-01T16:34:52Z",
    "RecordType": "Bounce",
}
#: Vendor, an event in its own words with our id in place of NAMED, and what it means.
DOCUMENTED: list[tuple[str, Any, str, str]] = [
    (
        "postmark",
        POSTMARK_BOUNCE | {"Metadata": {"notification_id": "NAMED"}},
        "bounced",
        "bounced",
    ),
    (
        "postmark",
        POSTMARK_BOUNCE | {"Type": "SoftBounce", "Metadata": {"notification_id": "NAMED"}},
        "bounced",
        "other",
    ),
    (
        "brevo",
        {
            "event": "soft_bounce",
            "email": "john@example.com",
            "id": 26224,
            "message-id": "<201798300811.5787683@example.com>",
            "ts_event": 1604937111,
            "X-Mailin-custom": '{"notification_id": "NAMED"}',
            "reason": "mailbox full",
        },
        "bounced",
        "other",
    ),
    (
        "brevo",
        {
            "event": "hard_bounce",
            "email": "john@example.com",
            "id": 26224,
            "message-id": "<201798300811.5787683@example.com>",
            "ts_event": 1604937111,
            "X-Mailin-custom": '{"notification_id": "NAMED"}',
        },
        "bounced",
        "bounced",
    ),
    (
        "sendgrid",
        [
            {
                "email": "john@example.com",
                "timestamp": 1513299569,
                "smtp-id": "<14c5d75ce93.dfd.64b469@example.com>",
                "event": "dropped",
                "sg_event_id": "sg-event-1",
                "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001",
                "reason": "Bounced Address",
                "notification_id": "NAMED",
            }
        ],
        "rejected",
        "bounced",
    ),
    (
        "mailjet",
        [
            {
                "event": "bounce",
                "time": 1430812195,
                "MessageID": 13792286917004336,
                "email": "john@example.com",
                "hard_bounce": False,
                "error": "user unknown",
                "Payload": '{"notification_id": "NAMED"}',
            }
        ],
        "bounced",
        "other",
    ),
    (
        "sparkpost",
        [
            {
                "msys": {
                    "message_event": {
                        "type": "bounce",
                        "bounce_class": "22",
                        "event_id": "92356927693813856",
                        "transmission_id": "65832150921904138",
                        "rcpt_to": "john@example.com",
                        "raw_reason": "452 mailbox full",
                        "rcpt_meta": {"notification_id": "NAMED"},
                        "timestamp": "1454442600",
                    }
                }
            }
        ],
        "bounced",
        "other",
    ),
]


@pytest.mark.parametrize(
    ("vendor", "body", "event", "reject_reason"),
    DOCUMENTED,
    ids=[f"{vendor}-{reason}-{number}" for number, (vendor, _, _, reason) in enumerate(DOCUMENTED)],
)
def test_a_vendor_without_a_signature_is_believed_by_basic_auth_alone(
    hooks: Hooks, settings: Any, vendor: str, body: Any, event: str, reject_reason: str
) -> None:
    notification = NotificationFactory()
    written = json.dumps(body).replace("NAMED", str(notification.id))
    headers = {"Content-Type": "application/json"}
    refused(hooks.post(vendor, data=written, headers=headers, auth=BASIC), 403, "not_verified")
    settings.ANYMAIL = {"WEBHOOK_SECRET": [":".join(BASIC), "other:secret-example"]}
    providers.reset()
    for auth in (None, ("hooks", "wrong"), ("", "")):
        refused(hooks.post(vendor, data=written, headers=headers, auth=auth), 403, "not_verified")
    for auth in (BASIC, ("other", "secret-example")):
        answer = hooks.post(vendor, data=written, headers=headers, auth=auth)
        assert answer.status_code == 200, answer.text
    kept = Receipt.objects.get()
    assert (kept.event, kept.reject_reason) == (event, reject_reason)
    assert kept.named_id == notification.id


def test_a_hard_bounce_told_by_a_webhook_fails_the_notification_and_suppresses_the_address(
    hooks: Hooks, settings: Any
) -> None:
    settings.ANYMAIL = {"WEBHOOK_SECRET": ":".join(BASIC)}
    providers.reset()
    notification = NotificationFactory(status="sent", sent_at=timezone.now(), provider="postmark")
    body = POSTMARK_BOUNCE | {"Metadata": {"notification_id": str(notification.id)}}
    assert hooks.post("postmark", json=body, auth=BASIC).status_code == 200
    receipts.apply_all()
    notification.refresh_from_db()
    assert (notification.status, notification.failure_code) == ("failed", "bounced")
    assert Suppression.objects.get().address == notification.address


@pytest.mark.parametrize(
    "vendor",
    sorted(set(providers.configuration.anymail_vendors()) - {"mailgun"}),
)
def test_every_vendor_without_a_secret_of_ours_is_refused(hooks: Hooks, vendor: str) -> None:
    answer = hooks.post(vendor, json={}, auth=BASIC)
    assert answer.status_code in (403, 404), answer.text
    assert not Receipt.objects.exists()


@pytest.mark.parametrize("secret", ["", [], [""]])
def test_an_empty_secret_lets_nobody_in(hooks: Hooks, settings: Any, secret: Any) -> None:
    settings.ANYMAIL = {"WEBHOOK_SECRET": secret}
    providers.reset()
    for auth in (None, ("", ""), ("none is set", "")):
        refused(hooks.post("postmark", json=POSTMARK_BOUNCE, auth=auth), 403, "not_verified")


def test_mandrill_signs_our_public_address(hooks: Hooks, settings: Any) -> None:
    """https://mailchimp.com/developer/transactional/guides/track-respond-activity-webhooks/"""
    settings.ANYMAIL = {"MANDRILL_WEBHOOK_KEY": "mandrill-key-example"}
    providers.reset()
    message = {"_id": "msg-1", "email": "john@example.com", "metadata": {}, "ts": 1461095211}
    events = json.dumps([{"event": "hard_bounce", "msg": message, "ts": 1461095246, "_id": "e1"}])
    signed = f"{PUBLIC_URL}/hooks/mandrillmandrill_events{events}"
    digest = hmac.new(b"mandrill-key-example", signed.encode(), hashlib.sha1).digest()
    signature = {"X-Mandrill-Signature": base64.b64encode(digest).decode()}
    form = {"mandrill_events": events}
    assert hooks.post("mandrill", data=form, headers=signature).status_code == 200
    assert Receipt.objects.get().reject_reason == "bounced"
    forged = {"X-Mandrill-Signature": "bm9uZQ=="}
    assert hooks.post("mandrill", data=form, headers=forged).status_code == 403


# --- The path itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["smtp", "inbox", "sandbox", "nobody", "base", "test"])
def test_who_reports_nothing_has_no_hook(hooks: Hooks, provider: str) -> None:
    refused(hooks.post(provider, json={}), 404, "no_such_hook")


def test_only_post_and_head_are_allowed(hooks: Hooks) -> None:
    assert requests.head(f"{hooks.url}/hooks/mailgun", timeout=10).status_code == 200
    answer = requests.get(f"{hooks.url}/hooks/mailgun", timeout=10)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, HEAD")


def test_with_a_trailing_slash_it_is_the_same(hooks: Hooks) -> None:
    assert hooks.post("mailgun/", json=mailgun()).status_code == 200


def test_a_body_that_is_too_large_is_refused(hooks: Hooks) -> None:
    answer = hooks.post(
        "mailgun", data=b"{" + b" " * 2_000_000, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 403, 413)
    assert not Receipt.objects.exists()


def test_over_plain_http_in_production_it_is_refused_and_not_redirected(
    hooks: Hooks, settings: Any
) -> None:
    settings.SECURE_SSL_REDIRECT = True
    refused(hooks.mailgun(), 403, "https_required")


def test_a_webhook_costs_one_statement(client: Any, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        answer = client.post("/hooks/mailgun", mailgun(), content_type="application/json")
    assert answer.status_code == 200
    assert Receipt.objects.count() == SpentToken.objects.count() == 1


def test_while_nothing_can_be_kept_the_vendor_is_told_to_come_again(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def be_away(*args: Any) -> None:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr("notifications.receipts._keep_once", be_away)
    answer = client.post("/hooks/mailgun", mailgun(), content_type="application/json")
    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert not SpentToken.objects.exists()
    assert connection.is_usable()
