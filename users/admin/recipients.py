"""The people who are notified. Operators look; administrators may correct a name or an address."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.widgets import UnfoldAdminTextInputWidget

from users import directory
from users.console import (
    BigTableAdmin,
    ModelForm,
    NeverDeleted,
    OfProject,
    ReachableProjectFilter,
)
from users.models import Address, Recipient
from users.phones import as_e164
from users.refusals import Conflict, Refused

_CHANNELS = {"email": "email", "phone": "sms"}


class RecipientForm(ModelForm[Recipient]):
    """Name, locale and time zone as they are; the addresses beside them, in any spelling."""

    email = forms.CharField(
        label="E-mail", max_length=320, required=False, widget=UnfoldAdminTextInputWidget
    )
    phone = forms.CharField(
        label="Phone",
        max_length=40,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="With the country code, like +1 500 555 0006.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field, channel in _CHANNELS.items():
            self.initial[field] = _address(self.instance, channel)

    def clean_email(self) -> str:
        return self._cleaned_address("email")

    def clean_phone(self) -> str:
        return self._cleaned_address("phone")

    def _cleaned_address(self, field: str) -> str:
        value = str(self.cleaned_data[field])
        if not value:
            return ""
        try:
            value = directory.normalised(_CHANNELS[field], value, field)
        except Refused as refusal:
            raise forms.ValidationError(refusal.detail) from None
        if self._is_taken(_CHANNELS[field], value):
            raise forms.ValidationError(f"Another person of this project has this {field}.")
        return value

    def _is_taken(self, channel: str, value: str) -> bool:
        """By somebody who was registered; what only a notification brought along can be taken over."""
        others = Address.objects.exclude(recipient=self.instance).exclude(
            recipient__provisional=True
        )
        project_id = self.instance.project_id
        return others.filter(project_id=project_id, channel=channel, value=value).exists()


@admin.register(Recipient)
class RecipientAdmin(OfProject, BigTableAdmin, NeverDeleted):
    """Made and forgotten through the API, which belongs to the project."""

    form = RecipientForm
    list_display = ("user_id", "name", "email", "phone", "project", "created_at")
    list_filter = (("project", ReachableProjectFilter),)
    list_select_related = ("project",)
    sortable_by = ()
    # Any field switches the box on; get_search_results() does the finding.
    search_fields = ("user_id",)
    search_help_text = "user id, e-mail or phone"
    fields = ("project", "user_id", "name", "email", "phone", "locale", "timezone", "created_at")
    readonly_fields = ("project", "user_id", "created_at")
    change_form_template = "admin/users/recipient/change.html"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Recipient]:
        remembered = super().get_queryset(request).filter(forgetting=None)
        return remembered.prefetch_related("addresses")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Recipient], search_term: str
    ) -> tuple[QuerySet[Recipient], bool]:
        """Exactly, through the two unique indexes that begin with what is searched."""
        term = search_term.strip()
        if not term:
            return queryset, False
        owners = Address.objects.filter(value__in=_spellings(term)).values("recipient_id")
        return queryset.filter(Q(user_id=term) | Q(id__in=owners)), False

    @admin.display(description="e-mail")
    def email(self, recipient: Recipient) -> str:
        return _address(recipient, "email") or "-"

    @admin.display(description="phone")
    def phone(self, recipient: Recipient) -> str:
        return _address(recipient, "sms") or "-"

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given = {name: form.cleaned_data[name] for name in form.changed_data}
        directory.change(obj.project_id, obj.user_id, given)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().change_view(request, object_id, form_url, extra_context)
        except Conflict as conflict:
            # Somebody took the address between the form's check and the saving.
            self.message_user(request, conflict.detail, messages.ERROR)
            return redirect(request.path)


def _address(recipient: Recipient, channel: str) -> str:
    return next((a.value for a in recipient.addresses.all() if a.channel == channel), "")


def _spellings(term: str) -> list[str]:
    """As typed, and as a phone number or an e-mail address is stored."""
    spellings = [term, as_e164(term)]
    with suppress(Refused):
        spellings += [directory.normalised("email", word, "q") for word in (term, term.lower())]
    return [spelling for spelling in spellings if spelling]
