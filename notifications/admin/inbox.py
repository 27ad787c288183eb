"""A person's inbox in the console: what is in it, who may show it, and the end of its tokens.

What the messages say is on their own pages; here stands what the person's browser is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from notifications.admin.reason import reason_field
from notifications.models import Inbox, InboxEvent, Notification
from users import inbox_access
from users.console import MOST_COUNTED, ModelAdmin
from users.models import Recipient


class ReasonForm(forms.Form):
    reason = reason_field(
        "It stands in the person's history here, with your name. The person is not told."
    )


@dataclass(frozen=True, slots=True)
class Card:
    """An inbox in numbers. `items` are those that are listed, MOST_COUNTED at most."""

    live: bool
    unread: int
    items: int
    archived: int
    changes: int
    changed_at: datetime | None


def cards_of(recipient: Recipient) -> list[Card]:
    """Of live keys first, then of test keys; without those in which nothing ever arrived."""
    last = InboxEvent.objects.filter(inbox=OuterRef("pk"), number=OuterRef("position"))
    inboxes = Inbox.objects.filter(recipient=recipient).order_by("-live")
    return [
        _card(inbox, inbox.changed_at)
        for inbox in inboxes.annotate(changed_at=Subquery(last.values("at")[:1]))
    ]


def _card(inbox: Inbox, changed_at: datetime | None) -> Card:
    theirs = Notification.objects.of_inbox(inbox.recipient_id, inbox.live)
    put_away = theirs.order_by("-inbox_position").values_list("archived_at", flat=True)
    moments = list(put_away[:MOST_COUNTED])
    archived = sum(moment is not None for moment in moments)
    return Card(
        live=inbox.live,
        unread=inbox.unread,
        items=len(moments) - archived,
        archived=archived,
        changes=inbox.position,
        changed_at=changed_at,
    )


def details_of(request: HttpRequest, recipient: Recipient) -> dict[str, Any]:
    """What the card needs; nothing for who may not see what was sent."""
    if not request.user.has_perm("notifications.view_notification"):
        return {"inboxes": None}
    return {
        "inboxes": cards_of(recipient),
        "most_counted": MOST_COUNTED,
        "origins": recipient.project.inbox_origins,
        "tokens_ended": recipient.inbox_epoch,
    }


class EndsInboxTokens(ModelAdmin[Any]):
    """The page that ends a person's inbox tokens: asked for by GET, done by POST, with a reason."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.end_inbox_tokens)
        name = "users_recipient_end_inbox_tokens"
        return [path("<int:id>/end-inbox-tokens/", view, name=name), *super().get_urls()]

    def end_inbox_tokens(self, request: HttpRequest, id: int) -> HttpResponse:
        recipient = self.get_queryset(request).filter(pk=id).first()
        if recipient is None:
            raise Http404
        if not self.has_change_permission(request, recipient):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            return self._question(request, recipient, form)
        self._end(request, recipient, form.cleaned_data["reason"])
        return redirect(reverse("admin:users_recipient_change", args=[recipient.pk]))

    def _question(
        self, request: HttpRequest, recipient: Recipient, form: forms.Form
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "End the inbox tokens?",
            "recipient": recipient,
            "form": form,
        }
        return TemplateResponse(request, "admin/users/recipient/end_inbox_tokens.html", context)

    def _end(self, request: HttpRequest, recipient: Recipient, reason: str) -> None:
        with transaction.atomic():
            inbox_access.revoke(recipient)
            self.log_change(request, recipient, f"Inbox tokens ended: {reason}")
        told = "The inbox tokens of {} have ended; open streams end within 10 seconds."
        messages.success(request, format_html(told, recipient.user_id))
