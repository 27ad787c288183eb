"""Flows: which there are, how fast each goes, and pausing one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications import pace, pausing
from notifications.admin.pause import PAUSE, Pausable, answer
from notifications.models import Flow
from users.console import NeverDeleted, OfProject, ReachableProjectFilter, WithDetails, badge


@admin.register(Flow)
class FlowAdmin(WithDetails, OfProject, NeverDeleted):
    """A paused flow's notifications wait, and expire in time."""

    list_display = ("lane", "project", "of_batch", "state", "rate")
    list_filter = ("paused", ("project", ReachableProjectFilter))
    list_select_related = ("project", "batch")
    ordering = ("project__name", "lane", "id")
    # Paused by its own act, which asks for a reason.
    fields = ("project", "lane", "of_batch", "state", "rate", "pace")
    readonly_fields = ("project", "lane", "of_batch", "state", "pace")
    change_form_template = "admin/notifications/flow/change.html"

    @admin.display(description="batch")
    def of_batch(self, flow: Flow) -> str | SafeString:
        if flow.batch is None:
            return "-"
        page = reverse("admin:notifications_batch_change", args=[flow.batch.pk])
        return format_html('<a class="ntf-link" href="{}">{}</a>', page, flow.batch.name)

    @admin.display(description="state")
    def state(self, flow: Flow) -> SafeString:
        status, word = ("expired", "Paused") if flow.paused else ("delivered", "Running")
        return badge(status, word)

    @admin.display(description="pace")
    def pace(self, flow: Flow) -> str:
        return pace.limits(flow) or "As fast as it goes."

    def save_model(self, request: HttpRequest, obj: Flow, form: Any, change: bool) -> None:
        """Only what was changed: workers move `next_slot_at` all the time, and must not find it moved back."""
        obj.save(update_fields=form.changed_data)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are made by themselves, with their first notification."""
        return False

    # -- pausing one, with a reason ---------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.act)
        name = "notifications_flow_act"
        return [path("<int:id>/<slug:act>/confirm/", view, name=name), *super().get_urls()]

    def details(self, request: HttpRequest, row: Flow) -> dict[str, Any]:
        """A batch's flow is paused and resumed with its batch, which knows whether it may run."""
        if row.batch_id or not request.user.has_perm(PAUSE):
            return {}
        return {"act": "resume" if row.paused else "pause"}

    def act(self, request: HttpRequest, id: int, act: str) -> HttpResponse:
        if not (self.has_view_permission(request) and request.user.has_perm(PAUSE)):
            raise PermissionDenied
        flows = self.get_queryset(request).select_related("project", "batch")
        flow = flows.filter(pk=id).first()
        if flow is None:
            raise Http404
        if flow.batch:
            return redirect("admin:notifications_batch_change", flow.batch.pk)
        return answer(request, self.admin_site, _pausable(flow), act)


def _pausable(flow: Flow) -> Pausable:
    return Pausable(
        name=f"the flow {flow}",
        holds=f"All that {flow.project} sends in {flow.lane}, but for its batches.",
        paused="It is paused." if flow.paused else "",
        pause=lambda user, reason: pausing.pause_flow(flow.pk, user, reason),
        resume=lambda user: pausing.resume_flow(flow.pk, user),
        back=reverse("admin:notifications_flow_change", args=[flow.pk]),
    )
