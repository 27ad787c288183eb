"""Carrying out bulk actions: first noting which notifications are meant, then doing it to one after the other.

Done by the workers of bulk sends, or by the command that made one. Whoever does holds a lease, so that there is one at a
time and the rate holds; one who is killed loses it, and another goes on. That nothing is done twice does not hang on the
lease: the act, that its row is done, and the count are one transaction, which asks once more whether the bulk action
still runs and is still ours. So a pause or a stop holds from the very next row on.

The rate is that of one process, from row to row: what was not done in time is not caught up with, so nothing bunches
up after a pause. What a resend makes is paced by its own flow besides (pace.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from notifications import stopping
from notifications.acts import ACTS
from notifications.bulk_actions import meant
from notifications.ids import FIRST
from notifications.models import BulkAction, BulkActionRow, Notification
from users.models import User
from users.reach import reaches
from users.refusals import Refused

log = structlog.get_logger(__name__)

Status = BulkAction.Status

#: For so long it is ours after each second in which something was done.
LEASE = timedelta(seconds=60)
#: Notifications that are noted at once.
CHUNK = 5_000
#: Rows fetched at once, with what their notifications say: up to 256 KB each.
FETCHED = 50
#: Seconds after which the lease is renewed, and at the latest is looked whether to go on.
RENEWED_AFTER = 1.0
#: Bulk actions that a worker process carries out at the same time, each in a thread of its own.
AT_ONCE = 4

#: Refusals whose own words name an id, and so would be as many reasons as rows.
_BRIEF = {
    "already_resent": "This was resent already.",
    "suppressed": "Its address is suppressed.",
}

_free = threading.BoundedSemaphore(AT_ONCE)


class NotOurs(Exception):
    """It was paused or stopped, or another has it: nothing more is to be done here."""


class Pace:
    """When the next row may be done: monotonic seconds, at `rate` a second; None for at once."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    def wait(self) -> float:
        """Seconds until the next may be."""
        return self._next - time.monotonic()

    def step(self) -> None:
        """One is done now."""
        self._next = max(self._next, time.monotonic()) + self._interval


class Carrier:
    """Has one bulk action. `on_progress` is told of it after each row and each chunk."""

    def __init__(
        self, bulk_action: BulkAction, on_progress: Callable[[BulkAction], None] = lambda _: None
    ) -> None:
        self.bulk_action = bulk_action
        self.act = ACTS[bulk_action.act]
        self.user: User | None = None
        self.on_progress = on_progress
        self._pace = Pace(bulk_action.rate)
        self._renewed_at = time.monotonic()

    def carry_on(self) -> None:
        """Until it is done, or no longer ours, or this process is to stop. Gives the lease back in any case."""
        try:
            if self.bulk_action.status == Status.SELECTING:
                self._select()
            self._do_all()
        except NotOurs as ended:
            log.info("bulk_action_left", bulk_action=str(self.bulk_action.pk), why=str(ended))
        finally:
            self._give_back()

    def _ours(self, *statuses: str) -> Any:
        """The bulk action, while it has one of these statuses and the lease is the one we have."""
        return BulkAction.objects.filter(
            pk=self.bulk_action.pk,
            status__in=statuses,
            leased_until=self.bulk_action.leased_until,
        )

    def _renew(self) -> None:
        """Raises NotOurs."""
        if stopping.is_stopping():
            raise NotOurs("this process stops")
        with transaction.atomic():
            self._change(leased_until=Now() + LEASE)
            self.bulk_action.leased_until = _lease_of(self.bulk_action)
        self._renewed_at = time.monotonic()

    def _change(self, **values: Any) -> None:
        """Raises NotOurs, so that what was done in the same transaction is undone."""
        if not self._ours(Status.SELECTING, Status.RUNNING).update(**values):
            raise NotOurs("it was moved, or another has it")

    def _give_back(self) -> None:
        try:
            self._ours(*Status.values).update(leased_until=None)
        except (OperationalError, InterfaceError):
            log.warning("lease_not_given_back", bulk_action=str(self.bulk_action.pk))

    # -- selecting ------------------------------------------------------------------------------------

    def _select(self) -> None:
        """Note which are meant, by their ids: begun anew, it goes on after the last that is noted."""
        noted = self.bulk_action.rows.order_by("-notification_id")
        last = noted.values_list("notification_id", flat=True).first() or FIRST
        while ids := list(
            meant(self.bulk_action).filter(id__gt=last).values_list("id", flat=True)[:CHUNK]
        ):
            self._note(ids)
            self._renew()
            self.on_progress(self.bulk_action)
            last = ids[-1]
        self._change(status=Status.RUNNING)
        self.bulk_action.status = Status.RUNNING

    def _note(self, ids: list[Any]) -> None:
        rows = [BulkActionRow(bulk_action=self.bulk_action, notification_id=id) for id in ids]
        with transaction.atomic():
            BulkActionRow.objects.bulk_create(rows, ignore_conflicts=True)
            self._change(selected=F("selected") + len(rows))
        self.bulk_action.selected += len(rows)

    # -- doing ----------------------------------------------------------------------------------------

    def _do_all(self) -> None:
        while rows := self._next_rows():
            self.user = self._who_asked()
            notifications = Notification.objects.in_bulk([row.notification_id for row in rows])
            for row in rows:
                self._wait_for_turn()
                self._do(row, notifications.get(row.notification_id))
                self.on_progress(self.bulk_action)
        self._change(status=Status.COMPLETED, finished_at=Now(), leased_until=None)
        self.bulk_action.status = Status.COMPLETED

    def _next_rows(self) -> list[BulkActionRow]:
        """As many as are done in about a second, so that what is known of them is fresh."""
        rate = self.bulk_action.rate
        most = FETCHED if rate is None else min(FETCHED, max(1, int(rate)))
        return list(self.bulk_action.rows.filter(done_at=None).order_by("notification_id")[:most])

    def _who_asked(self) -> User | None:
        """While that person may still do it. Asked anew for each lot: a right that is taken away holds for what waits."""
        user = User.objects.filter(pk=self.bulk_action.created_by_id or 0, is_active=True).first()
        return user if user and user.has_perm(self.act.permission) else None

    def _wait_for_turn(self) -> None:
        """Raises NotOurs, also while it waits."""
        while (seconds := self._pace.wait()) > 0:
            stopping.wait(min(seconds, RENEWED_AFTER))
            self._renew_in_time()
        self._renew_in_time()
        self._pace.step()

    def _renew_in_time(self) -> None:
        if stopping.is_stopping() or time.monotonic() - self._renewed_at >= RENEWED_AFTER:
            self._renew()

    def _do(self, row: BulkActionRow, notification: Notification | None) -> None:
        """Raises NotOurs, with nothing done."""
        with transaction.atomic():
            waiting = BulkActionRow.objects.filter(pk=row.pk, done_at=None)
            if not waiting.select_for_update(skip_locked=True).exists():
                return  # Another, whose lease had not ended yet when we came, has done it.
            refusal = self._refusal_of(notification)
            waiting.update(done_at=Now(), refusal=refusal)
            counter = "refused" if refusal else "done"
            self._change(**{counter: F(counter) + 1})
        setattr(self.bulk_action, counter, getattr(self.bulk_action, counter) + 1)

    def _refusal_of(self, notification: Notification | None) -> str:
        """Do it; why it was refused, or nothing."""
        if notification is None:
            return "It is no longer kept."
        if self.user is None:
            return "Who asked for it may not do so any more."
        if not reaches(self.user, notification.project_id):
            return "It is of a project that who asked for it does not see any more."
        try:
            with transaction.atomic():
                self.act.perform(
                    notification,
                    self.user,
                    self.bulk_action.reason,
                    self.bulk_action.include_arrived,
                )
        except Refused as refusal:
            return _BRIEF.get(refusal.code, refusal.detail)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            # A bug, or a row that is not what it should be: it must not keep the others from their turn.
            log.exception("bulk_action_row_failed", notification=str(notification.pk))
            return f"It could not be done: {type(error).__name__}."
        return ""


def _lease_of(bulk_action: BulkAction) -> datetime | None:
    return BulkAction.objects.values_list("leased_until", flat=True).get(pk=bulk_action.pk)


def take(id: Any = None) -> BulkAction | None:
    """One that is to be gone on with and that nobody has, now ours; None where there is none."""
    free = Q(leased_until=None) | Q(leased_until__lt=Now())
    waiting = BulkAction.objects.filter(
        free, status__in=(Status.SELECTING, Status.RUNNING), finished_at=None
    ).order_by("id")
    if id:
        waiting = waiting.filter(pk=id)
    with transaction.atomic():
        bulk_action = waiting.select_for_update(skip_locked=True).first()
        if bulk_action is None:
            return None
        BulkAction.objects.filter(pk=bulk_action.pk).update(leased_until=Now() + LEASE)
        bulk_action.leased_until = _lease_of(bulk_action)
    return bulk_action


def carry_next() -> bool:
    """Carry on one that waits for it. False where none does."""
    bulk_action = take()
    if bulk_action:
        Carrier(bulk_action).carry_on()
    return bulk_action is not None


def start_carrying() -> None:
    """Each that waits for it, in a thread of its own, as far as this process does so many at once."""
    while _free.acquire(blocking=False):
        try:
            bulk_action = take()
        except BaseException:
            _free.release()
            raise
        if bulk_action is None:
            _free.release()
            return
        carrier = threading.Thread(
            target=_carry, args=(bulk_action,), name="bulk-action", daemon=True
        )
        carrier.start()


def _carry(bulk_action: BulkAction) -> None:
    try:
        Carrier(bulk_action).carry_on()
    except Exception as error:
        # The database is away, or a bug: the lease ends, and a worker goes on where this one stopped.
        log.warning("bulk_action_broke_off", error=f"{type(error).__name__}: {error}")
    finally:
        _free.release()
        connection.close()
