"""Acting on notifications in the console: the list's menu, the confirmation, and what was done.

Chosen by the list's menu or by a button, always confirmed, done by POST only.
"""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from unfold import widgets

from notifications.acts import (
    ACTS,
    LONGEST_REASON,
    MOST_AT_ONCE,
    Act,
    Report,
    carry_out,
    plan,
)
from notifications.admin.timeline import page_of
from notifications.explaining import counted
from notifications.models import Notification, Status
from users.console import ModelAdmin
from users.models import User

#: Rows named one by one in a message or on a page.
MOST_NAMED = 20


class ReasonForm(forms.Form):
    """What everything that is done to notifications has to be told."""

    include_arrived = forms.BooleanField(
        required=False, widget=widgets.UnfoldBooleanWidget, label="Send a second copy all the same"
    )
    reason = forms.CharField(
        max_length=LONGEST_REASON,
        label="Reason",
        help_text="It stands in the log and on each notification's timeline, with your name.",
        widget=widgets.UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )


class Acting(ModelAdmin[Any]):
    """What NotificationAdmin has beside its list and its page."""

    actions = ("resend", "retry", "cancel", "arrived", "give_up")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("act/<slug:name>/", view(self.act), name=self.page_name("act")),
            path(
                "<uuid:id>/<slug:name>/confirm/",
                view(self.confirm_one),
                name=self.page_name("confirm"),
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
        """Here what one page can name; more, by the filters that chose it, on the page of a bulk action."""
        chosen = list(queryset.select_related("project", "resent_as")[: MOST_AT_ONCE + 1])
        if len(chosen) <= MOST_AT_ONCE:
            return self._confirmation(request, act, chosen, back=request.get_full_path())
        if request.POST.get("select_across") == "1":
            return redirect(page_to_make(act, request.GET))
        self.message_user(request, f"These are more than {MOST_AT_ONCE}.", messages.ERROR)
        return None

    def _confirmation(
        self,
        request: HttpRequest,
        act: Act,
        chosen: list[Notification],
        back: str,
        form: ReasonForm | None = None,
    ) -> HttpResponse:
        """What would happen, and the button. Changes nothing."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{act.verb}?",
            "act": act,
            "plan": plan(act, chosen),
            "form": form or ReasonForm(),
            "most_named": MOST_NAMED,
            "action_url": reverse(f"admin:{self.page_name('act')}", args=[act.name]),
            "back": back,
        }
        return TemplateResponse(request, "admin/notifications/notification/confirm.html", context)

    def act(self, request: HttpRequest, name: str) -> HttpResponse:
        """Do what was confirmed."""
        act = self._act(request, name)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        seen = self._as_seen(request)
        form = ReasonForm(request.POST)
        if not form.is_valid() and seen:
            return self._confirmation(request, act, seen, self._back(request), form)
        if seen:
            report = carry_out(act, seen, cast("User", request.user), **form.cleaned_data)
            self._tell(request, act, report)
        else:
            self.message_user(request, "Nothing was chosen, so nothing was done.", messages.WARNING)
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
        if act not in self.allowed_acts(request):
            raise PermissionDenied
        return act

    def allowed_acts(self, request: HttpRequest) -> list[Act]:
        if not self.has_view_permission(request):
            return []
        return [act for act in ACTS.values() if request.user.has_perm(act.permission)]

    def _tell(self, request: HttpRequest, act: Act, report: Report) -> None:
        if report.done:
            self.message_user(request, _done(act, report), messages.SUCCESS)
        if report.refused:
            self.message_user(request, _refused(act, report), messages.WARNING)

    def _back(self, request: HttpRequest) -> str:
        """To where the operator came from, in this console only."""
        back = request.POST.get("back", "")
        start = reverse(f"admin:{self.page_name('changelist')}")
        safe = url_has_allowed_host_and_scheme(back, allowed_hosts=None)
        return back if safe and back.startswith(start) else start

    def page_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"


def page_to_make(act: Act, query: QueryDict) -> str:
    """Where an act on all that a query of the list means is asked for."""
    page = reverse("admin:notifications_bulkaction_make", args=[act.name])
    return f"{page}?{query.urlencode()}"


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
