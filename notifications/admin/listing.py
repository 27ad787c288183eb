"""Lists over a table of the ledger that may have millions of rows: newest first, and bounded in all they do.

A project, a recipient, a period and the search each narrow by an index. The other filters can only look at row
after row; they look at the newest `LOOKED_THROUGH` of what the former leave, and the page says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications.finding import as_uuid
from notifications.ids import first_of
from notifications.models import (
    Batch,
    Channel,
    Flow,
    NotificationQuerySet,
    Priority,
    Status,
)
from notifications.newest import newest
from users.console import BoundedChangeList
from users.models import Project, Recipient
from users.reach import within

#: Rows that a filter without an index of its own looks at.
LOOKED_THROUGH = 50_000

#: Found by notification_status; the others are most of the table.
_RARE = frozenset(Status.values) - {Status.SENT, Status.DELIVERED}


class LedgerChangeList(BoundedChangeList):
    """Applies the filters without an index last, to a bounded number of rows."""

    #: Rows that the filters looked at, where there were more; 0 where they saw all.
    cut_off_at = 0

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        found = super().get_queryset(request, exclude_parameters)
        scanning = [spec for spec in self.filter_specs if isinstance(spec, Scanning)]
        scanning = [spec for spec in scanning if spec.value() is not None]
        if not all(spec.has_index(request) for spec in scanning):
            found = self._newest(found)
        for spec in scanning:
            found = spec.narrowed(found)
        return found

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """As the filters have left it: newest first, by the index of what they narrow by."""
        return list(queryset.query.order_by)

    def _newest(self, found: QuerySet[Any]) -> QuerySet[Any]:
        beyond = found.values_list("id", flat=True)[LOOKED_THROUGH : LOOKED_THROUGH + 1]
        oldest = next(iter(beyond), None)
        self.cut_off_at = LOOKED_THROUGH if oldest else 0
        return found.filter(id__gt=oldest) if oldest else found


class Scanning(admin.SimpleListFilter):
    """A filter that no index serves by itself; the change list applies it, see above."""

    choices_of: list[tuple[str, str]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return self.choices_of

    def value(self) -> str | None:
        """None for what is not one of the choices."""
        value = super().value()
        return value if value in dict(self.lookup_choices) else None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset

    def has_index(self, request: HttpRequest) -> bool:
        return False

    def narrowed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()})


class StatusFilter(Scanning):
    title = parameter_name = "status"
    choices_of = Status.choices

    def has_index(self, request: HttpRequest) -> bool:
        return "project" in request.GET and self.value() in _RARE


class HeldFilter(admin.SimpleListFilter):
    """What waits for an operator's word: an index of its own has it, whatever else is chosen."""

    title = "held"
    parameter_name = "held"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "For an operator")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        found = cast("NotificationQuerySet", queryset)
        return found.held() if self.value() == "1" else found


class ChannelFilter(Scanning):
    title = parameter_name = "channel"
    choices_of = Channel.choices


class PriorityFilter(Scanning):
    title = parameter_name = "priority"
    choices_of = Priority.choices


class KindFilter(Scanning):
    title = "kind"
    parameter_name = "live"
    choices_of = [("1", "Live"), ("0", "Test")]

    def narrowed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(live=self.value() == "1")


class ProjectFilter(admin.SimpleListFilter):
    title = parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        projects = within(request.user, Project.objects.all(), "pk")
        return [(str(id), name) for id, name in projects.values_list("id", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return _narrowed_by_id(queryset, "project_id", self.value())


class BatchFilter(admin.SimpleListFilter):
    """Where a batch's page leads; it has nothing to offer before."""

    title = parameter_name = "batch"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """A batch that is not there is a choice too: without one, Django leaves the filter out, and lists all."""
        given = request.GET.get("batch", "")
        id = as_uuid(given)
        batches = within(request.user, Batch.objects.filter(pk=id)) if id else Batch.objects.none()
        names = batches.values_list("name", flat=True)
        return [(given, next(iter(names), "No such batch"))] if given else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        id = as_uuid(self.value() or "")
        flow = Flow.objects.filter(batch_id=id).first() if id else None
        if flow is None:
            return queryset.none()
        return newest(queryset.filter(row_number__isnull=False), flow_id=flow.pk)


class RecipientFilter(admin.SimpleListFilter):
    """Where a recipient's page leads; it has nothing to offer before."""

    title = parameter_name = "recipient"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """One that is not there is a choice too: without one, Django leaves the filter out, and lists all."""
        id = request.GET.get("recipient", "")
        found = Recipient.objects.filter(id=int(id)) if _is_id(id) else Recipient.objects.none()
        recipients = within(request.user, found)
        return [(id, str(next(iter(recipients), "No such recipient")))] if id else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return _narrowed_by_id(queryset, "recipient_id", self.value())


def _narrowed_by_id(queryset: QuerySet[Any], field: str, id: str | None) -> QuerySet[Any]:
    if id is None:
        return queryset
    return newest(queryset, **{field: int(id)}) if _is_id(id) else queryset.none()


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


class CreatedFilter(admin.ListFilter):
    """A period of days, in UTC. Ids are time-ordered, so it is a range of the primary key."""

    title = "created"
    template = "admin/period_filter.html"

    def __init__(
        self, request: HttpRequest, params: dict[str, list[str]], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.expected_parameters():
            if name and name in params:
                self.used_parameters[name] = params.pop(name)[-1]
        self.others = [
            (name, value)
            for name, values in request.GET.lists()
            for value in values
            if name not in (*self.expected_parameters(), "p")
        ]

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return ["created_from", "created_to"]

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """What the template shows: the days as they were typed, and the rest of the query to keep."""
        yield {"first": self._typed("from"), "last": self._typed("to"), "others": self.others}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = _day(self._typed("from")), _day(self._typed("to"))
        if first:
            queryset = queryset.filter(id__gte=first_of(_midnight(first)))
        if last and last < date.max:
            queryset = queryset.filter(id__lt=first_of(_midnight(last + timedelta(days=1))))
        return queryset

    def _typed(self, end: str) -> str:
        return str(self.used_parameters.get(f"created_{end}", ""))


def time_of(at: datetime) -> SafeString:
    """A moment in a column, short; the whole of it where the mouse rests."""
    year = "" if at.year == timezone.now().year else f" {at.year}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        at.isoformat(" ", "milliseconds"),
        f"{at:%-d %b}{year}, {at:%H:%M:%S}",
    )


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year >= 1970 else date(1970, 1, 1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
