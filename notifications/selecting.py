"""Which notifications are meant, by the parameters of the console's list: of its filters, of an export, of an act on
many, of a command. All of them that match, however many; a list bounds by itself what it looks through.

A parameter that is empty is not given. One that is not known is refused: a slip of the pen in a filter must not
mean everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn, cast

from django.db.models import Exists, OuterRef

from notifications.finding import all_with, as_row_id, as_uuid
from notifications.ids import LAST, first_of
from notifications.models import Channel, Flow, Notification, NotificationQuerySet, Priority, Status
from notifications.newest import newest
from users.refusals import Refused

#: Of the list's URL, and no filters: where its page begins, and Django's own.
PAGING = frozenset({"before", "after", "p", "e", "o", "all", "_facets", "_changelist_filters"})
#: The id of no flow.
NO_FLOW = 0
#: In an index over all projects (notification_trouble), and in one of each (notification_status).
TROUBLE = frozenset({Status.FAILED, Status.UNKNOWN, Status.EXPIRED, Status.CANCELLED})
RARE = frozenset(Status.values) - {Status.SENT, Status.DELIVERED}


@dataclass(frozen=True, slots=True)
class Selection:
    """What the parameters say: values of columns, and what is more than that."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    term: str = ""
    held: bool = False
    resent: bool | None = None

    def within(self, project_ids: Sequence[int] | None) -> Selection:
        """Who sees one project alone finds its rows by the project's own index; of several, by looking."""
        if project_ids is None or "project_id" in self.columns:
            return self
        is_one = len(project_ids) == 1
        reach = {"project_id": project_ids[0]} if is_one else {"project_id__in": list(project_ids)}
        return replace(self, columns={**self.columns, **reach})

    def index(self) -> tuple[str, ...]:
        """The columns of the index that leaves the fewest rows to look at; none: the primary key, for a period."""
        if "recipient_id" in self.columns:
            return ("recipient_id",)
        if "flow_id" in self.columns:
            return ("flow_id",)
        if self.held:
            return ()
        if "failure_code" in self.columns:
            return ("failure_code",)
        if "project_id" in self.columns:
            return (
                ("project_id", "status") if self.columns.get("status") in RARE else ("project_id",)
            )
        return ("status",) if self.columns.get("status") in TROUBLE else ()

    def by_index(self, rows: NotificationQuerySet) -> NotificationQuerySet:
        """What an index finds by itself, newest first. The rest is `by_looking`."""
        chosen = rows.held() if self.held else rows
        of_index = {name: self.columns[name] for name in self.index()}
        beside = {name: self.columns[name] for name in self.columns if name in _ALSO_INDEXED}
        return cast("NotificationQuerySet", newest(chosen.filter(**beside), **of_index))

    def by_looking(self, rows: NotificationQuerySet) -> NotificationQuerySet:
        """What can only be seen by looking at row after row."""
        chosen = rows.filter(**self.looked_at())
        if self.resent is None:
            return chosen
        newer = Exists(Notification.objects.filter(resend_of=OuterRef("pk")))
        return chosen.filter(newer if self.resent else ~newer)

    def looked_at(self) -> dict[str, Any]:
        """The columns that no index serves here."""
        served = {*self.index(), *_ALSO_INDEXED}
        return {name: value for name, value in self.columns.items() if name not in served}

    @property
    def has_to_look(self) -> bool:
        return self.resent is not None or bool(self.looked_at())


#: Bounds of the id, which every index ends in, and what goes with a flow.
_ALSO_INDEXED = ("id__gte", "id__lt", "row_number__isnull")


def chosen(
    query: Mapping[str, str], project_ids: Sequence[int] | None = None
) -> NotificationQuerySet:
    """All notifications that match, of these projects alone where they are given. Newest first, in the order of an
    index: whoever goes through many keeps it (or its `reverse()`), and goes on by the id of the last one.

    Raises Refused, naming the parameter.
    """
    selection = read(query).within(project_ids)
    rows = Notification.objects.all()
    if project_ids is not None:
        rows = rows.filter(project_id__in=project_ids)
    if selection.term:
        rows = rows.filter(all_with(selection.term))
    return selection.by_looking(selection.by_index(rows))


def read(query: Mapping[str, str]) -> Selection:
    """What the parameters say. Raises Refused, naming the parameter."""
    for name, value in query.items():
        # Of the page's beginning too: an export's log entry has the query whole.
        if "\x00" in str(value):
            _refuse(name, "text without the NUL character")
    given = {name: str(value).strip() for name, value in query.items() if name not in PAGING}
    columns: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _READERS and name not in _OTHERS:
            raise Refused("unknown_filter", f"There is no filter {name!r}.", name)
        if value and name in _READERS:
            columns |= _READERS[name](name, value)
    return Selection(
        columns=columns,
        term=given.get("q", ""),
        held=bool(given.get("held")) and _is_yes("held", given["held"]),
        resent=_is_yes("resent", given["resent"]) if given.get("resent") else None,
    )


def _one_of(choices: Sequence[str]) -> Callable[[str, str], dict[str, Any]]:
    def read_choice(name: str, value: str) -> dict[str, Any]:
        return {name: value} if value in choices else _refuse(name, f"one of {', '.join(choices)}")

    return read_choice


def _id_of(column: str) -> Callable[[str, str], dict[str, Any]]:
    def read_id(name: str, value: str) -> dict[str, Any]:
        id = as_row_id(value)
        return _refuse(name, "a number, the id of one") if id is None else {column: id}

    return read_id


def _text(name: str, value: str) -> dict[str, Any]:
    return {name: value}


def _live(name: str, value: str) -> dict[str, Any]:
    return {name: _is_yes(name, value)}


def _batch(name: str, value: str) -> dict[str, Any]:
    id = as_uuid(value) or _refuse(name, "a UUID, the id of a batch")
    flow_id = Flow.objects.filter(batch_id=id).values_list("pk", flat=True).first()
    return {"flow_id": flow_id or NO_FLOW, "row_number__isnull": False}


def _from(name: str, value: str) -> dict[str, Any]:
    return {"id__gte": first_of(_moment(name, value))}


def _to(name: str, value: str) -> dict[str, Any]:
    """A day counts whole; of a moment, what was before it."""
    until = _moment(name, value)
    if not _is_day(value):
        return {"id__lt": first_of(until)}
    is_last = until.date() == date.max
    return {"id__lt": LAST if is_last else first_of(until + timedelta(days=1))}


def _moment(name: str, value: str) -> datetime:
    """A day's first moment, or the moment: of UTC, where it does not say."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        _refuse(name, "a day (2026-03-01) or a time (2026-03-01T10:00Z)")
    return moment if moment.tzinfo else datetime.combine(moment.date(), moment.time(), UTC)


def _is_day(value: str) -> bool:
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_yes(name: str, value: str) -> bool:
    return value == "1" if value in ("0", "1") else _refuse(name, "1 or 0")


def _refuse(name: str, wanted: str) -> NoReturn:
    raise Refused("invalid_filter", f"The filter {name} must be {wanted}.", name)


_READERS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "status": _one_of(Status.values),
    "channel": _one_of(Channel.values),
    "priority": _one_of(Priority.values),
    "live": _live,
    "project": _id_of("project_id"),
    "provider": _text,
    "failure_code": _text,
    "category": _text,
    "created_from": _from,
    "created_to": _to,
    "batch": _batch,
    "recipient": _id_of("recipient_id"),
}
_OTHERS = ("q", "held", "resent")
#: The names of all filters, as the console's list, an export, an act on many and a command know them.
PARAMETERS = (*_OTHERS, *_READERS)
