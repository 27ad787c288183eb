"""Receipts as they came: read here, applied by workers (receipts.py), removed by nobody."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from notifications import providers
from notifications.admin.listing import LedgerChangeList, Scanning, time_of
from notifications.admin.timeline import LATE, page_of, tone_of
from notifications.explaining import ago, ahead, duration
from notifications.finding import as_uuid
from notifications.models import Notification, Receipt, Suppression
from notifications.providers.events import EventType
from users.console import MOST_COUNTED, BigTableAdmin, NeverDeleted, OfProject, WithDetails, badge

#: Notifications with the same provider's id that are looked at: there should be one.
MOST_OF_ONE_ID = 20

_BADGES = {"good": "delivered", "warning": "expired", "bad": "failed", "plain": "sent"}


class ProviderFilter(Scanning):
    title = parameter_name = "provider"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in providers.reporting_names()]


class EventFilter(Scanning):
    title = parameter_name = "event"
    choices_of = [(event.value, event.value) for event in EventType]


class MatchFilter(Scanning):
    """Those without a notification are few, and in an index of their own."""

    title = "notification"
    parameter_name = "matched"
    choices_of = [("1", "Matched"), ("0", "Not matched")]

    def has_index(self, request: HttpRequest) -> bool:
        return self.value() == "0"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != "0":
            return queryset
        return queryset.filter(notification=None).order_by("-received_at", "-id")

    def narrowed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(notification__isnull=self.value() == "0")


@admin.register(Receipt)
class ReceiptAdmin(WithDetails, OfProject, BigTableAdmin, NeverDeleted):
    #: One that is not matched belongs to no project: only who sees all sees it.
    project_path = "notification__project"
    list_display = ("event_badge", "provider", "reason", "about", "occurred", "received")
    list_filter = (ProviderFilter, EventFilter, MatchFilter)
    ordering = ("-id",)
    sortable_by = ()
    # Any field switches the box on; `found` does the finding.
    search_fields = ("id",)
    search_help_text = "id of a notification, ours or the provider's"
    actions = None
    # The page shows everything by itself.
    fields = ("id",)
    list_before_template = "admin/cut_off.html"
    change_form_template = "admin/notifications/receipt/detail.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LedgerChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Receipt]:
        """The list without what may be long: what came has up to 64 KB."""
        rows: QuerySet[Receipt] = super().get_queryset(request)
        if request.resolver_match and request.resolver_match.url_name == _CHANGELIST:
            return rows.defer("raw", "detail")
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Receipt], search_term: str
    ) -> tuple[QuerySet[Receipt], bool]:
        if not search_term.strip():
            return queryset, False
        return queryset.filter(id__in=list(found(search_term))), False

    # -- the list's columns ---------------------------------------------------------------------------

    @admin.display(description="event")
    def event_badge(self, receipt: Receipt) -> SafeString:
        return _badge(receipt)

    @admin.display(description="reason")
    def reason(self, receipt: Receipt) -> str:
        return receipt.reject_reason.replace("_", " ") or "-"

    @admin.display(description="notification")
    def about(self, receipt: Receipt) -> SafeString:
        id = receipt.notification_id
        if id is None:
            return format_html('<span class="ntf-faint">{}</span>', "not matched")
        return format_html('<a class="ntf-link" href="{}">{}</a>', page_of(id), id)

    @admin.display(description="happened (UTC)")
    def occurred(self, receipt: Receipt) -> SafeString:
        return time_of(receipt.occurred_at)

    @admin.display(description="came (UTC)")
    def received(self, receipt: Receipt) -> SafeString:
        return time_of(receipt.received_at)

    # -- one in detail --------------------------------------------------------------------------------

    def details(self, request: HttpRequest, row: Receipt) -> dict[str, Any]:
        delay = row.received_at - row.occurred_at
        return {
            "title": str(row),
            "subtitle": None,
            "receipt": row,
            "badge": _badge(row),
            "state": _state(row),
            "delay": duration(delay) if delay >= LATE else "",
            "suppression": Suppression.objects.filter(receipt=row).first(),
            "raw": readable(row.raw),
        }


_CHANGELIST = "notifications_receipt_changelist"


def found(term: str) -> QuerySet[Receipt, int]:
    """What came for a notification. A receipt's own ids have no index, so one that is not matched is not found."""
    of_these = Receipt.objects.filter(notification__in=_notifications(term.strip())).order_by()
    return of_these.values_list("id", flat=True)[:MOST_COUNTED]


def _notifications(term: str) -> list[UUID]:
    if "\x00" in term:
        return []
    if id := as_uuid(term):
        return [id]
    named = Notification.objects.filter(provider_message_id=term).order_by()
    return list(named.values_list("id", flat=True)[:MOST_OF_ONE_ID])


def _badge(receipt: Receipt) -> SafeString:
    kind = _BADGES[tone_of(receipt)]
    return badge(kind, capfirst(receipt.event))


def _state(receipt: Receipt) -> str:
    now = timezone.now()
    if receipt.applied_at:
        return f"Applied to its notification {ago(receipt.applied_at, now)}."
    if receipt.due_at <= now:
        return "About to be applied: a worker is to look for its notification."
    return f"Its notification was not found yet; that is tried again {ahead(receipt.due_at, now)}."


def readable(raw: str) -> str:
    """JSON with its lines broken; anything else as it came, also JSON that was cut off or is nested too deep."""
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return raw
