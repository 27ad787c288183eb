"""Every page of the console, found by walking its URLs: a new page is tested by being there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import models
from django.urls import URLPattern, URLResolver, reverse
from uuid_utils.compat import uuid7

from notifications.models import BulkAction, Circuit, Pause
from tests.factories import (
    ApiKeyFactory,
    BatchFactory,
    NotificationFactory,
    ReceiptFactory,
    RecipientFactory,
    SuppressionFactory,
    UserFactory,
)
from users.models import Project


def _receipt(project: Project) -> Any:
    notification = NotificationFactory(recipient=RecipientFactory(project=project))
    return ReceiptFactory(notification=notification)


def _circuit(project: Project) -> Any:
    project.from_email = project.from_email or f"shop{project.pk}@example.com"
    project.save()
    return Circuit.objects.create(provider="smtp", sender=project.from_email)


def _bulk_action(project: Project) -> Any:
    return BulkAction.objects.create(
        id=uuid7(), act="resend", newest_id=uuid7(), project_ids=[project.pk], reason="Why"
    )


def _attempt(project: Project) -> Any:
    from axes.models import AccessAttempt

    return AccessAttempt.objects.create(
        username="eve", ip_address="192.0.2.1", failures_since_start=1
    )


def _sign_in(project: Project) -> Any:
    from axes.models import AccessLog

    return AccessLog.objects.create(username="ada", ip_address="192.0.2.1")


#: For each model with pages, one row of it that belongs to a project.
ROWS: dict[str, Callable[[Project], Any]] = {
    "notifications.notification": lambda project: NotificationFactory(
        recipient=RecipientFactory(project=project)
    ),
    "notifications.batch": lambda project: BatchFactory(project=project),
    "notifications.suppression": lambda project: SuppressionFactory(project=project),
    "notifications.receipt": _receipt,
    "notifications.flow": lambda project: (
        NotificationFactory(recipient=RecipientFactory(project=project)).flow
    ),
    "notifications.circuit": _circuit,
    "notifications.bulkaction": _bulk_action,
    "notifications.pause": lambda project: Pause.objects.create(target="sms.high", reason="Why"),
    "users.recipient": lambda project: RecipientFactory(project=project),
    "users.project": lambda project: project,
    "users.apikey": lambda project: ApiKeyFactory(project=project),
    "users.user": lambda project: UserFactory(),
    "auth.group": lambda project: Group.objects.get(name="operator"),
    "axes.accessattempt": _attempt,
    "axes.accesslog": _sign_in,
}

#: Values of what URLs name besides a row, in whatever page.
WORDS = {
    "name": ("resend", "cancel"),
    "act": ("pause", "resume"),
    "target": ("sms.high", "smtp"),
    "app_label": ("notifications", "users"),
}
#: Which these are, for pages whose acts are others.
WORDS_OF = {
    "notifications_batch_act": {"name": ("pause", "cancel")},
    "notifications_pause_act": {"name": ("pause", "resume")},
    "notifications_bulkaction_move": {"name": ("pause", "stop")},
}
#: Django's own, of which nothing is shown: a guard against links without an end, and a redirect to a public page.
NO_PAGES = {None, "view_on_site"}


@dataclass(frozen=True)
class Page:
    """An URL of the console; `model` where it is about rows of one, `of_row` where it names one of them."""

    name: str
    parameters: tuple[str, ...]
    model: str = ""

    @property
    def row(self) -> str:
        """The parameter that names the row."""
        return next((p for p in self.parameters if p in {"object_id", "id", "pk"}), "")

    def urls(self, row: Any) -> Iterator[str]:
        """With each word that can stand in it."""
        row_id = {self.row: getattr(row, "pk", row)} if self.row else {}
        words = WORDS | WORDS_OF.get(self.name, {})
        others = [p for p in self.parameters if p != self.row]
        unknown = [p for p in others if p not in words]
        assert not unknown, f"tests/console.py does not know a value for {unknown} of {self.name}"
        for chosen in product(*(words[parameter] for parameter in others)):
            named = dict(zip(others, chosen, strict=True))
            yield reverse(f"admin:{self.name}", kwargs=row_id | named)

    def __str__(self) -> str:
        return self.name


def pages() -> list[Page]:
    found = {page.name: page for page in _walk(admin.site.get_urls(), "")}
    return list(found.values())


def _walk(patterns: list[Any], model: str) -> Iterator[Page]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, _model_of(pattern))
        elif isinstance(pattern, URLPattern) and pattern.name not in NO_PAGES:
            yield Page(str(pattern.name), tuple(pattern.pattern.regex.groupindex), model)


def _model_of(resolver: URLResolver) -> str:
    """`notifications/batch/` is of notifications.batch."""
    return str(resolver.pattern).strip("/").replace("/", ".")


def registered() -> dict[str, type[models.Model]]:
    return {model._meta.label_lower: model for model in admin.site._registry}


def a_row(page: Page, project: Project) -> Any:
    assert page.model in ROWS, f"tests/console.py makes no row of {page.model!r} yet ({page.name})"
    return ROWS[page.model](project)
