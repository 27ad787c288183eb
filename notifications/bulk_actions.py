"""Bulk actions: an operator's act on very many notifications. What it would do, making one, and moving it.

    selecting -> running <-> paused
        \\__________\\__________\\___> completed, or stopped

Making one stores what was chosen, as the query of the console's list, and answers at once whatever that means; which
rows these are is noted by whoever carries it out (carrying.py), and then it is done to one after the other. Each move is
a conditional UPDATE, as of a batch: whoever comes second changes nothing and is told what is allowed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db import transaction
from django.db.models import Case, Count, Exists, OuterRef, Q, Value, When
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from notifications.acts import ACTS, Act, State
from notifications.finding import lookups
from notifications.models import (
    BulkAction,
    BulkActionRow,
    Channel,
    Notification,
    NotificationQuerySet,
    Status,
)
from notifications.selecting import PAGING, chosen, read
from users.models import User
from users.refusals import Conflict, Refused

#: Rows that a preview looks at, newest first; of more it says so.
MOST_COUNTED = 100_000
#: Rows a second, where nobody says another number.
USUAL_RATE = 50.0
HIGHEST_RATE = 100_000.0
#: Refused rows by which the reasons are counted.
MOST_REFUSED = 10_000
#: For which a bulk action that has ended keeps its rows.
ROWS_KEPT = timedelta(days=30)

#: What can still be moved.
OPEN = frozenset({BulkAction.Status.SELECTING, BulkAction.Status.RUNNING, BulkAction.Status.PAUSED})


@dataclass(slots=True)
class Preview:
    """What an act would do to what a query means, by the newest `MOST_COUNTED` rows of it.

    `arrived`: those whose person has the message already; they count only where they are meant too.
    """

    act: Act
    query: dict[str, str]
    include_arrived: bool
    more: bool
    channels: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    perhaps_arrived: int = 0
    obstacles: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.channels.total()

    @property
    def by_channel(self) -> list[tuple[str, int]]:
        return self.channels.most_common()

    @property
    def by_status(self) -> list[tuple[str, int]]:
        return self.statuses.most_common()

    @property
    def left_out(self) -> list[tuple[str, int]]:
        return self.obstacles.most_common()

    def seconds(self, rate: float | None) -> float | None:
        """How long it takes at so many a second; None where nobody knows."""
        return self.count / rate if rate else None


def preview(
    act: Act, query: Mapping[str, str], project_ids: Sequence[int] | None, include_arrived: bool
) -> Preview:
    """Counts by what decides whether something can be done. Raises Refused, naming the parameter."""
    query = checked(query)
    rows, more = _looked_at(query, project_ids)
    found = Preview(act, query, include_arrived, more)
    for group in _grouped(rows):
        _add(found, group)
    return found


def _looked_at(
    query: Mapping[str, str], project_ids: Sequence[int] | None
) -> tuple[NotificationQuerySet, bool]:
    """The newest of them, and whether there are older ones that are not looked at."""
    rows = chosen(query, project_ids)
    selection = read(query).within(project_ids)
    everything = selection.by_index(Notification.objects.all())
    found = lookups(selection.term, project_ids) if selection.term else [everything]
    bounds = [
        next(iter(each.values_list("id", flat=True)[MOST_COUNTED:][:1]), None) for each in found
    ]
    oldest = max((bound for bound in bounds if bound), default=None)
    return (rows.filter(id__gt=oldest), True) if oldest else (rows, False)


def _grouped(rows: NotificationQuerySet) -> Any:
    newer = Exists(Notification.objects.filter(resend_of=OuterRef("pk")))
    parts = rows.annotate(newer=newer, erased=Q(erased_at__isnull=False)).order_by()
    return parts.values("channel", "status", "erased", "newer").annotate(count=Count("pk"))


def _add(found: Preview, group: dict[str, Any]) -> None:
    status, count = group["status"], group["count"]
    obstacle = found.act.obstacle_to(State(status, group["erased"], group["newer"]))
    if obstacle:
        found.obstacles[obstacle] += count
        return
    if found.act.repeats(status):
        found.arrived += count
        if not found.include_arrived:
            return
    if found.act.name == "resend" and status == Status.UNKNOWN:
        found.perhaps_arrived += count
    found.channels[Channel(group["channel"]).label] += count
    found.statuses[status] += count


def checked(query: Mapping[str, str]) -> dict[str, str]:
    """The filters alone, without what only says where the list's page begins. Raises Refused, naming the parameter.

    Without any it would mean every notification there is; nobody means that.
    """
    filters = {name: str(value) for name, value in query.items() if value and name not in PAGING}
    if not filters:
        raise Refused(
            "no_filter", "Choose by at least one filter: without any, everything is meant."
        )
    read(filters)
    return filters


def make(
    act: Act,
    query: Mapping[str, str],
    project_ids: Sequence[int] | None,
    include_arrived: bool,
    reason: str,
    user: User,
    rate: float | None = USUAL_RATE,
    id: UUID | None = None,
) -> BulkAction:
    """Store what was chosen, to be carried out. Nothing that is accepted after its `id` was made is meant.

    The same `id` again (a form that was sent twice) gives back the first one. Raises Refused, naming what is at fault.
    """
    query = checked(query)
    now = uuid7()
    made: dict[str, Any] = {
        "act": act.name,
        "selection": query,
        "newest_id": min(id or now, now),
        "project_ids": None if project_ids is None else list(project_ids),
        "include_arrived": include_arrived,
        "reason": _reason(reason),
        "rate": _rate(rate),
        "created_by": user,
    }
    with transaction.atomic():
        bulk_action, is_new = BulkAction.objects.get_or_create(id=id or now, defaults=made)
        if is_new:
            log(bulk_action, user, ADDITION, f"{act.verb}: {reason}")
        elif not _is_the_same(bulk_action, made):
            raise Refused("invalid_id", "This id is that of another bulk action.", "id")
    return bulk_action


def _is_the_same(bulk_action: BulkAction, made: dict[str, Any]) -> bool:
    """Whether a form was sent twice. Its words may have been mended, what it does to what may not."""
    asked = (made["created_by"].pk, made["act"], made["selection"])
    return (bulk_action.created_by_id, bulk_action.act, bulk_action.selection) == asked


def _reason(reason: str) -> str:
    if not reason.strip():
        raise Refused("required", "Say why: the log keeps it.", "reason")
    return reason.strip()


def _rate(rate: float | None) -> float | None:
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= HIGHEST_RATE):
        raise Refused(
            "invalid_rate", f"A rate is a number above 0, at most {HIGHEST_RATE:,g}.", "rate"
        )
    return rate


# -- Moving one -------------------------------------------------------------------------------------------


def pause(bulk_action: BulkAction, user: User | None = None, reason: str = "") -> None:
    """Nothing more is done from now on, until it is resumed. Raises Conflict."""
    moving = (BulkAction.Status.SELECTING, BulkAction.Status.RUNNING)
    _move(bulk_action, moving, "paused", user, reason, status=BulkAction.Status.PAUSED)


def resume(bulk_action: BulkAction, user: User | None = None, reason: str = "") -> None:
    """It goes on where it was: where nothing was done yet, with noting what is meant. Raises Conflict."""
    has_begun = When(Q(done__gt=0) | Q(refused__gt=0), then=Value(BulkAction.Status.RUNNING))
    status = Case(has_begun, default=Value(BulkAction.Status.SELECTING))
    _move(bulk_action, (BulkAction.Status.PAUSED,), "resumed", user, reason, status=status)


def stop(bulk_action: BulkAction, user: User | None = None, reason: str = "") -> None:
    """For good. What was done until now is done. Raises Conflict."""
    ended: dict[str, Any] = {"status": BulkAction.Status.STOPPED, "finished_at": Now()}
    _move(bulk_action, OPEN, "stopped", user, reason, **ended)


def _move(
    bulk_action: BulkAction,
    allowed: Sequence[str] | frozenset[str],
    done: str,
    user: User | None,
    reason: str,
    **changed: Any,
) -> None:
    with transaction.atomic():
        rows = BulkAction.objects.filter(pk=bulk_action.pk, status__in=list(allowed))
        if not rows.update(leased_until=None, **changed):
            status = BulkAction.objects.values_list("status", flat=True).get(pk=bulk_action.pk)
            raise Conflict("wrong_status", f"It is {status}; it cannot be {done}.", "status")
        if user:
            words = f"{done.capitalize()}: {reason}" if reason else f"{done.capitalize()}."
            log(bulk_action, user, CHANGE, words)


def log(bulk_action: BulkAction, user: User, flag: int, message: str) -> None:
    LogEntry.objects.log_actions(user.pk, [bulk_action], flag, message, single_object=True)


# -- How far it is ----------------------------------------------------------------------------------------


def refusals(bulk_action: BulkAction) -> list[tuple[str, int]]:
    """Why rows were refused, and how many each, by the first `MOST_REFUSED` of them."""
    if not bulk_action.refused:
        return []
    refused = bulk_action.rows.exclude(refusal="").order_by("notification_id")
    words = refused.values_list("refusal", flat=True)[:MOST_REFUSED]
    return Counter(words).most_common(20)


def latest(bulk_action: BulkAction, most: int) -> list[BulkActionRow]:
    """The rows that were looked at last, newest first: they are gone through by their ids."""
    ids = bulk_action.rows.filter(done_at=None).order_by("notification_id")
    waiting = ids.values_list("notification_id", flat=True).first()
    rows = bulk_action.rows.filter(done_at__isnull=False)
    if waiting:
        rows = rows.filter(notification_id__lt=waiting)
    return list(rows.order_by("-notification_id")[:most])


def meant(bulk_action: BulkAction) -> NotificationQuerySet:
    """The notifications that it is about, oldest first: only those to which its act can be done at all."""
    act = ACTS[bulk_action.act]
    possible = {
        status for status in act.statuses if bulk_action.include_arrived or not act.repeats(status)
    }
    rows = chosen(bulk_action.selection, bulk_action.project_ids).reverse()
    return rows.filter(id__lte=bulk_action.newest_id, status__in=sorted(possible))


# -- What housekeeping looks after --------------------------------------------------------------------------


def old_rows() -> Any:
    """Rows of bulk actions that ended long ago; what they did stands in the log."""
    ended = BulkAction.objects.filter(finished_at__lt=Now() - ROWS_KEPT)
    return BulkActionRow.objects.filter(bulk_action__in=ended)
