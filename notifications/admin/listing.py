"""Lists over a table of the ledger that may have millions of rows: newest first, and bounded in all they do.

A project, a recipient, a period and the search each narrow by an index. The other filters can only look at row
after row; they look at the newest `LOOKED_THROUGH` of what the former leave, and the page says so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications.finding import as_row_id
from notifications.models import Channel, Notification
from notifications.newest import newest
from notifications.rendering import first_line
from users.console import BoundedChangeList
from users.models import Project
from users.reach import within

#: Characters of a message that stand for it where it has no title.
BEGINNING = 200
#: Rows that a filter without an index of its own looks at.
LOOKED_THROUGH = 50_000


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


class ChannelFilter(Scanning):
    title = parameter_name = "channel"
    choices_of = Channel.choices


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
        if self.value() is None:
            return queryset
        id = as_row_id(self.value() or "")
        return queryset.none() if id is None else newest(queryset, project_id=id)


def with_beginning(rows: QuerySet[Notification]) -> QuerySet[Notification]:
    """Each with the beginning of its message, which may have 256 KB."""
    return rows.annotate(beginning=Left("message", BEGINNING))


def subject_of(notification: Notification) -> str:
    """What it is about. It was read `with_beginning()`."""
    return notification.title or first_line(notification.beginning)  # type: ignore[attr-defined]


def time_of(at: datetime) -> SafeString:
    """A moment in a column, short; the whole of it where the mouse rests."""
    year = "" if at.year == timezone.now().year else f" {at.year}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        at.isoformat(" ", "milliseconds"),
        f"{at:%-d %b}{year}, {at:%H:%M:%S}",
    )
