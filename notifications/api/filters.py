"""The query parameters of a list of notifications."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from notifications.api.serializers import CHANNEL_SPELLINGS
from notifications.models import Channel, NotificationQuerySet, Status
from users.api.fields import ChoiceField, TextField, UserIdField, ZonedDateTimeField
from users.models import Recipient

#: Read by the pagination.
_PAGING = {"limit", "cursor"}


class NotificationFilters(serializers.Serializer[Any]):
    """All given ones must hold."""

    status = ChoiceField(Status.choices, required=False)
    channel = ChoiceField(Channel.choices, required=False)
    user_id = UserIdField(required=False)
    live = serializers.BooleanField(
        required=False, help_text="false: what test keys sent to the sandbox."
    )
    reference = TextField(required=False, max_length=255)
    category = TextField(required=False, max_length=100)
    created_after = ZonedDateTimeField(required=False)
    created_before = ZonedDateTimeField(required=False)


def filtered(
    notifications: NotificationQuerySet, project_id: int, parameters: QueryDict
) -> NotificationQuerySet:
    """Those that match the query parameters. Raises ValidationError, naming the parameter."""
    given = _checked(parameters)
    for field in ("status", "channel", "live", "reference", "category"):
        if field in given:
            notifications = notifications.filter(**{field: given[field]})
    if "user_id" in given:
        recipients = Recipient.objects.filter(project_id=project_id, user_id=given["user_id"])
        notifications = notifications.filter(recipient_id=recipients.values("id")[:1])
    if "created_after" in given:
        notifications = notifications.filter(created_at__gt=given["created_after"])
    if "created_before" in given:
        notifications = notifications.filter(created_at__lt=given["created_before"])
    return notifications


def _checked(parameters: QueryDict) -> dict[str, Any]:
    given = {name: str(value) for name, value in parameters.items() if name not in _PAGING}
    unknown = [name for name in given if name not in NotificationFilters().fields]
    if unknown:
        raise ValidationError(
            {name: ["This filter is not known."] for name in unknown}, code="unknown_filter"
        )
    if "channel" in given:
        given["channel"] = CHANNEL_SPELLINGS.get(given["channel"], given["channel"])
    filters = NotificationFilters(data=given)
    filters.is_valid(raise_exception=True)
    checked: dict[str, Any] = filters.validated_data
    return checked
