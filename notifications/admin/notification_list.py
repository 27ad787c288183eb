"""The list of notifications: its filters, and its pages by key.

What the parameters of its URL mean is decided in selecting.py, for the list as for an export and an act on many. Here
is bounded how much one page looks through, and the page says so; going on to older ones looks through the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

from notifications import finding, providers, selecting
from notifications.admin import listing
from notifications.finding import Found, as_row_id, as_uuid
from notifications.models import (
    Batch,
    Channel,
    Notification,
    NotificationQuerySet,
    Priority,
    Status,
)
from notifications.selecting import PARAMETERS, Selection
from users.console import MOST_COUNTED, BoundedPaginator
from users.models import Project, Recipient
from users.reach import project_ids_of, within
from users.refusals import Refused

#: Filters that are typed, each with its label.
_TEXTS = (("failure_code", "Failure code"), ("category", "Category"))
_PERIOD = (("created_from", "Accepted from"), ("created_to", "Accepted until"))


class SelectionFilter(admin.ListFilter):
    """All filters in one form, so that they are chosen together and stand in the URL together."""

    title = "what is shown"
    template = "admin/notifications/notification/filters.html"

    def __init__(
        self, request: HttpRequest, params: dict[str, list[str]], model: Any, model_admin: Any
    ) -> None:
        super().__init__(request, params, model, model_admin)
        self.user = request.user
        for name in self.expected_parameters():
            if name in params:
                self.used_parameters[str(name)] = params.pop(str(name))[-1]

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [name for name in PARAMETERS if name != "q"]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The change list does it."""
        return queryset

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """What the template shows: one form, with what was chosen."""
        yield {
            "given": self.given,
            "term": changelist.query,
            "selects": self.selects,
            "texts": _TEXTS,
            "batch": self.batch,
            "recipient": self.recipient,
        }

    @cached_property
    def given(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.used_parameters.items() if value}

    @cached_property
    def selects(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Name, label and choices of each. All providers that there are: what was sent before may have gone through one
        that is not set up any more.
        """
        return [
            ("status", "Status", Status.choices),
            ("channel", "Channel", Channel.choices),
            ("priority", "Priority", Priority.choices),
            ("live", "Kind", [("1", "Live"), ("0", "Test")]),
            ("project", "Project", self._projects()),
            ("provider", "Provider", [(name, name) for name in sorted(providers.names())]),
            ("resent", "Resent", [("1", "Resent since"), ("0", "Not resent")]),
        ]

    @property
    def words(self) -> list[str]:
        """What was chosen, for who has the form closed: `Status: Failed`."""
        named = {name: (label, dict(choices)) for name, label, choices in self.selects}
        named |= {name: (label, {}) for name, label in (*_TEXTS, *_PERIOD)}
        told = {"held": "Held for an operator"}
        told["batch"], told["recipient"] = f"Batch: {self.batch}", f"Recipient: {self.recipient}"
        for name, value in self.given.items():
            if name in named:
                label, choices = named[name]
                told[name] = f"{label}: {choices.get(value, value)}"
        return [told[name] for name in self.given]

    def _projects(self) -> list[tuple[str, str]]:
        projects = within(self.user, Project.objects.all(), "pk")
        return [(str(id), name) for id, name in projects.values_list("id", "name")]

    @cached_property
    def batch(self) -> str:
        """Its name, where a batch's page has led here."""
        given = self.given.get("batch", "")
        if not given:
            return ""
        id = as_uuid(given)
        batches = within(self.user, Batch.objects.filter(pk=id)) if id else Batch.objects.none()
        return str(batches.first() or "No such batch")

    @cached_property
    def recipient(self) -> str:
        """The name, where a recipient's page has led here."""
        given = self.given.get("recipient", "")
        if not given:
            return ""
        id = as_row_id(given)
        named = Recipient.objects.none() if id is None else Recipient.objects.filter(pk=id)
        return str(within(self.user, named).first() or "No such recipient")


class NotificationChangeList(ChangeList):
    """Newest first. A page begins before the id in `before`, or ends after that in `after`; nothing is counted far."""

    before: UUID | None = None
    after: UUID | None = None
    #: What the search term was taken for.
    found: Found | None = None
    #: Rows that were looked through, where there are more; and the id of the last.
    cut_off_at = 0
    has_to_look = False
    looked_to: UUID | None = None

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        self._take_cursor()
        rows = cast("NotificationQuerySet", super().get_queryset(request, exclude_parameters))
        project_ids = project_ids_of(request.user)
        try:
            selection = selecting.read({**request.GET.dict(), "q": self.query})
        except Refused as refusal:
            messages.error(request, refusal.detail)
            return rows.none()
        return self._chosen(rows, selection.within(project_ids), project_ids)

    def _take_cursor(self) -> None:
        """Out of what the page's links keep: another filter begins on its first page."""
        for name in selecting.PAGING:
            given = self.params.pop(name, "")
            self.filter_params.pop(name, None)
            if name in ("before", "after") and given:
                setattr(self, name, as_uuid(given))

    def _chosen(
        self, rows: NotificationQuerySet, selection: Selection, project_ids: list[int] | None
    ) -> QuerySet[Any]:
        if selection.term:
            self.found = finding.found(selection.term, project_ids)
            rows = rows.filter(id__in=self.found.ids)
        rows = self._from_cursor(selection.by_index(rows))
        self.has_to_look = selection.has_to_look and not selection.term
        if self.has_to_look:
            everything = Notification.objects.all()
            rows = self._next(rows, self._from_cursor(selection.by_index(everything)))
        return selection.by_looking(rows)

    def _from_cursor(self, rows: NotificationQuerySet) -> NotificationQuerySet:
        if self.before:
            return rows.filter(id__lt=self.before)
        return rows.reverse().filter(id__gt=self.after) if self.after else rows

    def _next(
        self, rows: NotificationQuerySet, looked_through: NotificationQuerySet
    ) -> NotificationQuerySet:
        """As many as a page may look through, those of projects out of reach counted in."""
        bound = listing.LOOKED_THROUGH
        beyond = looked_through.values_list("id", flat=True)[bound - 1 : bound + 1]
        last = list(beyond)
        if len(last) < 2:
            return rows
        self.cut_off_at, self.looked_to = bound, last[0]
        return rows.filter(id__gte=last[0]) if not self.after else rows.filter(id__lte=last[0])

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """As the selection has left it: newest first, by the index of what it narrows by."""
        return list(queryset.query.order_by)

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        rows = list(self.queryset[: size + 1])
        self.has_more = len(rows) > size
        self.result_list = rows[:size]
        if self.after:
            self.result_list.reverse()
        self.result_count = self._counted()
        self.full_result_count = self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = KeyPaginator(self.result_list, size)

    def _counted(self) -> int:
        """On the first page, and no further than `MOST_COUNTED`. Of what has to be looked through, the page's own."""
        is_known = not self.has_more or self.before or self.after or self.has_to_look
        if is_known:
            return len(self.result_list)
        return int(self.queryset[: MOST_COUNTED + 1].count())

    # -- what the templates ask -------------------------------------------------------------------------

    @property
    def total(self) -> str:
        """`more than 1,000 notifications`; empty where it is not known."""
        is_part = self.has_to_look and (self.has_more or self.cut_off_at)
        if self.before or self.after or is_part:
            return ""
        count = self.result_count
        words = f"{count:,}" if count <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"
        return f"{words} notification{'' if count == 1 else 's'}"

    @property
    def older(self) -> str:
        """The link to the next page; empty on the last."""
        if not (self.has_more or self.after or self.cut_off_at):
            return ""
        last = self.result_list[-1].pk if self.result_list else None
        if not self.has_more and self.cut_off_at and not self.after:
            last = self.looked_to
        return self.get_query_string({"before": str(last)}) if last else ""

    @property
    def newer(self) -> str:
        first = self.result_list[0].pk if self.result_list else self.before
        has_newer = self.before or (self.after and (self.has_more or self.cut_off_at))
        return self.get_query_string({"after": str(first)}) if has_newer and first else ""

    @property
    def newest(self) -> str:
        return self.get_query_string() if self.before or self.after else ""


class KeyPaginator(BoundedPaginator):
    """Of the one page that there is: the others are found by key."""

    template_name = "admin/key_pagination.html"
