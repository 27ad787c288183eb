"""Staff: accounts, groups, and who tried to sign in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from axes.admin import AccessAttemptAdmin, AccessLogAdmin
from axes.helpers import get_cool_off
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from users.console import ModelAdmin, NeverDeleted, OfTheWholeService
from users.models import User

if TYPE_CHECKING:
    _UserAdmin = DjangoUserAdmin[User]
else:
    _UserAdmin = DjangoUserAdmin

# A second factor is its owner's own affair (console_site.py); whose page shows the secret could use it.
for model in (Group, AccessAttempt, AccessLog, AccessFailureLog, TOTPDevice, StaticDevice):
    admin.site.unregister(model)


@admin.register(User)
class UserAdmin(OfTheWholeService, _UserAdmin, NeverDeleted):
    """Accounts are deactivated, never deleted: the log of what they did would go with them."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "last_name", "email", "is_active", "last_login")
    list_filter = ("is_active", "groups")
    filter_horizontal = ()
    # Permissions are given by groups only, so that one look at the groups tells who may do what.
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("May", {"fields": ("is_active", "is_staff", "is_superuser", "groups", "projects")}),
    )

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return () if _is_superuser(request) else ("is_superuser",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Whoever is added here is to sign in here."""
        if not change:
            obj.is_staff = True
        super().save_model(request, obj, form, change)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """An administrator could otherwise set a superuser's password, and be one."""
        out_of_reach = obj is not None and obj.is_superuser and not _is_superuser(request)
        return not out_of_reach and super().has_change_permission(request, obj)


def _is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


@admin.register(Group)
class GroupAdmin(OfTheWholeService, DjangoGroupAdmin, ModelAdmin[Any]):
    """What `operator` and `administrator` may do is kept up to date by users/groups.py."""


@admin.register(AccessAttempt)
class FailedSignInAdmin(OfTheWholeService, AccessAttemptAdmin, ModelAdmin[Any]):  # type: ignore[misc]
    """Failed attempts to sign in. Deleting one lets its user try again at once."""

    actions = ()
    date_hierarchy = None
    list_display = ("attempt_time", "username", "ip_address", "failures_since_start", "status")
    list_display_links = ("username",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AccessLog)
class SignInAdmin(OfTheWholeService, AccessLogAdmin, NeverDeleted):  # type: ignore[misc]
    """Who signed in and out, and from where."""

    date_hierarchy = None
    list_display = ("attempt_time", "logout_time", "username", "ip_address")
    list_display_links = ("username",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def locked_out(
    request: HttpRequest, response: HttpResponse | None, credentials: dict[str, Any] | None
) -> HttpResponse:
    """The page for who failed to sign in too often (AXES_LOCKOUT_CALLABLE)."""
    wait = get_cool_off(request) or timedelta(0)
    minutes = -(-int(wait.total_seconds()) // 60)
    context = {**admin.site.each_context(request), "title": "Too many attempts", "minutes": minutes}
    page = render(request, "admin/locked_out.html", context, status=429)
    page["Retry-After"] = str(minutes * 60)
    return page
