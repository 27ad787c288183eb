"""The pages about notifications: the list, and one in detail. What is done to them there: acting.py."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from notifications.admin.acting import Acting
from notifications.admin.export import Exporting
from notifications.admin.generations import chain_beside, generations
from notifications.admin.listing import subject_of, time_of, with_beginning
from notifications.admin.notification_list import NotificationChangeList, SelectionFilter
from notifications.admin.preview import preview
from notifications.admin.timeline import timeline
from notifications.circumstances import MOST_RECEIPTS, explanation_of
from notifications.models import Notification
from notifications.rendering import first_line
from users.console import BigTableAdmin, NeverDeleted, OfProject, WithDetails, badge


@admin.register(Notification)
class NotificationAdmin(Acting, Exporting, WithDetails, OfProject, BigTableAdmin, NeverDeleted):
    """The ledger is read here, never edited: operators act on it through notifications/changes.py."""

    list_display = (
        "status_badge", "what", "to", "channel", "project", "provider", "attempts", "created"
    )  # fmt: skip
    list_display_links = ("what",)
    list_filter = (SelectionFilter,)
    list_select_related = ("project",)
    ordering = ("-id",)
    sortable_by = ()
    # Any field switches the box on; the change list does the finding.
    search_fields = ("id",)
    search_help_text = "e-mail, phone, user id, reference or an id"
    change_form_template = "admin/notifications/notification/detail.html"
    list_before_template = "admin/notifications/notification/before_list.html"
    # The detail page shows everything by itself.
    fields = ("id",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NotificationChangeList]:
        return NotificationChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Notification], search_term: str
    ) -> tuple[QuerySet[Notification], bool]:
        """The change list does it, and says what it took the term for."""
        return queryset, False

    # -- the list's columns ---------------------------------------------------------------------------

    @admin.display(description="status")
    def status_badge(self, notification: Notification) -> SafeString:
        return badge(
            notification.status,
            notification.get_status_display(),
        )

    @admin.display(description="message")
    def what(self, notification: Notification) -> SafeString:
        if notification.erased_at:
            return format_html('<span class="ntf-faint">{}</span>', "erased")
        test = "" if notification.live else format_html(' <span class="ntf-tag">{}</span>', "test")
        return format_html("{}{}", Truncator(subject_of(notification)).chars(60), test)

    @admin.display(description="recipient")
    def to(self, notification: Notification) -> str:
        return Truncator(notification.address or notification.user_id).chars(40)

    @admin.display(description="attempts")
    def attempts(self, notification: Notification) -> int:
        return notification.attempt_count

    @admin.display(description="created (UTC)")
    def created(self, notification: Notification) -> SafeString:
        return time_of(notification.created_at)

    # -- one in detail ----------------------------------------------------------------------------------

    def details(self, request: HttpRequest, row: Notification) -> dict[str, Any]:
        explanation = explanation_of(row, timezone.now())
        receipts = explanation.receipts
        return {
            "title": Truncator(row.title or first_line(row.message)).chars(80) or str(row.pk),
            "subtitle": None,
            "notification": row,
            "explanation": explanation.sentence,
            "finished": row.status in Notification.FINISHED,
            "generations": generations(row),
            "preview": preview(row),
            "metadata": json.dumps(row.metadata, indent=2, ensure_ascii=False),
            "events": timeline(row, explanation.attempts, receipts, explanation.suppression),
            "most_receipts": MOST_RECEIPTS if len(receipts) == MOST_RECEIPTS else 0,
            "acts": [act for act in self.allowed_acts(request) if not act.obstacle(row)],
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        """The list without what may be long (a message has up to 256 KB); else all that a page shows."""
        found = with_beginning(super().get_queryset(request))
        page = request.resolver_match.url_name if request.resolver_match else ""
        if page == self.page_name("changelist"):
            return found.defer("message", "html", "metadata", "failure_detail")
        if page == self.page_name("change"):
            found = found.annotate(chain=chain_beside())
        return found.select_related("project", "flow__batch", "recipient", "api_key", "resent_as")
