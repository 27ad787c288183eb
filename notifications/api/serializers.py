"""Shapes only: what a request may look like, and what an answer looks like. Meaning is intake's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError

from notifications.limits import (
    LONGEST_CATEGORY,
    LONGEST_MESSAGE,
    LONGEST_SMS,
    LONGEST_TITLE,
    is_web_address,
)
from notifications.models import Channel, FailureKind, Notification, Priority, Receipt, Status
from notifications.providers.events import EventType, RejectReason
from users.api.fields import (
    ChoiceField,
    StrictSerializer,
    TextField,
    UserIdField,
    ZonedDateTimeField,
    refuse_unreachable,
)

LARGEST_METADATA = 16 * 1024  # bytes
_METADATA = json.JSONEncoder(ensure_ascii=False)
FARTHEST_SCHEDULE = timedelta(days=366)

#: What the older systems called our fields (docs/migrating.md).
ALIASES = {
    "type": "channel",
    "notif_type": "channel",
    "notification_type": "channel",
    "content": "message",
}
CHANNEL_SPELLINGS = {"in-app": Channel.IN_APP.value, "inapp": Channel.IN_APP.value}


class NotificationInput(StrictSerializer):
    """What to send, and to whom: `user_id`, `recipient`, or both."""

    user_id = UserIdField(
        required=False, help_text="Your own id of the person, integer or string. Made when new."
    )
    recipient = UserIdField(
        required=False,
        help_text="E-mail: an address. SMS: a phone number or a user_id. In-app: a user_id. "
        "Beside `user_id`: send to this address, in that user's history.",
    )
    channel = ChoiceField(Channel.choices)
    title = TextField(
        required=False,
        allow_blank=True,
        line=True,
        most_bytes=LONGEST_TITLE,
        help_text="The e-mail's subject, or the in-app headline. An SMS is its message alone.",
    )
    message = TextField(
        most_bytes=LONGEST_MESSAGE, help_text="Plain text. SMS: at most 1,600 characters."
    )
    html = TextField(
        required=False,
        allow_blank=True,
        most_bytes=LONGEST_MESSAGE,
        help_text="E-mail only: your own HTML part, taken as it stands.",
    )
    url = TextField(
        required=False,
        allow_blank=True,
        line=True,
        most_bytes=2048,
        help_text="In-app only: where a click leads, http or https.",
    )
    priority = ChoiceField(Priority.choices, required=False, default="normal")
    category = TextField(required=False, allow_blank=True, line=True, max_length=LONGEST_CATEGORY)
    reference = TextField(
        required=False,
        allow_blank=True,
        line=True,
        max_length=255,
        help_text="Your own reference; not unique, searchable.",
    )
    metadata = serializers.DictField(
        required=False, help_text="Anything of yours, up to 16 KB. Never sent to the person."
    )
    scheduled_for = ZonedDateTimeField(
        required=False, help_text="Not before this time; at most a year ahead."
    )
    expires_at = ZonedDateTimeField(
        required=False,
        help_text="Not after this time. Default: high 1 h, else e-mail 72 h, SMS 12 h, in-app never.",
    )

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        return super().to_internal_value(_in_our_words(data))

    def validate_user_id(self, user_id: str) -> str:
        return refuse_unreachable(user_id)

    def validate_message(self, message: str) -> str:
        if not message.strip():
            raise ValidationError("The message must not be empty.", code="blank")
        return message

    def validate_url(self, url: str) -> str:
        if url and not is_web_address(url):
            raise ValidationError("This must be an http or https address.", code="invalid")
        return url

    def validate_metadata(self, metadata: dict[str, Any]) -> dict[str, Any]:
        if len(_METADATA.encode(metadata).encode()) > LARGEST_METADATA:
            raise ValidationError("The metadata has more than 16 KB.", code="max_length")
        return metadata

    def validate_scheduled_for(self, moment: datetime) -> datetime:
        now = timezone.now()
        if moment < now - timedelta(days=1):
            raise ValidationError("This time is more than a day ago.", code="in_the_past")
        if moment > now + FARTHEST_SCHEDULE:
            raise ValidationError("This is more than a year ahead.", code="too_far_ahead")
        return moment

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        problems = _problems_between_fields(attrs)
        if problems:
            raise ValidationError(problems)
        return attrs


def _in_our_words(data: Any) -> Any:
    """The older systems' names made ours. Two names for one thing must agree."""
    if not isinstance(data, Mapping):
        return data
    words = dict(data)
    for alias, name in ALIASES.items():
        if alias in words:
            _merge(words, name, words.pop(alias), alias)
    channel = words.get("channel")
    if isinstance(channel, str):
        words["channel"] = CHANNEL_SPELLINGS.get(channel, channel)
    metadata = words.get("metadata")
    if isinstance(metadata, Mapping):
        for name in ("priority", "category"):
            if words.get(name) is None and isinstance(metadata.get(name), str):
                words[name] = metadata[name]
    return words


def _merge(words: dict[str, Any], name: str, value: Any, alias: str) -> None:
    given = words.get(name)
    if given is not None and value is not None and _same(given) != _same(value):
        raise ValidationError(
            {alias: [f"`{alias}` is another name for `{name}`, and the two differ."]},
            code="conflicting_names",
        )
    if given is None:
        words[name] = value


def _same(value: Any) -> Any:
    return CHANNEL_SPELLINGS.get(value, value) if isinstance(value, str) else value


def _problems_between_fields(attrs: dict[str, Any]) -> dict[str, list[ErrorDetail]]:
    problems: dict[str, list[ErrorDetail]] = {}

    def add(field: str, code: str, message: str) -> None:
        problems[field] = [ErrorDetail(message, code)]

    channel = attrs["channel"]
    if not attrs.get("user_id") and not attrs.get("recipient"):
        add("user_id", "required", "Name the person: `user_id`, `recipient`, or both.")
    if channel == Channel.SMS and len(attrs["message"]) > LONGEST_SMS:
        add("message", "max_length", f"An SMS has at most {LONGEST_SMS:,} characters.")
    if attrs.get("html") and channel != Channel.EMAIL:
        add("html", "not_for_channel", "Only an e-mail has an HTML part.")
    if attrs.get("url") and channel != Channel.IN_APP:
        add("url", "not_for_channel", "Only an in-app message has a url.")
    if channel == Channel.IN_APP and "/" in attrs.get("recipient", ""):
        add("recipient", "unreachable", "In-app, this is a user_id, which has no slash.")
    now = timezone.now()
    start = max(now, attrs.get("scheduled_for", now))
    if attrs.get("expires_at", datetime.max.replace(tzinfo=UTC)) <= start:
        add("expires_at", "before_start", "It must be in the future, and after `scheduled_for`.")
    return problems


class StatusChange(StrictSerializer):
    """`cancelled` stops a pending one; `read` and `unread` set and clear `read_at`."""

    status = ChoiceField(["cancelled", "read", "unread"])


class FailureOutput(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(FailureKind.choices)
    code = serializers.CharField(help_text="Stable, for machines; often the provider's own code.")
    detail = serializers.CharField(help_text="The provider's own words.")


class AttemptOutput(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    provider = serializers.CharField()
    started_at = serializers.DateTimeField()
    duration_ms = serializers.IntegerField(allow_null=True)
    outcome = serializers.ChoiceField(
        ["accepted", "temporary", "permanent", "misconfigured", "ambiguous"],
        allow_null=True,
        help_text="null: no answer yet, or the worker died.",
    )
    code = serializers.CharField()
    detail = serializers.CharField()


class ReceiptOutput(serializers.Serializer[Any]):
    provider = serializers.CharField()
    event = serializers.ChoiceField(
        [str(event) for event in EventType], help_text="In one vocabulary for all providers."
    )
    reject_reason = serializers.ChoiceField(
        [str(reason) for reason in RejectReason], allow_null=True
    )
    code = serializers.CharField(help_text="The provider's own.")
    detail = serializers.CharField(help_text="The provider's own words.")
    occurred_at = serializers.DateTimeField()
    received_at = serializers.DateTimeField()


class NotificationOutput(serializers.Serializer[Notification]):
    """A stored notification. For the schema; `present()` makes it, ten times as fast."""

    id = serializers.UUIDField()
    user_id = serializers.CharField()
    channel = serializers.ChoiceField(Channel.choices)
    recipient = serializers.CharField(allow_null=True, help_text="The address it goes to.")
    title = serializers.CharField()
    message = serializers.CharField()
    html = serializers.CharField()
    url = serializers.CharField()
    priority = serializers.ChoiceField(Priority.choices)
    category = serializers.CharField()
    reference = serializers.CharField()
    metadata = serializers.DictField()
    status = serializers.ChoiceField(Status.choices)
    failure = FailureOutput(allow_null=True)
    provider = serializers.CharField(allow_null=True)
    live = serializers.BooleanField()
    attempt_count = serializers.IntegerField()
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    scheduled_for = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    sent_at = serializers.DateTimeField(allow_null=True)
    delivered_at = serializers.DateTimeField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True)
    resend_of = serializers.UUIDField(allow_null=True)


class NotificationDetail(NotificationOutput):
    """One notification read alone, with its history."""

    settled_by_hand = serializers.BooleanField(
        help_text="An operator, not the provider, said what became of an `unknown` one."
    )
    batch_id = serializers.UUIDField(
        allow_null=True, help_text="The batch it is a row of, if of one."
    )
    row_number = serializers.IntegerField(allow_null=True, help_text="Which row of it.")
    attempts = AttemptOutput(many=True)
    receipts = ReceiptOutput(many=True)


class ProblemItem(serializers.Serializer[Any]):
    field = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class Problem(serializers.Serializer[Any]):
    """application/problem+json (RFC 9457). Rely on `status` and `code`, never on the words."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField(help_text="The request's id; it is in our logs.")
    code = serializers.CharField()
    errors = ProblemItem(many=True)  # type: ignore[assignment]  # a field of that name


class HealthOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(["ok", "degraded", "down"])
    environment = serializers.CharField()
    components = serializers.SerializerMethodField()
    lanes = serializers.SerializerMethodField()

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_components(self, health: Any) -> Any:
        return health["components"]

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_lanes(self, health: Any) -> Any:
        return health["lanes"]


def present(notification: Notification) -> dict[str, Any]:
    """The notification as `NotificationOutput` describes it (a test holds the two together)."""
    return {
        "id": notification.id,
        "user_id": notification.user_id,
        "channel": notification.channel,
        "recipient": notification.address or None,
        "title": notification.title,
        "message": notification.message,
        "html": notification.html,
        "url": notification.url,
        "priority": notification.priority,
        "category": notification.category,
        "reference": notification.reference,
        "metadata": notification.metadata,
        "status": notification.status,
        "failure": notification.failure,
        "provider": notification.provider or None,
        "live": notification.live,
        "attempt_count": notification.attempt_count,
        "next_attempt_at": notification.next_attempt_at,
        "created_at": notification.created_at,
        "scheduled_for": notification.scheduled_for,
        "expires_at": notification.expires_at,
        "sent_at": notification.sent_at,
        "delivered_at": notification.delivered_at,
        "read_at": notification.read_at,
        "resend_of": notification.resend_of_id,
    }


def present_in_detail(notification: Notification) -> dict[str, Any]:
    """With its attempts and receipts, each in order."""
    attempts = [
        {
            "number": number,
            "provider": attempt.provider,
            "started_at": attempt.started_at,
            "duration_ms": attempt.duration_ms,
            "outcome": attempt.outcome,
            "code": attempt.code,
            "detail": attempt.detail,
        }
        for number, attempt in enumerate(notification.attempts.all(), start=1)
    ]
    return present(notification) | {
        "settled_by_hand": notification.settled_by_hand,
        "batch_id": notification.flow.batch_id,
        "row_number": notification.row_number,
        "attempts": attempts,
        "receipts": [_present_receipt(receipt) for receipt in notification.receipts.all()],
    }


def _present_receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "provider": receipt.provider,
        "event": receipt.event,
        "reject_reason": receipt.reject_reason or None,
        "code": receipt.code,
        "detail": receipt.detail,
        "occurred_at": receipt.occurred_at,
        "received_at": receipt.received_at,
    }
