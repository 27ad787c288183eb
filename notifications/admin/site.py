"""What stands on every page of the console: the menu, which installation this is, and what it does not do.

Named in settings.UNFOLD, which calls each with the request.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from notifications import providers
from notifications.admin import overview
from users.models import User
from users.reach import sees_everything


class Entry(NamedTuple):
    title: str
    icon: str
    page: str
    permission: str = ""


#: Not for who is limited to some projects (console.OfTheWholeService).
_OF_THE_WHOLE_SERVICE = "Staff"
_MENU = {
    "Ledger": (
        Entry("Overview", "monitoring", "admin:index"),
        Entry(
            "Notifications",
            "outgoing_mail",
            "admin:notifications_notification_changelist",
            "notifications.view_notification",
        ),
        Entry(
            "Batches",
            "campaign",
            "admin:notifications_batch_changelist",
            "notifications.view_batch",
        ),
        Entry(
            "Bulk actions",
            "checklist",
            "admin:notifications_bulkaction_changelist",
            "notifications.view_bulkaction",
        ),
        Entry(
            "Suppressions",
            "unsubscribe",
            "admin:notifications_suppression_changelist",
            "notifications.view_suppression",
        ),
        Entry(
            "Receipts",
            "receipt_long",
            "admin:notifications_receipt_changelist",
            "notifications.view_receipt",
        ),
        Entry("Recipients", "group", "admin:users_recipient_changelist", "users.view_recipient"),
        Entry("Flows", "reorder", "admin:notifications_flow_changelist", "notifications.view_flow"),
        Entry(
            "Circuits",
            "electrical_services",
            "admin:notifications_circuit_changelist",
            "notifications.view_circuit",
        ),
    ),
    "Projects": (
        Entry("Projects", "workspaces", "admin:users_project_changelist", "users.view_project"),
        Entry("API keys", "key", "admin:users_apikey_changelist", "users.view_apikey"),
    ),
    _OF_THE_WHOLE_SERVICE: (
        Entry("Users", "badge", "admin:users_user_changelist", "users.view_user"),
        Entry("Groups", "shield_person", "admin:auth_group_changelist", "auth.view_group"),
        Entry("Sign-ins", "login", "admin:axes_accesslog_changelist", "axes.view_accesslog"),
        Entry(
            "Failed sign-ins",
            "gpp_maybe",
            "admin:axes_accessattempt_changelist",
            "axes.view_accessattempt",
        ),
    ),
    "The service": (
        Entry("API documentation", "menu_book", "docs"),
        Entry("Health", "monitor_heart", "health"),
    ),
}

_CHANNELS = {"email": "e-mail", "sms": "SMS"}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The menu, without what this user may not open."""
    unlimited = sees_everything(request.user)
    groups = [
        {
            "title": title,
            "separator": title != "Ledger",
            "items": [
                {"title": entry.title, "icon": entry.icon, "link": reverse(entry.page)}
                for entry in entries
                if _may_open(request.user, entry)
            ],
        }
        for title, entries in _MENU.items()
        if unlimited or title != _OF_THE_WHOLE_SERVICE
    ]
    return [group for group in groups if group["items"]]


def _may_open(user: User | AnonymousUser, entry: Entry) -> bool:
    return not entry.permission or user.has_perm(entry.permission)


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """The menu of the account, in the corner."""
    return [
        {"title": "Change password", "link": reverse("admin:password_change")},
        {"title": "Second factor", "link": reverse("admin:second_factor")},
    ]


def environment_badge(request: HttpRequest) -> list[str]:
    return ["Production", "danger"] if settings.PRODUCTION else ["Development", "info"]


def stylesheet(request: HttpRequest) -> str:
    return static("notifyproj/admin.css")


def icon(request: HttpRequest) -> str:
    return static("icon.svg")


def context(request: HttpRequest) -> dict[str, Any]:
    """Joins the context of every page."""
    told = (_embedded(), _sandbox(), _fallback())
    return {"banners": [banner for banner in told if banner]}


def start_page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Joins the context of the first page: how it stands, for who may see that."""
    context["title"] = "Overview"
    if overview.may_see(request.user):
        context |= overview.live(request) | overview.slower(request)
    return context


def _embedded() -> str:
    if not settings.EMBEDDED:
        return ""
    return (
        f"This is a development machine with {' and '.join(settings.EMBEDDED)} embedded: all data is in "
        f"{settings.VAR_DIR.name}/. Production needs servers of its own (README, Deployment)."
    )


def _sandbox() -> str:
    channels = [
        name
        for channel, name in _CHANNELS.items()
        if settings.SANDBOX and not providers.for_channel(channel)
    ]
    if not channels:
        return ""
    return (
        f"The sandbox carries {' and '.join(channels)}: it only simulates, and nothing of it leaves "
        "this machine, also with a live key. Set up a provider to really send (README, “Send for real”)."
    )


def _fallback() -> str:
    addresses = (settings.FALLBACK_EMAIL, settings.FALLBACK_PHONE)
    given = " and ".join(address for address in addresses if address)
    if not given:
        return ""
    return (
        f"Messages to people without an address go to {given} instead "
        "(FALLBACK_EMAIL, FALLBACK_PHONE). That is for trying the service on oneself."
    )
