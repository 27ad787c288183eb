"""The pages about notifications: the list, one in detail, and the confirmation of an act."""

from __future__ import annotations

import json
from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.db.models.functions import Left
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from notifications import pace, suppressions
from notifications.admin.acts import ACTS, MOST_AT_ONCE, Act, Report, carry_out, plan
from notifications.admin.circuit import holding
from notifications.admin.listing import time_of
from notifications.admin.notification_list import NotificationChangeList, SelectionFilter
from notifications.admin.preview import preview
from notifications.admin.timeline import MOST_RECEIPTS, page_of, timeline
from notifications.explaining import counted, explain
from notifications.models import Notification, Status, Suppression
from notifications.rendering import first_line
from users.console import BigTableAdmin, NeverDeleted
from users.models import User

#: Rows named one by one in a message or on a page.
MOST_NAMED = 20
#: Characters of a message that stand for it where it has no title.
BEGINNING = 200

# Nothing of a shown message may be loaded, on top of the frame's own sandbox and policy (preview.py).
_PAGE_POLICY = "frame-src 'none'; img-src 'self' data:; object-src 'none'; base-uri 'none'"


@admin.register(Notification)
class NotificationAdmin(BigTableAdmin, NeverDeleted):
    """The ledger is read here, never edited: operators act on it through notifications/changes.py."""

    list_display = (
        "status_badge", "what", "to", "channel", "project", "provider", "attempts", "created"
    )  # fmt: skip
    list_display_links = ("what",)
    list_filter = (SelectionFilter,)
    list_select_related = ("project",)
    ordering = ("-id",)
    sortable_by = ()
    # Any field switches the box on; the change list does the finding.
    search_fields = ("id",)
    search_help_text = "e-mail, phone, user id, reference or an id"
    actions = ("resend", "retry", "cancel", "arrived", "give_up")
    change_form_template = "admin/notifications/notification/detail.html"
    list_before_template = "admin/notifications/notification/before_list.html"
    # The detail page shows everything by itself.
    fields = ("id",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[NotificationChangeList]:
        return NotificationChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Notification], search_term: str
    ) -> tuple[QuerySet[Notification], bool]:
        """The change list does it, and says what it took the term for."""
        return queryset, False

    # -- the list's columns ---------------------------------------------------------------------------

    @admin.display(description="status")
    def status_badge(self, notification: Notification) -> SafeString:
        return format_html(
            '<span class="ntf-badge ntf-{}">{}</span>',
            notification.status,
            notification.get_status_display(),
        )

    @admin.display(description="message")
    def what(self, notification: Notification) -> SafeString:
        if notification.erased_at:
            return format_html('<span class="ntf-faint">{}</span>', "erased")
        text = notification.title or first_line(notification.beginning)  # type: ignore[attr-defined]
        test = "" if notification.live else format_html(' <span class="ntf-tag">{}</span>', "test")
        return format_html("{}{}", Truncator(text).chars(60), test)

    @admin.display(description="recipient")
    def to(self, notification: Notification) -> str:
        return Truncator(notification.address or notification.user_id).chars(40)

    @admin.display(description="attempts")
    def attempts(self, notification: Notification) -> int:
        return notification.attempt_count

    @admin.display(description="created (UTC)")
    def created(self, notification: Notification) -> SafeString:
        return time_of(notification.created_at)

    # -- one in detail ----------------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        notification = self.get_object(request, object_id)
        if notification is None or not self.has_view_permission(request, notification):
            # Django's own answers: back to the start with a message, or 403.
            return super().change_view(request, object_id, form_url, extra_context)
        details = self._details(request, notification)
        response = super().change_view(request, object_id, form_url, details)
        response["Content-Security-Policy"] = _PAGE_POLICY
        return response

    def _details(self, request: HttpRequest, notification: Notification) -> dict[str, Any]:
        attempts = list(notification.attempts.all())
        newest = notification.receipts.order_by("-occurred_at", "-id").defer("raw")
        receipts = list(newest[:MOST_RECEIPTS])[::-1]
        suppression = _suppression_of(notification)
        return {
            "title": Truncator(notification.title or first_line(notification.message)).chars(80)
            or str(notification.pk),
            "subtitle": None,
            "notification": notification,
            "explanation": explain(
                notification,
                attempts[-1] if attempts else None,
                timezone.now(),
                paused=notification.flow.paused,
                batch=notification.flow.batch,
                resent=hasattr(notification, "resent_as"),
                policy=notification.project.unknown_policy,
                circuit=holding(notification),
                limits=pace.limits(notification.flow)
                if notification.status == Status.PENDING
                else "",
                receipts=receipts,
                suppression=suppression,
            ),
            "finished": notification.status in Notification.FINISHED,
            "preview": preview(notification),
            "metadata": json.dumps(notification.metadata, indent=2, ensure_ascii=False),
            "events": timeline(notification, attempts, receipts, suppression),
            "most_receipts": MOST_RECEIPTS if len(receipts) == MOST_RECEIPTS else 0,
            "acts": [act for act in self._allowed(request) if not act.obstacle(notification)],
        }

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        """The list without what may be long (a message has up to 256 KB); else all that a page shows."""
        found: QuerySet[Notification] = (
            super().get_queryset(request).annotate(beginning=Left("message", BEGINNING))
        )
        if request.resolver_match and request.resolver_match.url_name == self._url("changelist"):
            return found.defer("message", "html", "metadata", "failure_detail")
        return found.select_related("project", "flow__batch", "recipient", "api_key", "resent_as")

    # -- acts: by the list's menu or by a button, always confirmed, done by POST only ------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("act/<slug:name>/", view(self.act), name=self._url("act")),
            path(
                "<uuid:id>/<slug:name>/confirm/", view(self.confirm_one), name=self._url("confirm")
            ),
            *super().get_urls(),
        ]

    @admin.action(description="Resend…", permissions=["resend"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Notification]) -> HttpResponse | None:
        return self._confirm_many(request, ACTS["resend"], queryset)

    @admin.action(description="Retry now…", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Notification]) -> HttpResponse | None:
        return self._confirm_many(request, ACTS["retry"], queryset)

    @admin.action(description="Cancel…", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Notification]) -> HttpResponse | None:
        return self._confirm_many(request, ACTS["cancel"], queryset)

    @admin.action(description="Unknown: it arrived…", permissions=["settle"])
    def arrived(
        self, request: HttpRequest, queryset: QuerySet[Notification]
    ) -> HttpResponse | None:
        return self._confirm_many(request, ACTS["arrived"], queryset)

    @admin.action(description="Unknown: give up…", permissions=["settle"])
    def give_up(
        self, request: HttpRequest, queryset: QuerySet[Notification]
    ) -> HttpResponse | None:
        return self._confirm_many(request, ACTS["give_up"], queryset)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ACTS["resend"].permission)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ACTS["retry"].permission)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ACTS["cancel"].permission)

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(ACTS["arrived"].permission)

    def confirm_one(self, request: HttpRequest, id: UUID, name: str) -> HttpResponse:
        act = self._act(request, name)
        notification = self.get_queryset(request).filter(pk=id).first()
        if notification is None:
            raise Http404
        return self._confirmation(request, act, [notification], back=page_of(id))

    def _confirm_many(
        self, request: HttpRequest, act: Act, queryset: QuerySet[Notification]
    ) -> HttpResponse | None:
        chosen = list(queryset.select_related("project", "resent_as")[: MOST_AT_ONCE + 1])
        if len(chosen) > MOST_AT_ONCE:
            self.message_user(
                request,
                f"These are more than {MOST_AT_ONCE}, and so many at once take too long for a page. "
                "Nothing was done: narrow the list by filters and select fewer.",
                messages.ERROR,
            )
            return None
        return self._confirmation(request, act, chosen, back=request.get_full_path())

    def _confirmation(
        self, request: HttpRequest, act: Act, chosen: list[Notification], back: str
    ) -> HttpResponse:
        """What would happen, and the button. Changes nothing."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{act.verb}?",
            "act": act,
            "plan": plan(act, chosen),
            "most_named": MOST_NAMED,
            "action_url": reverse(f"admin:{self._url('act')}", args=[act.name]),
            "back": back,
        }
        return TemplateResponse(request, "admin/notifications/notification/confirm.html", context)

    def act(self, request: HttpRequest, name: str) -> HttpResponse:
        """Do what was confirmed."""
        act = self._act(request, name)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        report = carry_out(act, self._as_seen(request), cast("User", request.user))
        self._tell(request, act, report)
        return redirect(self._back(request))

    def _as_seen(self, request: HttpRequest) -> list[Notification]:
        """The chosen ones. What the operator was shown as unknown stays so here, also where it is settled by now:
        its act is then refused, as everything is that comes second."""
        chosen = self.get_queryset(request).filter(pk__in=_ids(request, "id")).order_by("id")
        unknown = set(_ids(request, "unknown"))
        seen = list(chosen[:MOST_AT_ONCE])
        for notification in seen:
            if notification.pk in unknown:
                notification.status = Status.UNKNOWN
        return seen

    def _act(self, request: HttpRequest, name: str) -> Act:
        if name not in ACTS:
            raise Http404
        act = ACTS[name]
        if act not in self._allowed(request):
            raise PermissionDenied
        return act

    def _allowed(self, request: HttpRequest) -> list[Act]:
        if not self.has_view_permission(request):
            return []
        return [act for act in ACTS.values() if request.user.has_perm(act.permission)]

    def _tell(self, request: HttpRequest, act: Act, report: Report) -> None:
        if report.done:
            self.message_user(request, _done(act, report), messages.SUCCESS)
        if report.refused:
            self.message_user(request, _refused(act, report), messages.WARNING)
        if not report.done and not report.refused:
            self.message_user(request, "Nothing was chosen, so nothing was done.", messages.WARNING)

    def _back(self, request: HttpRequest) -> str:
        """To where the operator came from, in this console only."""
        back = request.POST.get("back", "")
        start = reverse(f"admin:{self._url('changelist')}")
        safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None)
        return back if safe and back.startswith(start) else start

    def _url(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"


def _suppression_of(notification: Notification) -> Suppression | None:
    return suppressions.find(notification.project_id, notification.channel, notification.address)


def _ids(request: HttpRequest, name: str) -> list[UUID]:
    try:
        return [UUID(id) for id in request.POST.getlist(name)][:MOST_AT_ONCE]
    except ValueError:
        return []


def _done(act: Act, report: Report) -> SafeString:
    """`2 notifications resent, as ... and ...`, with links to what came of it."""
    count = counted(len(report.done), "notification")
    made = [newer for _, newer in report.done if newer]
    if not made:
        return format_html("{} {}.", count, act.done)
    links = format_html_join(
        ", ",
        '<a class="ntf-link" href="{}">{}</a>',
        ((page_of(new.pk), new.pk) for new in made[:MOST_NAMED]),
    )
    more = f" and {len(made) - MOST_NAMED:,} more" if len(made) > MOST_NAMED else ""
    return format_html("{} {}, as {}{}.", count, act.done, links, more)


def _refused(act: Act, report: Report) -> SafeString:
    """Each that was refused, and why."""
    count = counted(len(report.refused), "notification")
    rows = format_html_join(
        " ",
        '<a class="ntf-link" href="{}">{}</a>: {}',
        ((page_of(old.pk), old.pk, reason) for old, reason in report.refused[:MOST_NAMED]),
    )
    more = (
        f" And {len(report.refused) - MOST_NAMED:,} more."
        if len(report.refused) > MOST_NAMED
        else ""
    )
    return format_html("{} not {}. {}{}", count, act.done, rows, more)
