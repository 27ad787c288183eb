"""The query parameters of the lists: of notifications, of suppressions, and of an inbox."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from notifications import suppressions
from notifications.api.serializers import CHANNEL_SPELLINGS
from notifications.ids import first_of
from notifications.models import (
    Channel,
    Flow,
    Notification,
    NotificationQuerySet,
    Status,
    Suppression,
)
from notifications.newest import newest
from users.api.fields import ChoiceField, TextField, UserIdField, ZonedDateTimeField
from users.models import Address, Recipient

#: The id of no flow.
NO_FLOW = 0
#: Read by the pagination.
_PAGING = {"limit", "cursor"}
#: Filters that are a column's value.
_COLUMNS = ("status", "channel", "live", "reference", "category")
#: How far a web process's clock, which the id has, may be from the database's, which `created_at` has.
CLOCKS_APART = timedelta(hours=1)


class _Period(serializers.Serializer[Any]):
    created_after = ZonedDateTimeField(required=False)
    created_before = ZonedDateTimeField(required=False)


class NotificationFilters(_Period):
    """All given ones must hold."""

    status = ChoiceField(Status.choices, required=False)
    channel = ChoiceField(Channel.choices, required=False)
    user_id = UserIdField(required=False)
    live = serializers.BooleanField(
        required=False, help_text="false: what test keys sent to the sandbox."
    )
    reference = TextField(required=False, max_length=255)
    category = TextField(required=False, max_length=100)
    batch = serializers.UUIDField(required=False, help_text="The rows of this batch.")


class SuppressionFilters(_Period):
    """All given ones must hold."""

    channel = ChoiceField(Address.Channel.choices, required=False)
    address = TextField(
        required=False, max_length=320, help_text="In any spelling; beside `channel` for a phone."
    )
    reason = ChoiceField(Suppression.Reason.choices, required=False)


class InboxFilters(serializers.Serializer[Any]):
    """All given ones must hold."""

    unread = serializers.BooleanField(required=False, help_text="true: what is not read yet.")
    archived = serializers.BooleanField(
        required=False, help_text="true: what was put away. Else that is left out."
    )
    category = TextField(required=False, max_length=100)


def filtered(
    parameters: QueryDict, project_id: int, recipient_id: int | None = None
) -> QuerySet[Notification]:
    """The project's, or one recipient's, that match the query parameters, newest first.

    Raises ValidationError, naming the parameter.
    """
    given = _checked(parameters, NotificationFilters)
    wanted = {"project_id": project_id} | _period(given)
    wanted |= {name: given[name] for name in _COLUMNS if name in given}
    if recipient_id is not None:
        wanted["recipient_id"] = recipient_id
    if "user_id" in given:
        named = Recipient.objects.filter(project_id=project_id, user_id=given["user_id"]).first()
        if named is None or wanted.setdefault("recipient_id", named.pk) != named.pk:
            return Notification.objects.none()
    if "batch" in given:
        flow = Flow.objects.filter(project_id=project_id, batch=given["batch"]).first()
        wanted |= {"flow_id": flow.pk if flow else NO_FLOW, "row_number__isnull": False}
    index = {name: wanted.pop(name) for name in _index_for(wanted)}
    return newest(Notification.objects.all(), **index).filter(**wanted)


def filtered_suppressions(parameters: QueryDict, project_id: int) -> QuerySet[Suppression]:
    """The project's that match the query parameters, newest first. Raises ValidationError or Refused, naming the parameter."""
    given = _checked(parameters, SuppressionFilters)
    wanted = _period(given) | {name: given[name] for name in ("channel", "reason") if name in given}
    if "address" not in given:
        return newest(Suppression.objects.all(), project_id=project_id).filter(**wanted)
    channel = given.get("channel", Address.Channel.EMAIL)
    wanted["address"] = suppressions.entry_for(channel, given["address"]).address
    return Suppression.objects.filter(project_id=project_id, **wanted).order_by("-id")


def filtered_inbox(parameters: QueryDict, recipient_id: int, live: bool) -> NotificationQuerySet:
    """What is in the inbox and matches the query parameters, the last that arrived first.

    Raises ValidationError, naming the parameter.
    """
    given = _checked(parameters, InboxFilters)
    wanted: dict[str, Any] = {"archived_at__isnull": not given.get("archived", False)}
    if "unread" in given:
        wanted["read_at__isnull"] = given["unread"]
    if "category" in given:
        wanted["category"] = given["category"]
    arrived = Notification.objects.of_inbox(recipient_id, live)
    return arrived.filter(**wanted).order_by("-inbox_position")


def _index_for(wanted: dict[str, Any]) -> tuple[str, ...]:
    """The columns of the index that leaves the fewest rows to look at."""
    if wanted.get("reference"):
        return ("reference",)
    if "recipient_id" in wanted:
        return ("recipient_id",)
    if "flow_id" in wanted:
        return ("flow_id",)
    if wanted.get("status", Status.SENT) not in (Status.SENT, Status.DELIVERED):
        return ("project_id", "status")
    return ("project_id",)


def _period(given: dict[str, Any]) -> dict[str, Any]:
    """Exact by the database's clock, and near enough by the id to be a range of the index."""
    period: dict[str, Any] = {}
    if after := given.get("created_after"):
        period |= {"created_at__gt": after, "id__gte": first_of(after - CLOCKS_APART)}
    if before := given.get("created_before"):
        period |= {"created_at__lt": before, "id__lt": first_of(before + CLOCKS_APART)}
    return period


def _checked(
    parameters: QueryDict, serializer: type[serializers.Serializer[Any]]
) -> dict[str, Any]:
    given = {name: str(value) for name, value in parameters.items() if name not in _PAGING}
    unknown = [name for name in given if name not in serializer().fields]
    if unknown:
        raise ValidationError(
            {name: ["This filter is not known."] for name in unknown}, code="unknown_filter"
        )
    if "channel" in given:
        given["channel"] = CHANNEL_SPELLINGS.get(given["channel"], given["channel"])
    filters = serializer(data=given)
    filters.is_valid(raise_exception=True)
    checked: dict[str, Any] = filters.validated_data
    return checked
