"""A filtered list as CSV: all that the filters mean, not the page alone, streamed.

By POST, since it leaves an entry in the log; who takes people's addresses away is asked about it one day.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from typing import Any, cast
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from notifications.csv_cells import defused
from notifications.ids import FIRST, LAST
from notifications.models import Notification, NotificationQuerySet
from notifications.selecting import PAGING, Selection, chosen, read
from users.console import ModelAdmin
from users.models import User
from users.reach import project_ids_of
from users.refusals import Refused

EXPORT = "notifications.export_notification"
#: Rows that one statement looks at, so that none of them runs into the web process's deadline.
CHUNK = 5_000
#: The heading of each column, and what it holds.
COLUMNS = {
    "id": "id",
    "created_at": "created_at",
    "project": "project__name",
    "channel": "channel",
    "user_id": "user_id",
    "address": "address",
    "status": "status",
    "failure_code": "failure_code",
    "failure_detail": "failure_detail",
    "provider": "provider",
    "provider_message_id": "provider_message_id",
    "sent_at": "sent_at",
    "delivered_at": "delivered_at",
    "read_at": "read_at",
    "category": "category",
    "reference": "reference",
    "batch": "flow__batch_id",
    "batch_name": "flow__batch__name",
    "resend_of": "resend_of_id",
}


class Exporting(ModelAdmin[Any]):
    """What NotificationAdmin has beside its list. The list's page shows export_link.html."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [
            path("export.csv", view, name="notifications_notification_export"),
            *super().get_urls(),
        ]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """The filters are those of the list's URL. One that is not known is told on the list, and nothing is sent."""
        if not (self.has_view_permission(request) and request.user.has_perm(EXPORT)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        query = _filters(request)
        try:
            lines = exported(query, project_ids_of(request.user))
        except Refused as refusal:
            self.message_user(request, f"Not exported. {refusal.detail}", messages.ERROR)
            return redirect(reverse("admin:notifications_notification_changelist"))
        _log(request, query)
        return _download(lines)


def exported(query: Mapping[str, str], project_ids: Sequence[int] | None) -> Iterator[str]:
    """The file, piece by piece, newest first. Raises Refused at once, naming the parameter.

    Without a transaction around it: what changes meanwhile is shown as it is when its piece is read. Where the
    database fails on the way, the iterator raises, and the connection breaks instead of ending as if this were all.
    """
    rows = chosen(query, project_ids)
    return _pieces(rows, read(query).within(project_ids))


def _pieces(rows: NotificationQuerySet, selection: Selection) -> Iterator[str]:
    yield _as_csv([COLUMNS])
    for chunk in _chunks(rows, selection):
        if chunk:
            yield _as_csv(defused(map(_text, row)) for row in chunk)


def _chunks(rows: NotificationQuerySet, selection: Selection) -> Iterator[list[tuple[Any, ...]]]:
    """By the id of the last one. Some are empty: of the rows that one looked at, none matched."""
    until = LAST
    while until != FIRST:
        since = _next(rows, selection, until)
        columns = rows.filter(id__lt=until, id__gte=since).values_list(*COLUMNS.values())
        yield list(columns)
        until = since


def _next(rows: NotificationQuerySet, selection: Selection, until: UUID) -> UUID:
    """The id at which a chunk begins that ends before `until`; the lowest of all for the last chunk.

    Counted among what an index finds, so that rows that do not match are looked at a few at a time, too. What is
    searched for has an index of its own, and leads to few.
    """
    counted = rows if selection.term else selection.by_index(Notification.objects.all())
    ids = counted.filter(id__lt=until).values_list("id", flat=True)
    return next(iter(ids[CHUNK - 1 : CHUNK]), FIRST)


def _as_csv(rows: Any) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _text(value: Any) -> Any:
    """UUIDs as they are written everywhere, moments as RFC 3339 has them."""
    if value is None:
        return ""
    return value.isoformat() if hasattr(value, "isoformat") else value


def _filters(request: HttpRequest) -> dict[str, str]:
    given = {name: str(value) for name, value in request.GET.items() if name not in PAGING}
    return {name: value for name, value in given.items() if value}


def _log(request: HttpRequest, query: Mapping[str, str]) -> None:
    """It is about no notification alone, so about none."""
    filters = ", ".join(f"{name}={value}" for name, value in query.items())
    LogEntry.objects.create(
        user=cast("User", request.user),
        content_type=get_content_type_for_model(Notification),
        object_repr="notifications",
        action_flag=CHANGE,
        change_message=f"Exported as CSV: {filters or 'all of them'}",
    )


def _download(lines: Iterator[str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    name = f"notifications-{timezone.now():%Y%m%dT%H%M%SZ}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    # Addresses are in it: no cache keeps them.
    response["Cache-Control"] = "no-store"
    return response
