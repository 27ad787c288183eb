"""The list of notifications as a CSV file: all that its filters mean, not only what a page shows."""

from __future__ import annotations

from typing import Any, cast

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from notifications import exporting
from notifications.models import Notification
from users.console import ModelAdmin
from users.models import User
from users.reach import project_ids_of
from users.refusals import Refused

EXPORT = "notifications.export_notification"


class Exporting(ModelAdmin[Any]):
    """What NotificationAdmin has for it beside its list. By POST: the log keeps who has taken what out of the house."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/", view, name=_NAME), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may = {"may_export": request.user.has_perm(EXPORT)}
        return super().changelist_view(request, {**may, **(extra_context or {})})

    def export(self, request: HttpRequest) -> HttpResponseBase:
        if not (self.has_view_permission(request) and request.user.has_perm(EXPORT)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        query = {name: value for name, value in request.GET.dict().items() if value}
        try:
            lines = exporting.lines(query, project_ids_of(request.user))
        except Refused as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
            return redirect(reverse(f"admin:{self._list}"))
        _log(request, query)
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=_file())

    @property
    def _list(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_changelist"


_NAME = "notifications_notification_export"


def _file() -> dict[str, str]:
    name = f"notifications-{timezone.now():%Y%m%d-%H%M%S}.csv"
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _log(request: HttpRequest, query: dict[str, str]) -> None:
    """Of no single notification: it stands in the person's own recent actions, and in the log."""
    words = ", ".join(f"{name}={value}" for name, value in query.items()) or "everything"
    LogEntry.objects.create(
        user=cast("User", request.user),
        content_type=ContentType.objects.get_for_model(Notification),
        object_repr="notifications",
        action_flag=CHANGE,
        change_message=f"Exported as CSV: {words}"[:2000],
    )
