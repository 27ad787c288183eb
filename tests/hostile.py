"""Rows of everything that the console shows, with every text field full of what must not be believed."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.db import models
from django.utils import timezone

from notifications.models import Notification
from tests.console import ROWS, registered
from tests.factories import AddressFactory, AttemptFactory, ProjectFactory, ReceiptFactory
from users.models import Project, User

#: Markup that runs, quotes that end an attribute, a template's own signs, direction and invisible signs, a bell.
SCRIPT = (
    "<script>window.owned=1</script>\"'><img src=x onerror=window.owned=1></textarea></title>"
    "{{ 7|add:7 }}${window.owned=1}\u202eesrever\u202c\u200b\x07&lt;b&gt;\n"
)
LONG = SCRIPT + "W" * 2_000
#: What a batch learned of its file.
_REPORT = {
    "rows": 2,
    "invalid": 1,
    "codes": {LONG: 1},
    "errors": [
        {"line": 2, "field": LONG, "code": LONG, "error": LONG, "detail": LONG, "value": LONG}
    ],
    "examples": [
        {"line": 1, "recipient": LONG, "title": LONG, "message": LONG, "html": f"<p>{LONG}</p>"}
    ],
}
#: Starts like an address that a link may lead to.
LINK = "javascript:window.owned=1//"
#: What means something to the engine, has an index of its own kind, or is checked by the database.
KEPT = {
    "axes.accessattempt": {"ip_address"},
    "axes.accesslog": {"ip_address"},
    "auth.group": {"name"},
    "notifications.bulkaction": {"act"},
    "notifications.pause": {"target"},
    "users.apikey": {"prefix"},
    "users.user": {"password"},
}


def text_of(field: Any, tag: Any) -> str:
    """As long as the field takes it, without a place to break. `tag` keeps those apart that must differ."""
    beginning = LINK if field.name == "url" else ""
    most = min(field.max_length or 3_000, 3_000)
    return (beginning + str(tag) + SCRIPT + "W" * 3_000)[:most]


def spoil(row: models.Model) -> Any:
    """Fill each text that is free. By an update: what a form refuses may have come by another way."""
    kept = KEPT.get(row._meta.label_lower, set())
    given: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        if field.primary_key or field.name in kept or field.choices or field.is_relation:
            continue
        if isinstance(field, models.JSONField):
            given[field.name] = _REPORT if field.name == "report" else {SCRIPT: LONG}
        elif isinstance(field, models.TextField | models.CharField):
            given[field.name] = text_of(field, row.pk).lower() if field.name in _LOWER else text_of(field, row.pk)  # fmt: skip
    type(row)._default_manager.filter(pk=row.pk).update(**given)
    row.refresh_from_db()
    return row


#: The database keeps these in lower case.
_LOWER = {"address"}


def world(user: User) -> dict[str, Any]:
    """One spoiled row of each model that has pages; the project and the people around it are spoiled, too."""
    project = ProjectFactory()
    rows = {label: ROWS[label](project) for label in registered()}
    _events(rows["notifications.notification"])
    AddressFactory(recipient=rows["users.recipient"])
    for row in rows.values():
        spoil(row)
        _log(user, row)
    return {label: _anew(row) for label, row in rows.items()}


def _events(notification: Notification) -> None:
    notification.status, notification.failure_kind = "failed", "permanent"
    notification.save()
    for fence, outcome in enumerate(("temporary", "permanent")):
        spoil(
            AttemptFactory(
                notification=notification,
                outcome=outcome,
                fence=fence,
                finished_at=timezone.now(),
            )
        )
    spoil(ReceiptFactory(notification=notification, event="bounced"))
    spoil(notification.recipient)


def _log(user: User, row: models.Model) -> None:
    LogEntry.objects.create(
        user=user,
        content_type=get_content_type_for_model(row),
        object_id=str(row.pk),
        object_repr=SCRIPT,
        action_flag=CHANGE,
        change_message=SCRIPT + "W" * 2_000,
    )


def _anew(row: Any) -> Any:
    return type(row)._default_manager.get(pk=row.pk)


def spoiled_project() -> Project:
    project: Project = spoil(ProjectFactory())
    return project
