"""Pausing and resuming, from the console: asked for by GET, done by POST, with a reason.

A lane or a provider carries the notifications of all projects, so only those who may act on all can pause one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from notifications import pausing
from notifications.admin import overview, test_message
from notifications.admin.reason import reason_field
from notifications.doctor import backlog
from notifications.explaining import counted, paused_by
from notifications.models import SANDBOX_LANE, Pause
from users.console import NeverDeleted
from users.models import User
from users.reach import sees_everything
from users.refusals import Refused

PAUSE = "notifications.pause_delivery"


class ReasonForm(forms.Form):
    reason = reason_field("Everybody who asks why it waits is told.")


class NoForm(forms.Form):
    """Nothing more has to be known than that it is meant."""


@dataclass(frozen=True, slots=True)
class Pausable:
    """Something that is to be paused or resumed: what it is called, what a pause of it holds, and where one came from."""

    name: str
    holds: str
    #: How it is paused at present, in words; empty where it runs.
    paused: str
    pause: Callable[[User, str], object]
    resume: Callable[[User], object]
    back: str


def answer(request: HttpRequest, site: AdminSite, it: Pausable, act: str) -> HttpResponse:
    """The page that asks, or what comes after it was confirmed. Raises Http404 for another act than the two."""
    forms_of_acts = {"pause": ReasonForm, "resume": NoForm}
    if act not in forms_of_acts:
        raise Http404
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponseNotAllowed(["GET", "POST"])
    form = forms_of_acts[act](request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return _question(request, site, it, act, form)
    _carry_out(request, it, act, form)
    return redirect(it.back)


def _question(
    request: HttpRequest, site: AdminSite, it: Pausable, act: str, form: forms.Form
) -> HttpResponse:
    context = {
        **site.each_context(request),
        "title": f"{act.capitalize()} {it.name}",
        "it": it,
        "act": act,
        "form": form,
    }
    return TemplateResponse(request, "admin/notifications/pause/confirm.html", context)


def _carry_out(request: HttpRequest, it: Pausable, act: str, form: forms.Form) -> None:
    user = cast("User", request.user)
    try:
        if act == "pause":
            it.pause(user, form.cleaned_data["reason"])
        else:
            it.resume(user)
    except Refused as refusal:
        messages.warning(request, refusal.detail)
        return
    done = "is paused: nothing of it begins any more" if act == "pause" else "goes out again"
    messages.success(request, f"{it.name.capitalize()} {done}.")


@admin.register(Pause)
class PauseAdmin(NeverDeleted):
    """Which lanes and providers are paused, the pages that change it, and what else belongs to the first page."""

    list_display = ("target", "reason", "paused_by", "paused_at")
    list_display_links = None
    list_select_related = ("paused_by",)
    sortable_by = ()
    ordering = ("paused_at", "target")
    actions = None

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By the first page, which asks for a reason."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("state/", view(overview.state), name="notifications_overview_state"),
            path("test-message/", view(test_message.page), name="notifications_test_message"),
            path(
                "<str:target>/<slug:act>/confirm/", view(self.act), name="notifications_pause_act"
            ),
            *super().get_urls(),
        ]

    def act(self, request: HttpRequest, target: str, act: str) -> HttpResponse:
        if not request.user.has_perm(PAUSE) or not sees_everything(request.user):
            raise PermissionDenied
        if "\x00" in target:
            raise Http404
        pause = Pause.objects.select_related("paused_by").filter(target=target).first()
        if pause is None and target not in pausing.known_targets():
            raise Http404
        return answer(request, self.admin_site, _pausable(target, pause), act)


def _pausable(target: str, pause: Pause | None) -> Pausable:
    kind = pausing.kind_of(target)
    return Pausable(
        name=f"the {kind} {target}",
        holds=_held_by(target),
        paused=f"{paused_by(pause, timezone.now())}." if pause else "",
        pause=lambda user, reason: pausing.pause(target, user, reason),
        resume=lambda user: pausing.resume(target, user),
        back=reverse("admin:index"),
    )


def _held_by(target: str) -> str:
    lanes = pausing.lanes_of(target)
    if not lanes:
        return "It carries no lane at present: a pause holds nothing until it does."
    sandbox = target == SANDBOX_LANE
    what = "all that goes to the sandbox" if sandbox else " and ".join(lanes)
    waiting = sum(lane.waiting for lane in backlog.lanes() if lane.name in lanes)
    due = counted(waiting, "notification") if waiting else "nothing"
    return f"A pause holds {what}, of every project; {due} {'are' if waiting > 1 else 'is'} due there now."
