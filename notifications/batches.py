"""Batches: making one, and moving it from one status to the next.

    loading -> ready -> running <-> paused
                  \\________\\________\\___> completed, or cancelled

A batch is a flow of its own (models.py), paused until it runs: one row decides about all of its notifications. Each
move is a conditional UPDATE, so that two who move it at once cannot collide: whoever comes second changes nothing and
is told what is allowed. Its rows are stored by bulk/loading.py. Command, API, console and the workers' sweep all call
these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce, Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications.intake import lane_for
from notifications.limits import LONGEST_CATEGORY, is_web_address
from notifications.models import (
    Batch,
    Channel,
    Flow,
    Notification,
    NotificationQuerySet,
    StagedPart,
)
from notifications.waking import wake
from users.refusals import Conflict, Refused

log = structlog.get_logger(__name__)

Status = Batch.Status

#: Characters of a name.
LONGEST_NAME = 255
#: A batch pauses itself by its last so many calls, if there were at least so many.
JUDGED_CALLS, FEWEST_CALLS = 1000, 100
#: The service's last calls among which those of a batch are looked for.
LATEST_CALLS = 20_000
#: For so long an upload is a worker's after each chunk that it has stored, or checked.
LOADING_LEASE = timedelta(seconds=60)
#: Uploads that nobody loads (any more).
STAGED: dict[str, Any] = {
    "status": Batch.Status.LOADING,
    "leased_until__lt": Now(),
    "finished_at": None,
}
#: Rows one statement cancels.
CHUNK = 5000
#: What one call to cancel() waits for; the workers' sweep does the rest.
CANCELLED_AT_ONCE = 100_000

#: What is compared when a name is used again, and what it is called.
COMPARED = {
    "channel": "the channel",
    "title": "the title",
    "message": "the message",
    "html": "the HTML part",
    "url": "the url",
    "category": "the category",
    "priority": "the priority",
    "live": "whether it is a test",
    "source": "whom it goes to",
    "digest": "the file",
    "skip_invalid": "whether invalid rows are skipped",
    "once_per_address": "whether an address may come twice",
    "scheduled_for": "its time",
    "expires_at": "when it expires",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A batch that is asked for: its message's templates and its source are known to be good.

    `digest`: SHA-256 of the source. `rate`: calls a second, None for as fast as it goes. `failure_limit`: share of its
    last 1,000 calls that may fail; None for the service's.
    """

    project_id: int
    name: str
    channel: str
    message: str
    digest: bytes
    last_recipient_id: int | None = None
    title: str = ""
    html: str = ""
    url: str = ""
    category: str = ""
    priority: str = "low"
    live: bool = True
    api_key_id: int | None = None
    created_by_id: int | None = None
    source: str = Batch.Source.FILE
    file_name: str = ""
    encoding: str = ""
    skip_invalid: bool = False
    once_per_address: bool = True
    starts_by_itself: bool = True
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None
    rate: float | None = None
    failure_limit: float | None = None

    def differences_from(self, batch: Batch) -> list[str]:
        """In what it is not the batch that has its name."""
        return [
            words
            for field, words in COMPARED.items()
            if _comparable(getattr(self, field)) != _comparable(getattr(batch, field))
        ]


def _comparable(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of a batch's rows are where. `failures`: code -> how many failed so, most first."""

    total: int
    waiting: int
    sending: int
    sent: int
    delivered: int
    failed: int
    suppressed: int
    cancelled: int
    expired: int
    unknown: int
    failures: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def done(self) -> int:
        """Rows that do not move by themselves any more, and those whose end nobody knows."""
        return self.total - self.waiting - self.sending


def make(plan: Plan, staged: bool = False) -> Batch:
    """A batch in `loading`. The same plan again is the same batch, wherever it stands by now. `staged`: a worker loads
    it, from the parts of an upload.

    Raises Conflict where another plan has its name, and says what differs; Refused where the plan contradicts itself, or
    nobody carries its channel.
    """
    _refuse_contradictions(plan)
    lane = lane_for(plan.channel, plan.priority, plan.live)
    with transaction.atomic():
        batch = _made_or_there(plan, staged)
        Flow.objects.get_or_create(
            batch=batch,
            defaults={
                "project_id": plan.project_id,
                "lane": lane,
                "paused": True,
                "rate": plan.rate,
            },
        )
    if differences := plan.differences_from(batch):
        raise Conflict(
            "batch_exists",
            f"There is a batch named {plan.name!r} already, and it differs in {_listed(differences)}. "
            "Choose another name.",
            "name",
        )
    return batch


def _refuse_contradictions(plan: Plan) -> None:
    if plan.html and plan.channel != Channel.EMAIL:
        raise Refused("not_for_channel", "Only an e-mail has an HTML part.", "html")
    if plan.url and plan.channel != Channel.IN_APP:
        raise Refused("not_for_channel", "Only an in-app message has a url.", "url")
    if plan.url and not is_web_address(plan.url):
        raise Refused("invalid", "This must be an http or https address.", "url")
    if not plan.name.strip() or len(plan.name) > LONGEST_NAME:
        raise Refused("invalid", f"A name has 1 to {LONGEST_NAME} characters.", "name")
    if len(plan.category) > LONGEST_CATEGORY:
        raise Refused(
            "max_length", f"A category has at most {LONGEST_CATEGORY} characters.", "category"
        )
    start = max(plan.scheduled_for or timezone.now(), timezone.now())
    if plan.expires_at and plan.expires_at <= start:
        raise Refused("before_start", "It would expire before it starts.", "expires_at")


def _made_or_there(plan: Plan, staged: bool) -> Batch:
    limit = settings.BATCH_FAILURE_LIMIT if plan.failure_limit is None else plan.failure_limit
    values = {
        **{field.name: getattr(plan, field.name) for field in fields(plan)},
        "failure_limit": limit,
        "leased_until": Now() if staged else None,
    }
    del values["rate"]
    of_name = {"project_id": values.pop("project_id"), "name": values.pop("name")}
    # One whose source was no good has stored nothing: the name is free for the mended file.
    refused = Batch.objects.filter(status=Status.CANCELLED, started_at=None, cursor=0, **of_name)
    refused.update(status=Status.LOADING, reason="", report={}, finished_at=None, **values)
    batch, _ = Batch.objects.get_or_create(**of_name, defaults={"id": uuid7(), **values})
    batch.refresh_from_db()
    return batch


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def named(project_id: int, name: str) -> Batch | None:
    return Batch.objects.filter(project_id=project_id, name=name).first()


# -- From one status to the next --------------------------------------------------------------------------


def loaded(batch_id: UUID) -> None:
    """All rows are stored. It starts, if it starts by itself and its time has come."""
    ready = {"status": Status.READY, "loaded_at": Now(), "leased_until": None}
    with transaction.atomic():
        if _move(batch_id, (Status.LOADING,), **ready):
            _start_if_due(batch_id)


def loading_lease(batch: Batch) -> dict[str, Any]:
    """With each stored chunk, the worker that loads an upload has it for longer; a command needs no lease."""
    if batch.leased_until is None:
        return {}
    return {"leased_until": Now() + LOADING_LEASE}


def take_staged() -> Batch | None:
    """An upload that nobody loads (any more), for the caller to load within its lease."""
    with transaction.atomic():
        waiting = Batch.objects.select_for_update(skip_locked=True).filter(**STAGED)
        batch = waiting.order_by("id").first()
        if batch:
            Batch.objects.filter(pk=batch.pk).update(leased_until=Now() + LOADING_LEASE)
    return batch


def refuse(batch_id: UUID, reason: str, report: dict[str, Any]) -> None:
    """Its source is no good: it ends before it has begun, and says why."""
    _move(
        batch_id,
        (Status.LOADING,),
        status=Status.CANCELLED,
        reason=reason,
        report=report,
        leased_until=None,
    )


def start(batch_id: UUID) -> None:
    """Somebody says so: it runs now, or from its time on. Raises Conflict where it is not ready."""
    with transaction.atomic():
        if not _move(batch_id, (Status.READY,), starts_by_itself=True):
            raise _conflict(batch_id, "started", "a ready one")
        _start_if_due(batch_id)


def start_at(batch_id: UUID, moment: datetime | None) -> None:
    """Somebody says when: it runs from then on, or now. Raises Conflict where it is not ready, or was stored for a
    time of its own; Refused where the moment is past, or too late for it."""
    batch = Batch.objects.select_related("flow").get(pk=batch_id)
    if moment and moment <= timezone.now():
        raise Refused("in_the_past", "This time is past.", "at")
    if moment and batch.expires_at and moment >= batch.expires_at:
        raise Refused("before_start", "It would expire before it starts.", "at")
    if rows_are_timed(batch):
        raise Conflict("timed", "Its rows were stored for its time, which stays.", "at")
    with transaction.atomic():
        changes = {"starts_by_itself": True, "scheduled_for": moment}
        if not _move(batch_id, (Status.READY,), **changes):
            raise _conflict(batch_id, "started", "a ready one")
        _start_if_due(batch_id)


def rows_are_timed(batch: Batch) -> bool:
    """Whether it had its time when it was loaded: each of its rows has it then, and is due no sooner."""
    first = rows_of(batch).order_by("id").values_list("scheduled_for", flat=True)
    return next(iter(first[:1]), None) is not None


def pause(batch_id: UUID, reason: str = "") -> None:
    """Nothing of it begins any more until it is resumed. Pausing what is paused is fine. Raises Conflict."""
    if _move(batch_id, (Status.READY, Status.RUNNING), status=Status.PAUSED, reason=reason):
        log.info("batch_paused", batch=str(batch_id), reason=reason)
    elif _status_of(batch_id) != Status.PAUSED:
        raise _conflict(batch_id, "paused", "a ready or running one")


def resume(batch_id: UUID) -> None:
    """It goes on where it was. Resuming what runs is fine. Raises Conflict."""
    with transaction.atomic():
        if _move(batch_id, (Status.PAUSED,), status=Status.READY, reason="", starts_by_itself=True):
            _start_if_due(batch_id)
        elif _status_of(batch_id) != Status.RUNNING:
            raise _conflict(batch_id, "resumed", "a paused one")


def change_status(batch_id: UUID, wanted: str) -> None:
    """To `running` (start or resume it), `paused` or `cancelled`. Raises Conflict."""
    if wanted == Status.PAUSED:
        pause(batch_id)
    elif wanted == Status.CANCELLED:
        cancel(batch_id)
    elif _status_of(batch_id) == Status.READY:
        start(batch_id)
    else:
        resume(batch_id)


def cancel(batch_id: UUID) -> None:
    """Nothing of it begins any more, for good. Cancelling what is cancelled is fine. Raises Conflict.

    What a provider has at this moment still counts as sent. Of very many rows the last are cancelled by the workers'
    sweep; they cannot go out meanwhile.
    """
    if _move(batch_id, tuple(Batch.OPEN), status=Status.CANCELLED, reason=""):
        log.info("batch_cancelled", batch=str(batch_id))
    elif _status_of(batch_id) != Status.CANCELLED:
        raise _conflict(batch_id, "cancelled", "one that is not completed")
    _cancel_rows(batch_id, CANCELLED_AT_ONCE)


def set_rate(batch_id: UUID, rate: float | None) -> None:
    """Calls a second over all workers from now on; None: as fast as it goes."""
    Flow.objects.filter(batch_id=batch_id).update(rate=rate)


def _move(batch_id: UUID, allowed: Iterable[str], **changes: Any) -> bool:
    """The batch's row, and its flow's `paused` with it. False where its status does not allow it."""
    with transaction.atomic():
        # The batch first: whoever loads it holds it in this order too.
        moved = Batch.objects.filter(id=batch_id, status__in=allowed).update(**changes)
        if moved and "status" in changes:
            paused = changes["status"] != Status.RUNNING
            Flow.objects.filter(batch_id=batch_id).update(paused=paused)
            # What is not being loaded needs no upload any more.
            StagedPart.objects.filter(batch_id=batch_id).delete()
    return bool(moved)


def _start_if_due(batch_id: UUID) -> bool:
    with transaction.atomic():
        due = Q(starts_by_itself=True) & (Q(scheduled_for=None) | Q(scheduled_for__lte=Now()))
        if not Batch.objects.filter(due, id=batch_id).exists():
            return False
        started = _move(
            batch_id,
            (Status.READY,),
            status=Status.RUNNING,
            started_at=Coalesce("started_at", Now()),
            resumed_at=Now(),
        )
        if started:
            lane = Flow.objects.values_list("lane", flat=True).get(batch_id=batch_id)
            transaction.on_commit(lambda: wake(lane), robust=True)
    return started


def _status_of(batch_id: UUID) -> str:
    return Batch.objects.values_list("status", flat=True).get(id=batch_id)


def _conflict(batch_id: UUID, done: str, allowed: str) -> Conflict:
    status = _status_of(batch_id)
    return Conflict(
        "wrong_status",
        f"This batch is {status}; only {allowed} can be {done}.",
        "status",
    )


# -- What the workers' sweep looks after ------------------------------------------------------------------

_CANCEL_ROWS = """
WITH waiting AS (
    SELECT id FROM notifications_notification
    WHERE flow_id = %(flow_id)s AND row_number IS NOT NULL AND status = 'pending'
    LIMIT %(chunk)s FOR UPDATE SKIP LOCKED
)
UPDATE notifications_notification n SET status = 'cancelled', leased_until = NULL
FROM waiting WHERE n.id = waiting.id
"""

# What moves by itself: waiting (also on a lease), being sent, or unknown and the policy is to decide.
_MOVES = """
SELECT EXISTS (SELECT FROM notifications_notification
               WHERE flow_id = %(flow_id)s AND status = 'pending' AND leased_until IS NULL)
    OR EXISTS (SELECT FROM notifications_notification
               WHERE leased_until IS NOT NULL AND flow_id = %(flow_id)s)
    OR EXISTS (SELECT FROM notifications_notification
               WHERE review_at IS NOT NULL AND flow_id = %(flow_id)s AND status = 'unknown')
"""

# The batch's last calls by the order in which they began, whichever worker made them. The numbers of attempts rise
# with time, so this looks at the end of one index.
_LAST_CALLS = """
SELECT count(*), count(*) FILTER (WHERE last.failed) FROM (
    SELECT n.status = 'failed' AS failed
    FROM (SELECT id, notification_id, started_at, outcome FROM notifications_attempt
          ORDER BY id DESC LIMIT %(latest)s) attempt
    JOIN notifications_notification n ON n.id = attempt.notification_id
    WHERE n.flow_id = %(flow_id)s AND attempt.outcome IS NOT NULL AND attempt.started_at >= %(since)s
    ORDER BY attempt.id DESC LIMIT %(calls)s
) last
"""

_COUNTS = """
SELECT status, failure_code, count(*)
FROM notifications_notification WHERE flow_id = %s AND row_number IS NOT NULL
GROUP BY 1, 2
"""


def tend() -> None:
    """Start what is due, end what has ended, pause what mostly fails. Any number at once are harmless."""
    for batch in Batch.objects.filter(finished_at=None).select_related("flow"):
        if batch.status == Status.READY:
            _start_if_due(batch.pk)
        elif batch.status == Status.RUNNING and not _pause_if_failing(batch):
            _complete_if_done(batch)
        elif batch.status == Status.CANCELLED:
            _finish_cancelled(batch)


def _pause_if_failing(batch: Batch) -> bool:
    calls, failed = _last_calls(batch)
    if calls < FEWEST_CALLS or failed <= batch.failure_limit * calls:
        return False
    pause(
        batch.pk,
        f"{failed:,} of its last {calls:,} calls failed, more than {batch.failure_limit:.0%}. Look at the failures "
        "by code, then resume or cancel it.",
    )
    return True


def _last_calls(batch: Batch) -> tuple[int, int]:
    """How many of its last calls since it was started or resumed there were, and how many failed."""
    parameters = {
        "flow_id": batch.flow.pk,
        "since": batch.resumed_at,
        "calls": JUDGED_CALLS,
        "latest": LATEST_CALLS,
    }
    with connection.cursor() as cursor:
        cursor.execute(_LAST_CALLS, parameters)
        calls, failed = cursor.fetchone()
    return int(calls), int(failed)


def _complete_if_done(batch: Batch) -> None:
    if not moves(batch):
        _move(batch.pk, (Status.RUNNING,), status=Status.COMPLETED, finished_at=Now())


def _finish_cancelled(batch: Batch) -> None:
    if _cancel_rows(batch.pk, CHUNK) < CHUNK and not moves(batch):
        Batch.objects.filter(pk=batch.pk, finished_at=None).update(finished_at=Now())


def _cancel_rows(batch_id: UUID, most: int) -> int:
    """Cancel rows that wait, at most so many. Returns how many."""
    flow_id = Flow.objects.values_list("pk", flat=True).get(batch_id=batch_id)
    cancelled = 0
    with connection.cursor() as cursor:
        while cancelled < most:
            cursor.execute(_CANCEL_ROWS, {"flow_id": flow_id, "chunk": CHUNK})
            cancelled += cursor.rowcount
            if cursor.rowcount < CHUNK:
                break
    return cancelled


def moves(batch: Batch) -> bool:
    """Whether anything of it still moves by itself."""
    with connection.cursor() as cursor:
        cursor.execute(_MOVES, {"flow_id": batch.flow.pk})
        return bool(cursor.fetchone()[0])


# -- How far it is ----------------------------------------------------------------------------------------


def progress(batch: Batch) -> Progress:
    """Counted now: reads each of its rows once."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, (batch.flow.pk,))
        return _sum(cursor.fetchall())


def _sum(counts: Iterable[tuple[str, str, int]]) -> Progress:
    by_status: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    suppressed = 0
    for status, code, count in counts:
        by_status[status] += count
        if status == "failed":
            failures[code] += count
        elif status == "cancelled" and code == "suppressed":
            suppressed += count
    return Progress(
        total=by_status.total(),
        waiting=by_status["pending"],
        sending=by_status["sending"],
        sent=by_status["sent"],
        delivered=by_status["delivered"],
        failed=by_status["failed"],
        suppressed=suppressed,
        cancelled=by_status["cancelled"] - suppressed,
        expired=by_status["expired"],
        unknown=by_status["unknown"],
        failures=dict(failures.most_common()),
    )


def rows_of(batch: Batch) -> NotificationQuerySet:
    """Its notifications."""
    return Notification.objects.filter(flow=batch.flow, row_number__isnull=False)
