"""Why a notification is where it is, and what would become of one: the shapes of /explain and of a dry run."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from notifications.circumstances import explanation_of
from notifications.models import Channel, Notification, Priority, Status, Suppression
from notifications.rehearsing import Rehearsal

HOLDERS = [
    "expiry",
    "worker",
    "suppression",
    "batch",
    "pause",
    "flow",
    "schedule",
    "circuit",
    "rate",
]
_HELD_BY = (
    "What keeps a pending one from going out now: `schedule` (its time is ahead, also of the next attempt), `circuit` (the "
    "provider is left alone for a while), `rate`, `pause` (of its lane or provider), `flow` (your project's is paused), "
    "`batch` (it does not run), `suppression` and `expiry` (it ends within seconds), `worker` (one has just taken it)."
)


class ExplanationOutput(serializers.Serializer[Any]):
    """For the schema; `explained()` makes it."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(Status.choices)
    explanation = serializers.CharField(
        help_text="Why it is there and what happens next, in a sentence or two, for people."
    )
    finished = serializers.BooleanField(help_text="Nothing more happens by itself.")
    held_by = serializers.ChoiceField(HOLDERS, allow_null=True, help_text=_HELD_BY)
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    suppressed = serializers.ChoiceField(
        Suppression.Reason.choices,
        allow_null=True,
        help_text="Why its address is on the project's list now, if it is.",
    )
    resend_of = serializers.UUIDField(allow_null=True)
    resent_as = serializers.UUIDField(
        allow_null=True, help_text="The newer one that an operator sent instead."
    )


class RehearsalOutput(serializers.Serializer[Any]):
    """For the schema; `rehearsed()` makes it. Nothing of it is stored, and it has no id."""

    dry_run = serializers.BooleanField(help_text="Always true.")
    channel = serializers.ChoiceField(Channel.choices)
    user_id = serializers.CharField(
        allow_null=True, help_text="null: a new user would be made, with an id of ours."
    )
    new_user = serializers.BooleanField(help_text="Its user is not known yet and would be made.")
    recipient = serializers.CharField(allow_null=True, help_text="The address it would go to.")
    provider = serializers.CharField()
    live = serializers.BooleanField()
    priority = serializers.ChoiceField(Priority.choices)
    next_attempt_at = serializers.DateTimeField(help_text="When it would be due.")
    expires_at = serializers.DateTimeField(allow_null=True)
    held_by = serializers.ChoiceField(HOLDERS, allow_null=True, help_text=_HELD_BY)
    explanation = serializers.CharField()
    subject = serializers.CharField(help_text="Of an e-mail; else the title.")
    text = serializers.CharField()
    html = serializers.CharField(help_text="Of an e-mail, as it would go out.")
    sms_segments = serializers.IntegerField(
        allow_null=True, help_text="Of an SMS: how many are paid for."
    )


def explained(notification: Notification) -> dict[str, Any]:
    """As `ExplanationOutput` describes it. Names nobody of the staff."""
    explanation = explanation_of(notification, timezone.now(), names_staff=False)
    newer = getattr(notification, "resent_as", None)
    return {
        "id": notification.id,
        "status": notification.status,
        "explanation": explanation.sentence,
        "finished": notification.status in Notification.FINISHED,
        "held_by": explanation.held_by or None,
        "next_attempt_at": notification.next_attempt_at,
        "expires_at": notification.expires_at,
        "suppressed": explanation.suppression.reason if explanation.suppression else None,
        "resend_of": notification.resend_of_id,
        "resent_as": newer.pk if newer else None,
    }


def rehearsed(rehearsal: Rehearsal) -> dict[str, Any]:
    """As `RehearsalOutput` describes it."""
    notification, message = rehearsal.notification, rehearsal.message
    return {
        "dry_run": True,
        "channel": notification.channel,
        "user_id": notification.user_id or None,
        "new_user": rehearsal.makes_user,
        "recipient": notification.address or None,
        "provider": rehearsal.provider,
        "live": notification.live,
        "priority": notification.priority,
        "next_attempt_at": notification.due_at,
        "expires_at": notification.expires_at,
        "held_by": rehearsal.held_by or None,
        "explanation": rehearsal.explanation,
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
        "sms_segments": rehearsal.sms_segments,
    }


def is_dry_run(parameters: QueryDict) -> bool:
    """Raises ValidationError for what is neither yes nor no: nobody who asks for a rehearsal shall send."""
    if "dry_run" not in parameters:
        return False
    answers = {("true",): True, ("false",): False}
    given = tuple(parameters.getlist("dry_run"))
    if given not in answers:
        raise ValidationError({"dry_run": ["Write true or false."]}, code="invalid")
    return answers[given]


def refuse_dry_run(parameters: QueryDict) -> None:
    """Where there is none. Raises ValidationError."""
    if is_dry_run(parameters):
        raise ValidationError(
            {"dry_run": ["There is no dry run of many; rehearse one by POST /notifications."]},
            code="not_supported",
        )
