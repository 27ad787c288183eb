"""The two groups of staff: `operator` looks, resends, retries, cancels, settles, pauses, probes, sends to many, and
says which addresses are not written to; `administrator` does everything.

Both are brought up to date after every migration. What is listed here is added when it is missing, so that a
new version's permissions reach the staff without anybody's doing; what an administrator added by hand is
never taken away. Somebody who shall do less needs a group of his own: what is removed from these two by hand
comes back with the next migration.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps as installed_apps
from django.apps.registry import Apps
from django.db.models import Q

OPERATOR = "operator"
ADMINISTRATOR = "administrator"

_OPERATOR = frozenset(
    {
        "notifications.view_notification",
        "notifications.resend_notification",
        "notifications.retry_notification",
        "notifications.cancel_notification",
        "notifications.settle_notification",
        "notifications.export_notification",
        "notifications.view_batch",
        "notifications.send_batch",
        "notifications.download_batch",
        "notifications.view_bulkaction",
        "notifications.view_flow",
        "notifications.view_pause",
        "notifications.pause_delivery",
        "notifications.view_circuit",
        "notifications.change_circuit",
        "notifications.view_receipt",
        "notifications.view_suppression",
        "notifications.add_suppression",
        "notifications.delete_suppression",
        "users.view_recipient",
        "users.view_project",
    }
)

#: Groups are changed by a superuser only: who may, could give himself anything.
_ADMINISTRATOR = _OPERATOR | {
    "notifications.change_flow",
    "users.change_recipient",
    "users.add_project",
    "users.change_project",
    "users.view_apikey",
    "users.add_apikey",
    "users.change_apikey",
    "users.view_user",
    "users.add_user",
    "users.change_user",
    "auth.view_group",
    "axes.view_accessattempt",
    "axes.delete_accessattempt",
    "axes.view_accesslog",
}

PERMISSIONS = {OPERATOR: _OPERATOR, ADMINISTRATOR: _ADMINISTRATOR}


def bring_up_to_date(using: str, apps: Apps = installed_apps, **kwargs: Any) -> None:
    """Receiver of post_migrate (`flush` sends it without `apps`). A partial migration may have made only some of the permissions, or no groups."""
    try:
        group_model = apps.get_model("auth", "Group")
        permission_model = apps.get_model("auth", "Permission")
    except LookupError:
        return
    for name, wanted in PERMISSIONS.items():
        group, _ = group_model._default_manager.using(using).get_or_create(name=name)
        permissions = permission_model._default_manager.using(using).filter(_any_of(wanted))
        group.permissions.add(*permissions)


def _any_of(names: frozenset[str]) -> Q:
    condition = Q()
    for name in names:
        app, _, codename = name.partition(".")
        condition |= Q(content_type__app_label=app, codename=codename)
    return condition
