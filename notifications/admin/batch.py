"""The pages about batches: the list, the upload, one batch as it lives, and the confirmation of an act."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.db import transaction
from django.db.models import QuerySet
from django.forms import Form
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    StreamingHttpResponse,
)
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from notifications import batches
from notifications.admin.batch_acts import ACTS, Act
from notifications.admin.batch_telling import examples_of, how_far, live_facts
from notifications.admin.batch_upload import UploadForm, too_large
from notifications.admin.listing import (
    ChannelFilter,
    KindFilter,
    LedgerChangeList,
    ProjectFilter,
    Scanning,
    time_of,
)
from notifications.admin.refreshing import refreshed
from notifications.bulk import results
from notifications.bulk.staging import stage
from notifications.models import Batch
from users.console import BigTableAdmin, NeverDeleted, OfProject, WithDetails, badge
from users.models import Project, User
from users.reach import within
from users.refusals import Refused

SEND = "notifications.send_batch"
DOWNLOAD = "notifications.download_batch"

#: A form around the file: its other fields, and the borders between them.
AROUND_THE_FILE = 2_000_000

_BADGES = {
    Batch.Status.LOADING: "pending",
    Batch.Status.READY: "unknown",
    Batch.Status.RUNNING: "sending",
    Batch.Status.PAUSED: "expired",
    Batch.Status.COMPLETED: "delivered",
    Batch.Status.CANCELLED: "cancelled",
}


class BatchStatusFilter(Scanning):
    title = parameter_name = "status"
    choices_of = [(status.value, status.value.capitalize()) for status in Batch.Status]


@admin.register(Batch)
class BatchAdmin(WithDetails, OfProject, BigTableAdmin, NeverDeleted):
    """Made by an upload and moved by acts, never edited."""

    list_display = ("status_badge", "what", "channel", "project", "rows", "progress", "created")
    list_display_links = ("what",)
    list_filter = (BatchStatusFilter, ChannelFilter, ProjectFilter, KindFilter)
    list_select_related = ("project",)
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    list_before_template = "admin/notifications/batch/before_list.html"
    change_form_template = "admin/notifications/batch/detail.html"
    # The page shows everything by itself.
    fields = ("id",)
    show_add_link = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(SEND)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LedgerChangeList]:
        return LedgerChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Batch]:
        """The list without what may be long."""
        found: QuerySet[Batch] = super().get_queryset(request)
        if request.resolver_match and request.resolver_match.url_name == self._url("changelist"):
            return found.defer("message", "html", "report", "title")
        return found.select_related("project", "flow", "api_key", "created_by")

    # -- the list's columns ---------------------------------------------------------------------------

    @admin.display(description="status")
    def status_badge(self, batch: Batch) -> SafeString:
        return _badge(batch)

    @admin.display(description="name")
    def what(self, batch: Batch) -> SafeString:
        test = "" if batch.live else format_html(' <span class="ntf-tag">{}</span>', "test")
        return format_html("{}{}", Truncator(batch.name).chars(60), test)

    @admin.display(description="rows")
    def rows(self, batch: Batch) -> str:
        return f"{batch.loaded + batch.rejected:,}"

    @admin.display(description="how far")
    def progress(self, batch: Batch) -> str:
        return how_far(batch)

    @admin.display(description="created (UTC)")
    def created(self, batch: Batch) -> SafeString:
        return time_of(batch.created_at)

    # -- uploading ------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("add/", view(self.upload), name=self._url("add")),
            path("<uuid:id>/state/", view(self.state), name=self._url("state")),
            path("<uuid:id>/results.csv", view(self.download), name=self._url("results")),
            path("<uuid:id>/<slug:name>/confirm/", view(self.act), name=self._url("act")),
            *super().get_urls(),
        ]

    @property
    def upload(self) -> Any:
        """Looks at the length before anything is read; the token, which stands in the body, is checked after."""

        @csrf_exempt
        def upload(request: HttpRequest) -> HttpResponse:
            if not self.has_add_permission(request):
                raise PermissionDenied
            length = int(request.META.get("CONTENT_LENGTH") or 0)
            if length > settings.MAX_BATCH_BYTES + AROUND_THE_FILE:
                return self._upload_page(request, self._form(request), too_large(), status=413)
            # FileSource asks the system how large it is: a file on disk, also a small one.
            request.upload_handlers = [TemporaryFileUploadHandler(request)]
            return protected(request)

        protected = csrf_protect(self._upload)
        return upload

    @staticmethod
    def _form(request: HttpRequest, *given: Any) -> UploadForm:
        return UploadForm(within(request.user, Project.objects.order_by("name"), "pk"), *given)

    def _upload(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return self._upload_page(request, self._form(request))
        form = self._form(request, request.POST, request.FILES)
        batch = self._made(request, form) if form.is_valid() else None
        return redirect(page_of(batch.pk)) if batch else self._upload_page(request, form)

    def _made(self, request: HttpRequest, form: UploadForm) -> Batch | None:
        plan = form.plan(cast("User", request.user))
        try:
            with transaction.atomic():
                batch = stage(plan, form.uploaded)
                if batch.status == Batch.Status.LOADING:
                    self.log_addition(request, batch, "Uploaded.")
        except Refused as refusal:
            form.refuse(refusal)
            return None
        if batch.status != Batch.Status.LOADING:
            self.message_user(
                request,
                "This very batch is there already: nothing is sent twice.",
                messages.WARNING,
            )
        return batch

    def _upload_page(
        self, request: HttpRequest, form: UploadForm, problem: str = "", status: int = 200
    ) -> HttpResponse:
        context = {"title": "Send to many", "form": form, "problem": problem}
        return self._page(request, "upload", context, status)

    # -- one batch --------------------------------------------------------------------------------------

    def details(self, request: HttpRequest, row: Batch) -> dict[str, Any]:
        return {
            "title": Truncator(row.name).chars(80),
            "subtitle": None,
            "batch": row,
            "examples": examples_of(row),
            "acts": [act for act in self._allowed(request) if act.is_open_to(row)],
            "may_download": request.user.has_perm(DOWNLOAD),
            "may_see_rows": request.user.has_perm("notifications.view_notification"),
            **live_facts(row, _badge(row)),
        }

    def state(self, request: HttpRequest, id: UUID) -> HttpResponse:
        """What of the page changes by itself, for static/notifyproj/batch.js."""
        facts = live_facts(batch := self._batch(request, id), _badge(batch))
        facts["may_see_rows"] = request.user.has_perm("notifications.view_notification")
        told = {"status": batch.status, "finished": facts["finished"]}
        return refreshed(request, "admin/notifications/batch/live.html", facts, **told)

    def download(self, request: HttpRequest, id: UUID) -> StreamingHttpResponse:
        """Who got it, streamed."""
        batch = self._batch(request, id, DOWNLOAD)
        self.log_change(request, batch, "Downloaded who got it.")
        response = StreamingHttpResponse(
            results.lines(batch), content_type="text/csv; charset=utf-8"
        )
        response["Content-Disposition"] = f'attachment; filename="batch-{batch.pk}.csv"'
        return response

    # -- acts: asked for by GET, done by POST -------------------------------------------------------------

    def act(self, request: HttpRequest, id: UUID, name: str) -> HttpResponse:
        batch = self._batch(request, id, SEND)
        act = ACTS.get(name)
        if act is None:
            raise Http404
        if request.method not in {"GET", "HEAD", "POST"}:
            return HttpResponseNotAllowed(["GET", "POST"])
        user = cast("User", request.user)
        form = act.form(batch, user, request.POST if request.method == "POST" else None)
        if form.is_valid() and self._perform(request, act, batch, form):
            return redirect(page_of(batch.pk))
        return self._confirmation(request, act, batch, form)

    def _perform(self, request: HttpRequest, act: Act, batch: Batch, form: Form) -> bool:
        """Whether there is nothing more to ask. What the batch's state does not allow is told on its page."""
        user = cast("User", request.user)
        if act.obstacle(batch, user):
            return False
        try:
            with transaction.atomic():
                done = act.perform(batch, user, form.cleaned_data)
                self.log_change(request, batch, done)
        except Refused as refusal:
            if refusal.field in form.fields:
                form.add_error(refusal.field, refusal.detail)
                return False
            self.message_user(request, refusal.detail, messages.WARNING)
            return True
        self.message_user(request, done, messages.SUCCESS)
        return True

    def _confirmation(
        self, request: HttpRequest, act: Act, batch: Batch, form: Form
    ) -> HttpResponse:
        context = {
            "title": f"{act.verb}: {Truncator(batch.name).chars(60)}",
            "act": act,
            "batch": batch,
            "form": form,
            "open": act.is_open_to(batch),
            "obstacle": act.obstacle(batch, cast("User", request.user)),
            "example": (batch.report.get("examples") or [None])[0] if act.name == "test" else None,
            "waiting": batches.progress(batch).waiting,
        }
        return self._page(request, "confirm", context)

    def _batch(self, request: HttpRequest, id: UUID, permission: str = "") -> Batch:
        """Raises PermissionDenied or Http404."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if permission and not request.user.has_perm(permission):
            raise PermissionDenied
        batch = self.get_queryset(request).filter(pk=id).first()
        if batch is None:
            raise Http404
        return batch

    def _allowed(self, request: HttpRequest) -> list[Act]:
        return list(ACTS.values()) if request.user.has_perm(SEND) else []

    def _page(
        self, request: HttpRequest, name: str, context: dict[str, Any], status: int = 200
    ) -> HttpResponse:
        everywhere = {**self.admin_site.each_context(request), "opts": self.opts}
        template = f"admin/notifications/batch/{name}.html"
        return TemplateResponse(request, template, everywhere | context, status=status)

    def _url(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"


def _badge(batch: Batch) -> SafeString:
    return badge(
        _BADGES[Batch.Status(batch.status)],
        batch.status.capitalize(),
    )


def page_of(id: UUID) -> str:
    return reverse("admin:notifications_batch_change", args=[id])
