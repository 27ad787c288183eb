"""Intake: from a checked request to a stored notification, in one transaction.

`submit()` is the one door: the API, commands and the admin's resend all go through it. When it returns, the
notification is committed; only then is its lane woken, which never fails and never blocks. Many at once, by the same
rules: intake_many.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from notifications import providers, suppressions
from notifications.models import SANDBOX_LANE, IdempotencyKey, Notification, Status, lane_of
from notifications.retry import lifetime
from notifications.suppressions import Planned
from notifications.waking import wake
from users import directory
from users.directory import Destination, Search
from users.refusals import IdempotencyKeyInUse, IdempotencyKeyReused, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A notification that is asked for: checked in shape, not yet in meaning.

    `user_id` and `recipient` may be empty, but not both. `fingerprint` is of the whole body, and matters only beside an
    `idempotency_key`.
    """

    project_id: int
    channel: str
    message: str
    live: bool = True
    api_key_id: int | None = None
    user_id: str = ""
    recipient: str = ""
    priority: str = "normal"
    title: str = ""
    html: str = ""
    url: str = ""
    category: str = ""
    reference: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    scheduled_for: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: str = ""
    fingerprint: bytes = b""
    resend_of: UUID | None = None

    @property
    def named_by(self) -> str:
        """The field that says where it goes, for a refusal to name."""
        return "recipient" if self.recipient else "user_id"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The stored notification; `replayed` when the same request had stored it before."""

    notification: Notification
    replayed: bool = False


# A destination that is no recipient's own address: a new recipient's, a fallback.
_GIVEN = "SELECT %(recipient_id)s::bigint, %(user_id)s, %(address)s"

#: `{found}` is a query for (recipient_id, user_id, address): nothing is stored where it finds nobody, nobody who can be
#: reached, or a suppressed address.
_INSERT = """
INSERT INTO notifications_notification (
    id, project_id, flow_id, recipient_id, user_id, channel, priority, live, api_key_id,
    address, title, message, html, url, category, reference, metadata, status,
    failure_kind, failure_code, failure_detail, provider, provider_message_id,
    created_at, scheduled_for, due_at, expires_at, fence, attempt_count, lapses, resends, resend_of_id
)
SELECT
    %(id)s, %(project_id)s, %(flow_id)s, found.recipient_id, found.user_id, %(channel)s, %(priority)s,
    %(live)s, %(api_key_id)s, found.address, %(title)s, %(message)s, %(html)s, %(url)s, %(category)s,
    %(reference)s, %(metadata)s::jsonb, 'pending', '', '', '', '', '',
    moment, %(scheduled_for)s, due, coalesce(%(expires_at)s, due + %(lifetime)s), 0, 0, 0, 0, %(resend_of)s
FROM
    ({found}) AS found (recipient_id, user_id, address),
    (SELECT moment, greatest(%(scheduled_for)s, moment) AS due FROM clock_timestamp() AS moment) AS clock,
    users_project project
WHERE project.id = %(project_id)s AND (found.address <> '' OR %(in_sandbox)s) AND NOT EXISTS ({stopped})
RETURNING {stored}
"""
_STORED = [field.attname for field in Notification._meta.concrete_fields]
INSERTS = {
    query: _INSERT.format(
        found=query,
        stopped=suppressions.stopped_by("found.address", "%(channel)s::text", "%(category)s::text"),
        stored=", ".join(f"notifications_notification.{name}" for name in _STORED),
    )
    for query in (directory.BY_USER_ID, directory.BY_ADDRESS, _GIVEN)
}

#: (project, lane) -> id of its flow. Flows are never deleted.
_flows: dict[tuple[int, str], int] = {}


def submit(submission: Submission) -> Accepted:
    """Store the notification, and wake its lane.

    Raises Refused (nothing was stored, the recipient neither), Conflict (`suppressed`), IdempotencyKeyInUse or
    IdempotencyKeyReused.
    """
    lane = lane_for(submission.channel, submission.priority, submission.live)
    flow_id = flow_of(submission.project_id, lane)
    accepted = _store_whatever_races(submission, flow_id, in_sandbox=lane == SANDBOX_LANE)
    if not accepted.replayed:
        transaction.on_commit(lambda: wake(lane), robust=True)
    return accepted


def fingerprint(body: Any, live: bool) -> bytes:
    """Of what was asked for, not of how it was spelled: the order of names does not matter.

    A live request is never answered with what a test key has sent to the sandbox.
    """
    return hashlib.sha256(json.dumps([live, body], sort_keys=True).encode()).digest()


def lane_for(channel: str, priority: str, live: bool) -> str:
    """Live messages go through their channel's vendor; everything else to the sandbox.

    Raises Refused where a live message has no vendor and must not go to the sandbox: nobody shall believe that
    mail went out which did not.
    """
    if not live:
        return SANDBOX_LANE
    if providers.for_channel(channel):
        return lane_of(channel, priority)
    if settings.SANDBOX:
        return SANDBOX_LANE
    raise Refused(
        "channel_not_configured",
        f"This service has no provider for {channel}. Its operator sets one up by environment variables.",
        "channel",
    )


def _store_whatever_races(submission: Submission, flow_id: int, in_sandbox: bool) -> Accepted:
    """A recipient may be made or forgotten between our look and our insert: then look again."""
    for last_try in (False, False, True):
        try:
            with _savepoint_in_a_transaction():
                return _store(submission, flow_id, in_sandbox)
        except IntegrityError as error:
            if last_try or "notification_resend_of" in str(error) or "resend_of_id" in str(error):
                raise
    raise AssertionError("unreachable")


def _savepoint_in_a_transaction() -> AbstractContextManager[None]:
    """A caller's transaction (a resend's) must survive an insert that fails; without one, none is needed."""
    return transaction.atomic() if connection.in_atomic_block else nullcontext()


def _store(submission: Submission, flow_id: int, in_sandbox: bool) -> Accepted:
    if not submission.idempotency_key:
        return Accepted(_insert(submission, flow_id, in_sandbox))
    with transaction.atomic():
        return _store_once(submission, flow_id, in_sandbox)


def _store_once(submission: Submission, flow_id: int, in_sandbox: bool) -> Accepted:
    """The first request of a key stores; the same again is answered from what is stored."""
    lock_key(submission.project_id, submission.idempotency_key)
    known = (
        IdempotencyKey.objects.select_related("notification")
        .filter(project_id=submission.project_id, key=submission.idempotency_key)
        .first()
    )
    if known:
        if bytes(known.fingerprint) != submission.fingerprint:
            raise IdempotencyKeyReused
        return Accepted(as_accepted(known.notification), replayed=True)
    notification = _insert(submission, flow_id, in_sandbox)
    IdempotencyKey.objects.create(
        project_id=submission.project_id,
        key=submission.idempotency_key,
        fingerprint=submission.fingerprint,
        notification=notification,
    )
    return Accepted(notification)


def lock_key(project_id: int, key: str) -> None:
    """Hold the key until the transaction ends. Raises IdempotencyKeyInUse where another request does."""
    name = f"{project_id}:{key}".encode()
    number = int.from_bytes(hashlib.sha256(name).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (number,))
        if not cursor.fetchone()[0]:
            raise IdempotencyKeyInUse


def as_accepted(notification: Notification) -> Notification:
    """The notification as its first answer showed it, whatever has become of it since."""
    notification.status = Status.PENDING
    notification.failure_kind = notification.failure_code = notification.failure_detail = ""
    notification.provider = ""
    notification.attempt_count = 0
    notification.due_at = max(
        notification.created_at, notification.scheduled_for or notification.created_at
    )
    notification.sent_at = notification.delivered_at = notification.read_at = None
    return notification


def _insert(submission: Submission, flow_id: int, in_sandbox: bool) -> Notification:
    """Raises Refused where the message cannot reach anybody."""
    values = values_of(submission, flow_id, in_sandbox)
    search = directory.search_for(
        submission.project_id, submission.channel, submission.user_id, submission.recipient
    )
    # Nearly every notification goes to somebody we know. One statement is a transaction by itself.
    known = _insert_found(search.query, values | search.parameters()) if search else None
    return known or _insert_destination(submission, values, destination_of(submission, in_sandbox))


def _insert_destination(
    submission: Submission, values: dict[str, Any], destination: Destination
) -> Notification:
    with transaction.atomic(savepoint=False):
        recipient_id = destination.recipient_id or directory.make(
            values["project_id"], values["channel"], destination
        )
        given = {
            "recipient_id": recipient_id,
            "user_id": destination.user_id,
            "address": destination.address,
        }
        notification = _insert_found(_GIVEN, values | given)
        if notification is None:
            raise suppressions.refusal_of(
                submission.project_id, submission.channel, destination.address, submission.named_by
            )
    return notification


def destination_of(
    submission: Submission,
    in_sandbox: bool,
    answer: Callable[[Search], Destination | None] = directory.ask,
) -> Destination:
    """Where it goes: to whom `answer` knows, to somebody new, to the fallback. Raises Refused."""
    destination = directory.find(
        submission.project_id,
        submission.channel,
        submission.user_id,
        submission.recipient,
        answer,
    )
    if destination.address or in_sandbox:
        return destination
    fallback = {"email": settings.FALLBACK_EMAIL, "sms": settings.FALLBACK_PHONE}
    address = fallback[submission.channel]
    if address:
        return Destination(destination.user_id, address, destination.recipient_id)
    raise _no_address(submission, destination)


def planned(submission: Submission, destination: Destination) -> Planned:
    """What the list of suppressions is asked about it."""
    return Planned(
        submission.channel, destination.address, submission.category, submission.named_by
    )


def _no_address(submission: Submission, destination: Destination) -> Refused:
    name = {"email": "e-mail address", "sms": "phone number"}[submission.channel]
    key = {"email": "email", "sms": "phone"}[submission.channel]
    method = "PUT" if destination.recipient_id is None else "PATCH"
    return Refused(
        "no_address",
        f"This user has no {name}. Add one with {method} /api/v1/users/{destination.user_id} "
        f'{{"{key}": "..."}}, or name one in `recipient`.',
        submission.named_by,
    )


def _insert_found(query: str, parameters: dict[str, Any]) -> Notification | None:
    """The notification as it is stored, for the one whom the query finds."""
    with connection.cursor() as cursor:
        cursor.execute(INSERTS[query], parameters)
        row = cursor.fetchone()
    return from_row(_STORED, row) if row else None


def from_row(names: list[str], row: tuple[Any, ...]) -> Notification:
    """The notification that a RETURNING of these columns describes."""
    notification = Notification.from_db(connection.alias, names, row)
    # As jsonb gives it back (other order of names, other spelling of numbers), now as ever after.
    notification.metadata = json.loads(notification.metadata)
    return notification


def values_of(submission: Submission, flow_id: int, in_sandbox: bool) -> dict[str, Any]:
    """What is stored of it, but for whom it goes to."""
    return {
        "id": uuid7(),
        "project_id": submission.project_id,
        "flow_id": flow_id,
        "channel": submission.channel,
        "priority": submission.priority,
        "live": submission.live,
        "api_key_id": submission.api_key_id,
        "title": submission.title,
        "message": submission.message,
        "html": submission.html,
        "url": submission.url,
        "category": submission.category,
        "reference": submission.reference,
        "metadata": json.dumps(submission.metadata),
        "scheduled_for": submission.scheduled_for,
        "expires_at": submission.expires_at,
        "lifetime": lifetime(submission.channel, submission.priority),
        "resend_of": submission.resend_of,
        "in_sandbox": in_sandbox,
    }


def flow_of(project_id: int, lane: str) -> int:
    """The id of the project's flow in the lane, made when first needed."""
    known = _flows.get((project_id, lane))
    if known is not None:
        return known
    flow_id = _make_flow(project_id, lane)
    # Not before: a caller's transaction that is rolled back takes the new flow with it.
    transaction.on_commit(lambda: _flows.update({(project_id, lane): flow_id}))
    return flow_id


def _make_flow(project_id: int, lane: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_flow (project_id, lane, paused) VALUES (%s, %s, false) "
            "ON CONFLICT (lane, project_id) WHERE batch_id IS NULL DO UPDATE SET lane = excluded.lane "
            "RETURNING id, xmax = 0",
            (project_id, lane),
        )
        flow_id, made = cursor.fetchone()
        if made:
            # CLAIM is planned from this small table's statistics: measured 220 ms without, 0.9 with them.
            cursor.execute("ANALYZE notifications_flow")
    return int(flow_id)


def forget_flows() -> None:
    """For tests and for a database that was restored beneath a running process."""
    _flows.clear()
