"""What a backend says and is told when it makes an inbox token."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from rest_framework import serializers

from notifications.inbox.entry import LONGEST, SHORTEST, USUAL, Entry, stream_url
from users.api.fields import StrictSerializer


class InboxTokenInput(StrictSerializer):
    expires_in = serializers.IntegerField(
        required=False,
        min_value=int(SHORTEST.total_seconds()),
        max_value=int(LONGEST.total_seconds()),
        help_text=f"Seconds for which it holds: {USUAL.total_seconds():.0f}, where nothing is said.",
    )


class InboxTokenOutput(serializers.Serializer[Any]):
    token = serializers.CharField(
        help_text="For `Authorization: Bearer` of the calls below /inbox."
    )
    expires_at = serializers.DateTimeField()
    user_id = serializers.CharField()
    live = serializers.BooleanField(help_text="false: of a test key; shows what test keys send.")
    stream_url = serializers.CharField(
        allow_null=True, help_text="Where the stream is. null: this installation has none."
    )


_INPUT = InboxTokenInput()


def lifetime_of(body: Any) -> timedelta:
    """What the body says about it. Raises ValidationError, naming the field."""
    given = _INPUT.run_validation(body or {})
    return timedelta(seconds=given["expires_in"]) if "expires_in" in given else USUAL


def present_entry(entry: Entry, host: str) -> dict[str, Any]:
    return asdict(entry) | {"stream_url": stream_url(host)}
