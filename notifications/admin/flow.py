"""Flows: which there are, and pausing one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from notifications import pace
from notifications.models import Flow
from users.console import NeverDeleted, OfProject, ReachableProjectFilter


@admin.register(Flow)
class FlowAdmin(OfProject, NeverDeleted):
    """A paused flow's notifications wait, and expire in time. Saving logs who paused it."""

    list_display = ("lane", "project", "of_batch", "state", "rate")
    list_filter = ("paused", ("project", ReachableProjectFilter))
    list_select_related = ("project", "batch")
    ordering = ("project__name", "lane", "id")
    fields = ("project", "lane", "of_batch", "paused", "rate", "pace")
    readonly_fields = ("project", "lane", "of_batch", "pace")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """A batch's flow is paused and resumed with its batch, which knows whether it may run."""
        return (*self.readonly_fields, "paused") if obj and obj.batch_id else self.readonly_fields

    @admin.display(description="batch")
    def of_batch(self, flow: Flow) -> str | SafeString:
        if flow.batch is None:
            return "-"
        page = reverse("admin:notifications_batch_change", args=[flow.batch.pk])
        return format_html('<a class="ntf-link" href="{}">{}</a>', page, flow.batch.name)

    @admin.display(description="state")
    def state(self, flow: Flow) -> SafeString:
        status, word = ("expired", "Paused") if flow.paused else ("delivered", "Running")
        return format_html('<span class="ntf-badge ntf-{}">{}</span>', status, word)

    @admin.display(description="pace")
    def pace(self, flow: Flow) -> str:
        return pace.limits(flow) or "As fast as it goes."

    def save_model(self, request: HttpRequest, obj: Flow, form: Any, change: bool) -> None:
        """Only what was changed: workers move `next_slot_at` all the time, and must not find it moved back."""
        obj.save(update_fields=form.changed_data)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are made by themselves, with their first notification."""
        return False
