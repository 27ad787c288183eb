"""Projects and their API keys."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.forms import SimpleArrayField
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Field
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminTextInputWidget

from users.console import ModelForm, NeverDeleted, OfProject, ReachableProjectFilter, badge
from users.models import ApiKey, Project, Scope, every_scope
from users.reach import sees_everything


class CommaSeparated(SimpleArrayField):
    """Words between commas. A comma too many is no word."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str):
            value = ",".join(word for word in value.split(",") if word.strip())
        return super().to_python(value)

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value


@admin.register(Project)
class ProjectAdmin(OfProject, NeverDeleted):
    project_path = "pk"
    list_display = ("name", "from_email", "reply_to", "when_unknown", "created_at")
    search_fields = ("name",)
    fields = (
        "name",
        "from_name",
        "from_email",
        "reply_to",
        "unknown_policy",
        "mandatory_categories",
        "inbox_origins",
    )

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        if isinstance(db_field, ArrayField):
            widget = UnfoldAdminTextInputWidget
            # The model says the same, but of its errors a form keeps only which of the words is wrong.
            of_one = db_field.base_field
            word = of_one.formfield(max_length=None, validators=of_one.validators)
            return db_field.formfield(form_class=CommaSeparated, base_field=word, widget=widget)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who is limited to some projects could not even see the new one."""
        return sees_everything(request.user) and super().has_add_permission(request)

    @admin.display(description="unknown ones")
    def when_unknown(self, project: Project) -> str:
        return str(project.get_unknown_policy_display()).partition(":")[0]


class ApiKeyForm(ModelForm[ApiKey]):
    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if "expires_at" in self.changed_data and expires_at and expires_at <= timezone.now():
            raise ValidationError("This is in the past. To end a key now, revoke it.")
        return expires_at


@admin.register(ApiKey)
class ApiKeyAdmin(OfProject, NeverDeleted):
    """A key is shown whole once, in the answer to the form that made it. Later it can only be revoked."""

    form = ApiKeyForm
    list_display = (
        "name",
        "key",
        "project",
        "live_or_test",
        "may",
        "last_used_at",
        "expires_at",
        "state",
    )
    list_filter = ("kind", ("project", ReachableProjectFilter))
    list_select_related = ("project",)
    search_fields = ("name", "prefix")
    fields = ("project", "name", "kind", "scopes", "expires_at")
    change_form_template = "admin/users/apikey/change.html"

    @admin.display(description="key", ordering="prefix")
    def key(self, key: ApiKey) -> SafeString:
        return format_html("<code>ntf_{}_{}_…</code>", key.kind, key.prefix)

    @admin.display(description="kind")
    def live_or_test(self, key: ApiKey) -> str:
        return key.kind.capitalize()

    @admin.display(description="may")
    def may(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="state")
    def state(self, key: ApiKey) -> SafeString:
        return badge(*_state(key))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return self.fields
        return (*self.fields, "key", "created_at", "created_by", "last_used_at", "revoked_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ()
        return ("project", "kind", "key", "created_at", "created_by", "last_used_at", "revoked_at")

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        if db_field.name == "scopes":
            return forms.MultipleChoiceField(
                choices=Scope.choices,
                initial=every_scope,
                widget=UnfoldAdminCheckboxSelectMultipleWidget,
                label="May",
            )
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.created_by = request.user
            # Kept on the object, which lives as long as this request: never in a session or a message.
            obj.token = obj.issue()
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "The new API key",
            "key": obj,
        }
        return TemplateResponse(request, "admin/users/apikey/issued.html", context)

    # -- revoking -----------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.revoke)
        return [path("<int:id>/revoke/", view, name="users_apikey_revoke"), *super().get_urls()]

    def revoke(self, request: HttpRequest, id: int) -> HttpResponse:
        key = self.get_queryset(request).filter(pk=id).first()
        if key is None:
            raise Http404
        if not self.has_change_permission(request, key):
            raise PermissionDenied
        if request.method == "POST":
            self._revoke(request, key)
            return redirect(reverse("admin:users_apikey_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Revoke this key?",
            "key": key,
        }
        return TemplateResponse(request, "admin/users/apikey/revoke.html", context)

    def _revoke(self, request: HttpRequest, key: ApiKey) -> None:
        with transaction.atomic():
            if not ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now()):
                self.message_user(request, "This key was revoked before.", messages.WARNING)
                return
            self.log_change(request, key, "Revoked.")
        self.message_user(
            request, format_html("{} is revoked; it stops working within 5 seconds.", key)
        )


def _state(key: ApiKey) -> tuple[str, str]:
    if key.revoked_at:
        return "cancelled", "Revoked"
    if key.expires_at and key.expires_at <= timezone.now():
        return "expired", "Expired"
    return "delivered", "Active"
