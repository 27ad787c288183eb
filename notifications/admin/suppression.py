"""The list of suppressed addresses: finding one, why it is there, putting one on, taking one off."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.safestring import SafeString

from notifications import suppressions
from notifications.admin.listing import LedgerChangeList, ProjectFilter, Scanning, time_of
from notifications.admin.timeline import short
from notifications.explaining import moment
from notifications.finding import addresses
from notifications.models import Suppression
from users.console import MOST_COUNTED, BigTableAdmin, ModelForm, OfProject, WithDetails, badge
from users.models import Address
from users.refusals import Refused

_BADGES = {
    Suppression.Reason.HARD_BOUNCE: "failed",
    Suppression.Reason.STOP: "failed",
    Suppression.Reason.COMPLAINT: "expired",
    Suppression.Reason.UNSUBSCRIBE: "expired",
}


class ChannelFilter(Scanning):
    title = parameter_name = "channel"
    choices_of = Address.Channel.choices


class ReasonFilter(Scanning):
    title = parameter_name = "reason"
    choices_of = [(reason.value, reason.label.partition(":")[0]) for reason in Suppression.Reason]


class SourceFilter(Scanning):
    title = parameter_name = "source"
    choices_of = Suppression.Source.choices


class SuppressionForm(ModelForm[Suppression]):
    """An address in any spelling; the list has it in one."""

    class Meta:
        help_texts: ClassVar = {
            "address": "An e-mail address, or a phone number with its country code."
        }

    def clean(self) -> None:
        super().clean()
        given = self.cleaned_data
        if not {"project", "channel", "address"} <= given.keys():
            return
        try:
            entry = suppressions.entry_for(given["channel"], given["address"], reason="")
        except Refused as refusal:
            self.add_error("address", refusal.detail)
            return
        listed = suppressions.find(given["project"].pk, entry.channel, entry.address)
        if listed:
            why = f"{short(listed.reason)}, since {moment(listed.created_at)}"
            self.add_error("address", f"This address is on the list already: {why}.")
        given["address"] = entry.address


@admin.register(Suppression)
class SuppressionAdmin(WithDetails, OfProject, BigTableAdmin):
    """Put on and taken off, never changed: why an address is here stays as it was learned."""

    form = SuppressionForm
    list_display = ("address", "channel", "project", "reason_badge", "source", "since")
    list_filter = (ChannelFilter, ReasonFilter, SourceFilter, ProjectFilter)
    list_select_related = ("project",)
    ordering = ("-id",)
    sortable_by = ()
    # Any field switches the box on; _found does the finding.
    search_fields = ("address",)
    search_help_text = "e-mail or phone, in any spelling"
    # Each is taken off by itself, on a page that says what this means.
    actions = None
    fields = ("project", "channel", "address", "reason", "detail")
    list_before_template = "admin/cut_off.html"
    change_form_template = "admin/notifications/suppression/detail.html"
    delete_confirmation_template = "admin/notifications/suppression/take_off.html"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LedgerChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Suppression]:
        found: QuerySet[Suppression] = super().get_queryset(request)
        if request.resolver_match and request.resolver_match.url_name == _CHANGELIST:
            return found.defer("detail")
        return found.select_related("project", "notification", "receipt")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Suppression], search_term: str
    ) -> tuple[QuerySet[Suppression], bool]:
        if not search_term.strip():
            return queryset, False
        return queryset.filter(id__in=list(found(search_term))), False

    # -- the list's columns ---------------------------------------------------------------------------

    @admin.display(description="reason")
    def reason_badge(self, suppression: Suppression) -> SafeString:
        return _badge(suppression)

    @admin.display(description="since (UTC)")
    def since(self, suppression: Suppression) -> SafeString:
        return time_of(suppression.created_at)

    # -- one in detail --------------------------------------------------------------------------------

    def details(self, request: HttpRequest, row: Suppression) -> dict[str, Any]:
        return {"title": str(row), "subtitle": None, **_means(row)}

    # -- putting on -----------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        entry = suppressions.Entry(obj.channel, obj.address, obj.reason, obj.detail)
        suppressions.add(obj.project_id, [entry], Suppression.Source.CONSOLE)
        # Where somebody else was quicker, theirs: the address is on the list, as was asked.
        stored = suppressions.find(obj.project_id, entry.channel, entry.address)
        assert stored is not None
        obj.pk = stored.pk

    # -- taking off -----------------------------------------------------------------------------------

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        suppression = self.get_object(request, object_id)
        context = {"title": "Take this address off the list?", **_means(suppression)}
        return super().delete_view(request, object_id, context)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        suppressions.remove(obj.project_id, obj.pk)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        done = f"{obj_display} is off the list, and may be written to again."
        self.message_user(request, done, messages.SUCCESS)
        return redirect(reverse(f"admin:{_CHANGELIST}"))


_CHANGELIST = "notifications_suppression_changelist"


def found(term: str) -> QuerySet[Suppression, UUID]:
    """The entries of all projects for an address, by the index that begins with it."""
    # One of these is in lower case, as the list is.
    spellings = sorted(addresses(term.strip()))
    listed = Suppression.objects.filter(address__in=spellings).order_by()
    return listed.values_list("id", flat=True)[:MOST_COUNTED]


def _badge(suppression: Suppression) -> SafeString:
    return badge(
        _BADGES.get(Suppression.Reason(suppression.reason), "manual"),
        suppression.get_reason_display().partition(":")[0],
    )


def _means(suppression: Suppression | None) -> dict[str, Any]:
    """What it stops, for the pages; nothing of one that is not there, whose answer is Django's own."""
    if suppression is None:
        return {}
    return {
        "suppression": suppression,
        "badge": _badge(suppression),
        "is_absolute": suppression.reason in Suppression.ABSOLUTE,
        "is_wish": suppression.reason in _WISHES,
        "is_learned": suppression.source in _LEARNED,
    }


#: Reasons that are the person's own doing.
_WISHES = (
    Suppression.Reason.STOP,
    Suppression.Reason.COMPLAINT,
    Suppression.Reason.UNSUBSCRIBE,
)
#: Sources that are a provider's word.
_LEARNED = (Suppression.Source.RECEIPT, Suppression.Source.REFUSAL)
