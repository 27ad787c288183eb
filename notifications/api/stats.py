"""/stats: how many notifications were accepted when, and what has become of them."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from django.db.models import TextChoices
from django.http import QueryDict
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers, viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import figures
from notifications.api.views import WithQuotaHeaders, problems
from notifications.models import Channel, Notification, Status
from users.api.fields import ChoiceField, ZonedDateTimeField
from users.api.views import project_of
from users.models import Scope

#: What is asked for where nothing is said, and the longest period that is answered.
LATELY, LONGEST = timedelta(hours=24), timedelta(days=400)
#: Periods up to this long are told by the hour, where nothing is said; and where it is asked for.
BY_HOUR_UP_TO, LONGEST_BY_HOUR = timedelta(days=8), timedelta(days=31)

_NONE = dict.fromkeys(Status.values, 0)


class Division(TextChoices):
    CHANNEL = "channel"
    STATUS = "status"
    CATEGORY = "category"


class Interval(TextChoices):
    HOUR = "hour"
    DAY = "day"


class StatsFilters(serializers.Serializer[Any]):
    """All given ones must hold."""

    by = ChoiceField(Division.choices, required=False, default=Division.CHANNEL)
    interval = ChoiceField(
        Interval.choices,
        required=False,
        help_text="Default: `hour` for a period of up to 8 days, else `day` (of UTC). `hour` answers at most 31 days.",
    )
    live = serializers.BooleanField(
        required=False, help_text="false: what test keys sent to the sandbox."
    )

    def get_fields(self) -> dict[str, Any]:
        """`from` cannot be the name of an attribute."""
        from_ = ZonedDateTimeField(
            required=False, help_text="Rounded down to its hour. Default: 24 hours before `to`."
        )
        to = ZonedDateTimeField(
            required=False, help_text="Hours that begin before it count. Default: now."
        )
        return {"from": from_, "to": to, **super().get_fields()}


class StatsOutput(serializers.Serializer[Any]):
    """Of one interval and one channel, status or category; intervals without any are left out."""

    at = serializers.DateTimeField(help_text="The interval's first moment.")
    channel = serializers.ChoiceField(Channel.choices, required=False)
    status = serializers.ChoiceField(Status.choices, required=False)
    category = serializers.CharField(required=False)
    total = serializers.IntegerField()

    def get_fields(self) -> dict[str, Any]:
        """And the number in each status."""
        numbers = {status: serializers.IntegerField() for status in Status.values}
        return {**super().get_fields(), **numbers}


class Stats(serializers.Serializer[Any]):
    """For the schema; `_answer()` makes it."""

    by = serializers.ChoiceField(Division.choices)
    interval = serializers.ChoiceField(Interval.choices)
    results = StatsOutput(many=True)
    counted_at = serializers.DateTimeField(
        allow_null=True, help_text="When the newest of these hours was last counted."
    )

    def get_fields(self) -> dict[str, Any]:
        """`from` cannot be the name of an attribute."""
        period = {name: serializers.DateTimeField() for name in ("from", "to")}
        return {**period, **super().get_fields()}


@extend_schema_view(
    list=extend_schema(
        operation_id="stats_retrieve",
        summary="How many notifications, by channel, status or category",
        description="Each notification counts in the hour in which it was accepted, with the status that it has now. "
        "The present hour is counted about once a minute, older ones the more seldom the older they are: after a "
        "quarter of their age. `counted_at` says when the newest was. Of more than 100 categories in an hour the "
        "rarest are told together as `other`.",
        parameters=[StatsFilters],
        responses={200: Stats, **problems()},
    )
)
class StatsViewSet(WithQuotaHeaders, viewsets.GenericViewSet[Notification]):
    """Counts of the key's project."""

    serializer_class = Stats
    queryset = Notification.objects.none()
    pagination_class = None
    scopes = {"list": Scope.READ}

    def list(self, request: Request) -> Response:
        return Response(_answer(_checked(request.query_params), project_of(request)))


def _checked(parameters: QueryDict) -> dict[str, Any]:
    """Raises ValidationError, naming the parameter."""
    given = {name: str(value) for name, value in parameters.items()}
    unknown = [name for name in given if name not in StatsFilters().fields]
    if unknown:
        raise ValidationError(
            {name: ["This parameter is not known."] for name in unknown}, code="unknown_filter"
        )
    filters = StatsFilters(data=given)
    filters.is_valid(raise_exception=True)
    return _with_period(filters.validated_data)


def _with_period(asked: dict[str, Any]) -> dict[str, Any]:
    until = asked.get("to") or timezone.now()
    try:
        since = figures.hour_of((asked.get("from") or until - LATELY).astimezone(UTC))
    except OverflowError as error:
        raise ValidationError({"from": ["This time is out of range."]}, code="invalid") from error
    if since > until:
        raise ValidationError({"from": ["This must not be after `to`."]}, code="invalid")
    if until - since > LONGEST + timedelta(hours=1):
        raise ValidationError({"from": ["A period has at most 400 days."]}, code="too_long")
    shortly = until - since <= BY_HOUR_UP_TO + timedelta(hours=1)
    interval = asked.get("interval") or (Interval.HOUR if shortly else Interval.DAY)
    if interval == Interval.HOUR and until - since > LONGEST_BY_HOUR + timedelta(hours=1):
        raise ValidationError({"interval": ["By the hour, at most 31 days."]}, code="too_long")
    return asked | {"from": since, "to": until, "interval": str(interval)}


def _answer(asked: dict[str, Any], project_id: int) -> dict[str, Any]:
    since, until, by, interval = asked["from"], asked["to"], str(asked["by"]), asked["interval"]
    counts = figures.accepted(
        since, until, by, [project_id], live=asked.get("live"), daily=interval == Interval.DAY
    )
    return {
        "from": since,
        "to": until,
        "by": by,
        "interval": interval,
        "results": [_result(by, count) for count in counts],
        "counted_at": figures.counted_at(since, until),
    }


def _result(by: str, count: figures.Hour) -> dict[str, Any]:
    total = sum(count.counts.values())
    return {"at": count.hour, by: count.key, "total": total} | _NONE | count.counts
