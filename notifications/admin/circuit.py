"""Circuits: which provider is left alone for which sender, why, and having it tried now."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from notifications import changes
from notifications.explaining import duration, next_try
from notifications.models import Circuit
from users.console import NeverDeleted, badge
from users.models import Project
from users.reach import sees_everything, within
from users.refusals import Refused


@admin.register(Circuit)
class CircuitAdmin(NeverDeleted):
    """Workers open and close them; people look, and may have one tried before its time."""

    list_display = ("state", "provider", "of_sender", "because", "since", "next")
    list_display_links = ("state", "provider")
    sortable_by = ()
    fields = (
        "state",
        "provider",
        "of_sender",
        "because",
        "words",
        "since",
        "failed_probes",
        "next",
    )
    readonly_fields = fields
    change_form_template = "admin/notifications/circuit/change.html"

    @admin.display(description="state")
    def state(self, circuit: Circuit) -> SafeString:
        status, word = ("failed", "Open: held") if circuit.open_until else ("delivered", "Closed")
        return badge(status, word)

    @admin.display(description="sender")
    def of_sender(self, circuit: Circuit) -> str:
        return circuit.sender or "the service's own"

    @admin.display(description="because")
    def because(self, circuit: Circuit) -> str:
        cause = circuit.get_cause_display() or "-"
        return cause if circuit.open_until or not circuit.cause else f"last time: {cause.lower()}"

    @admin.display(description="the provider's words")
    def words(self, circuit: Circuit) -> str:
        return circuit.detail or circuit.code or "-"

    @admin.display(description="since")
    def since(self, circuit: Circuit) -> str:
        if not circuit.open_until or not circuit.opened_at:
            return "-"
        return duration(timezone.now() - circuit.opened_at)

    @admin.display(description="tries that failed")
    def failed_probes(self, circuit: Circuit) -> str:
        return str(max(circuit.trips - 1, 0))

    @admin.display(description="next try")
    def next(self, circuit: Circuit) -> str:
        if not circuit.open_until:
            return "-"
        return next_try(circuit, timezone.now())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Circuit]:
        """Open ones first."""
        open_first = F("open_until").asc(nulls_last=True)
        circuits = within_reach(request.user, super().get_queryset(request))
        return circuits.order_by(open_first, "provider", "sender")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """That of the service's own sender carries everybody's mail: who sees some projects only looks at it."""
        is_everybodys = obj is not None and not obj.sender
        out_of_reach = is_everybodys and not sees_everything(request.user)
        return not out_of_reach and super().has_change_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are made by themselves, with a provider's first trouble."""
        return False

    # -- trying one now ---------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.probe)
        name = "notifications_circuit_probe"
        return [path("<int:id>/probe/", view, name=name), *super().get_urls()]

    def probe(self, request: HttpRequest, id: int) -> HttpResponse:
        circuit = self.get_queryset(request).filter(pk=id).first()
        if circuit is None:
            raise Http404
        if not self.has_change_permission(request, circuit):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._probe(request, circuit)
        return redirect(_page_of(circuit))

    def _probe(self, request: HttpRequest, circuit: Circuit) -> None:
        try:
            with transaction.atomic():
                changes.probe_now(circuit.pk)
                self.log_change(request, circuit, "Tried at once.")
        except Refused as refusal:
            self.message_user(request, refusal.detail, messages.WARNING)
            return
        done = "The next notification that is due tries it, within seconds; the others wait for its answer."
        self.message_user(request, done, messages.SUCCESS)


def within_reach(
    user: AbstractBaseUser | AnonymousUser, circuits: QuerySet[Circuit]
) -> QuerySet[Circuit]:
    """The service's own senders, which carry everybody's, and those of the user's projects."""
    if sees_everything(user):
        return circuits
    senders = within(user, Project.objects.order_by(), "pk").values("from_email")
    return circuits.filter(Q(sender="") | Q(sender__in=senders))


def _page_of(circuit: Circuit) -> str:
    return reverse("admin:notifications_circuit_change", args=[circuit.pk])
