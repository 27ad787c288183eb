"""The pages about bulk actions: asking for one, the list, one as it lives, and pausing, resuming and stopping it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold import widgets
from uuid_utils.compat import uuid7

from notifications import bulk_actions
from notifications.acts import ACTS, LONGEST_REASON, Act
from notifications.admin.acting import ReasonForm
from notifications.admin.listing import time_of
from notifications.admin.refreshing import refreshed
from notifications.bulk_actions import HIGHEST_RATE, USUAL_RATE, Preview
from notifications.explaining import counted, duration
from notifications.models import BulkAction, Notification
from users.console import BigTableAdmin, NeverDeleted, WithDetails, badge
from users.models import Project, User
from users.reach import project_ids_of, within
from users.refusals import Refused

#: Rows that the page of one shows.
MOST_ROWS = 20

_BADGES = {
    BulkAction.Status.SELECTING: "pending",
    BulkAction.Status.RUNNING: "sending",
    BulkAction.Status.PAUSED: "expired",
    BulkAction.Status.COMPLETED: "delivered",
    BulkAction.Status.STOPPED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class Move:
    """What can be done to a bulk action itself."""

    name: str
    verb: str
    icon: str
    look: str
    consequence: str
    statuses: frozenset[str]
    perform: Callable[[BulkAction, User | None, str], None]


_RUNS = frozenset({BulkAction.Status.SELECTING, BulkAction.Status.RUNNING})
_MOVES = (
    Move(
        "pause",
        "Pause",
        "pause",
        "",
        "Nothing more is done until it is resumed. It holds from the next notification on.",
        _RUNS,
        bulk_actions.pause,
    ),
    Move(
        "resume",
        "Resume",
        "play_arrow",
        "ntf-primary",
        "It goes on where it was. Nothing is done twice.",
        frozenset({BulkAction.Status.PAUSED}),
        bulk_actions.resume,
    ),
    Move(
        "stop",
        "Stop",
        "stop_circle",
        "ntf-danger",
        "Nothing more is done, and this cannot be undone. What was done until then stays done.",
        bulk_actions.OPEN,
        bulk_actions.stop,
    ),
)
MOVES = {move.name: move for move in _MOVES}


class MakeForm(ReasonForm):
    """`id` comes with the page: pressed twice, it makes one, and nothing accepted after the page was shown is meant."""

    id = forms.UUIDField(widget=forms.HiddenInput)
    rate = forms.FloatField(
        label="At most so many a second",
        min_value=0.001,
        max_value=HIGHEST_RATE,
        widget=widgets.UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"}),
    )


class MoveForm(forms.Form):
    reason = forms.CharField(
        max_length=LONGEST_REASON, required=False, widget=widgets.UnfoldAdminTextInputWidget
    )


@admin.register(BulkAction)
class BulkActionAdmin(WithDetails, BigTableAdmin, NeverDeleted):
    """Made from the list of notifications and moved by acts, never edited."""

    list_display = ("status_badge", "what", "progress", "created_by", "created")
    list_display_links = ("what",)
    list_select_related = ("created_by",)
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    change_form_template = "admin/notifications/bulk_action/detail.html"
    # The page shows everything by itself.
    fields = ("id",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkAction]:
        """Who is limited to some projects sees what is limited to these."""
        rows: QuerySet[BulkAction] = super().get_queryset(request).select_related("created_by")
        ids = project_ids_of(request.user)
        return rows if ids is None else rows.filter(project_ids__contained_by=ids)

    # -- the list's columns ---------------------------------------------------------------------------

    @admin.display(description="status")
    def status_badge(self, bulk_action: BulkAction) -> SafeString:
        return _badge(bulk_action)

    @admin.display(description="what and why")
    def what(self, bulk_action: BulkAction) -> str:
        return Truncator(f"{_verb(bulk_action)}: {bulk_action.reason}").chars(80)

    @admin.display(description="how far")
    def progress(self, bulk_action: BulkAction) -> str:
        looked_at = bulk_action.done + bulk_action.refused
        return f"{looked_at:,} of {bulk_action.selected:,}"

    @admin.display(description="created (UTC)")
    def created(self, bulk_action: BulkAction) -> SafeString:
        return time_of(bulk_action.created_at)

    # -- asking for one -------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("new/<slug:name>/", view(self.make), name="notifications_bulkaction_make"),
            path("<uuid:id>/state/", view(self.state), name="notifications_bulkaction_state"),
            path(
                "<uuid:id>/<slug:name>/confirm/",
                view(self.move),
                name="notifications_bulkaction_move",
            ),
            *super().get_urls(),
        ]

    def make(self, request: HttpRequest, name: str) -> HttpResponse:
        """What an act on all that the query means would do; by POST, have it done."""
        act = self._act(request, name)
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        form = MakeForm(request.POST) if request.method == "POST" else _form_to_make()
        try:
            made = self._made(request, act, form) if form.is_valid() else None
            if made:
                return redirect(page_of(made.pk))
            return self._page_to_make(request, act, form)
        except Refused as refusal:
            self.message_user(request, refusal.detail, messages.ERROR)
            return redirect("admin:notifications_notification_changelist")

    def _made(self, request: HttpRequest, act: Act, form: MakeForm) -> BulkAction:
        """Raises Refused."""
        given = form.cleaned_data
        return bulk_actions.make(
            act,
            request.GET.dict(),
            project_ids_of(request.user),
            given["include_arrived"],
            given["reason"],
            cast("User", request.user),
            given["rate"],
            given["id"],
        )

    def _page_to_make(self, request: HttpRequest, act: Act, form: MakeForm) -> HttpResponse:
        found = bulk_actions.preview(
            act, request.GET.dict(), project_ids_of(request.user), include_arrived=False
        )
        context = {
            "title": f"{act.verb}?",
            "act": act,
            "preview": found,
            "filters": words_of(request, found.query),
            "takes": _how_long(found, USUAL_RATE),
            "most_counted": bulk_actions.MOST_COUNTED,
            "form": form,
            "back": list_of(found.query),
        }
        return self._page(request, "make", context)

    def _act(self, request: HttpRequest, name: str) -> Act:
        """Raises Http404 or PermissionDenied."""
        if name not in ACTS:
            raise Http404
        if not (request.user.has_perm(ACTS[name].permission) and _may_look(request)):
            raise PermissionDenied
        return ACTS[name]

    # -- one of them ----------------------------------------------------------------------------------

    def details(self, request: HttpRequest, row: BulkAction) -> dict[str, Any]:
        return {
            "title": Truncator(f"{_verb(row)}: {row.reason}").chars(80),
            "subtitle": None,
            "moves": self._open_moves(request, row),
            "filters": words_of(request, row.selection),
            "chosen": list_of(row.selection),
            **self._live_facts(request, row),
        }

    def _live_facts(self, request: HttpRequest, bulk_action: BulkAction) -> dict[str, Any]:
        """What live.html shows."""
        may_see_rows = request.user.has_perm("notifications.view_notification")
        return {
            "bulk_action": bulk_action,
            "act": ACTS[bulk_action.act],
            "badge": _badge(bulk_action),
            "explanation": explain(bulk_action),
            "looked_at": bulk_action.done + bulk_action.refused,
            "refusals": bulk_actions.refusals(bulk_action),
            "latest": _latest(bulk_action) if may_see_rows else [],
            "finished": bulk_action.finished_at is not None,
        }

    def _open_moves(self, request: HttpRequest, bulk_action: BulkAction) -> list[Move]:
        if not request.user.has_perm(ACTS[bulk_action.act].permission):
            return []
        return [move for move in _MOVES if bulk_action.status in move.statuses]

    def state(self, request: HttpRequest, id: UUID) -> HttpResponse:
        """What of the page changes by itself, for static/notifyproj/batch.js."""
        facts = self._live_facts(request, bulk_action := self._bulk_action(request, id))
        told = {"status": bulk_action.status, "finished": facts["finished"]}
        return refreshed(request, "admin/notifications/bulk_action/live.html", facts, **told)

    def move(self, request: HttpRequest, id: UUID, name: str) -> HttpResponse:
        """Asked for by GET, done by POST. Needs the right to what it does to notifications."""
        bulk_action = self._bulk_action(request, id)
        move = MOVES.get(name)
        if move is None:
            raise Http404
        if not request.user.has_perm(ACTS[bulk_action.act].permission):
            raise PermissionDenied
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        form = MoveForm(request.POST if request.method == "POST" else None)
        if not form.is_valid():
            context = {"title": f"{move.verb}?", "move": move, "form": form}
            return self._page(request, "confirm", context | {"bulk_action": bulk_action})
        try:
            move.perform(bulk_action, cast("User", request.user), form.cleaned_data["reason"])
        except Refused as refusal:
            self.message_user(request, refusal.detail, messages.WARNING)
        return redirect(page_of(id))

    def _bulk_action(self, request: HttpRequest, id: UUID) -> BulkAction:
        """Raises PermissionDenied or Http404."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        bulk_action = self.get_queryset(request).filter(pk=id).first()
        if bulk_action is None:
            raise Http404
        return bulk_action

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        everywhere = {**self.admin_site.each_context(request), "opts": self.opts}
        template = f"admin/notifications/bulk_action/{name}.html"
        return TemplateResponse(request, template, everywhere | context)


def _may_look(request: HttpRequest) -> bool:
    looked_at = ("notifications.view_notification", "notifications.view_bulkaction")
    return request.user.has_perms(looked_at)


def _form_to_make() -> MakeForm:
    return MakeForm(initial={"id": uuid7(), "rate": f"{USUAL_RATE:g}"})


def _how_long(preview: Preview, rate: float) -> str:
    return duration(timedelta(seconds=preview.seconds(rate) or 0))


def words_of(request: HttpRequest, query: dict[str, str]) -> list[tuple[str, str]]:
    """The filters as a person reads them: `failure code`, `550`. A project by its name, where it is within reach."""
    words = {name.replace("_", " "): value for name, value in query.items()}
    if "project" in query:
        found = within(request.user, Project.objects.filter(pk=query["project"]), "pk")
        words["project"] = found.values_list("name", flat=True).first() or query["project"]
    return list(words.items())


def list_of(query: dict[str, str]) -> str:
    """The list of what a query means."""
    return f"{reverse('admin:notifications_notification_changelist')}?{urlencode(query)}"


def _badge(bulk_action: BulkAction) -> SafeString:
    return badge(
        _BADGES[BulkAction.Status(bulk_action.status)],
        bulk_action.status.capitalize(),
    )


def page_of(id: object) -> str:
    return reverse("admin:notifications_bulkaction_change", args=[id])


def explain(bulk_action: BulkAction) -> str:
    """One sentence or two on where it is and what comes next."""
    left = bulk_action.selected - bulk_action.done - bulk_action.refused
    match bulk_action.status:
        case BulkAction.Status.SELECTING:
            noted = f" {counted(bulk_action.selected, 'notification')} so far."
            return f"What is meant is being noted; nothing is done yet.{noted}"
        case BulkAction.Status.RUNNING:
            return f"It goes on, {_pace_of(bulk_action)}. {_left(bulk_action, left)}"
        case BulkAction.Status.PAUSED:
            return f"Nothing more is done until it is resumed. {_left(bulk_action, left)}"
        case BulkAction.Status.COMPLETED:
            return f"{counted(bulk_action.done, 'notification')} {ACTS[bulk_action.act].done}."
        case _:
            undone = f"{counted(left, 'notification')} stayed as they were."
            return f"Stopped after {bulk_action.done:,} were {ACTS[bulk_action.act].done}; {undone}"


def _pace_of(bulk_action: BulkAction) -> str:
    rate = bulk_action.rate
    return f"at most {rate:g} a second" if rate else "as fast as it goes"


def _left(bulk_action: BulkAction, left: int) -> str:
    if not bulk_action.rate or left <= 0:
        return f"{counted(left, 'notification')} to go."
    time = duration(timedelta(seconds=left / bulk_action.rate))
    return f"{counted(left, 'notification')} to go: {time} at this rate."


def _verb(bulk_action: BulkAction) -> str:
    return ACTS[bulk_action.act].verb


def _latest(bulk_action: BulkAction) -> list[dict[str, Any]]:
    """The rows that were looked at last: what they were, what came of them."""
    rows = bulk_actions.latest(bulk_action, MOST_ROWS)
    shown = Notification.objects.select_related("resent_as").defer("message", "html", "metadata")
    found = shown.in_bulk([row.notification_id for row in rows])
    return [
        {"row": row, "notification": found.get(row.notification_id), "newer": _newer(found, row)}
        for row in rows
    ]


def _newer(found: dict[UUID, Notification], row: Any) -> UUID | None:
    newer = getattr(found.get(row.notification_id), "resent_as", None)
    return newer.pk if newer else None
