"""Many notifications at once, by the rules of intake.py: a few statements instead of a few for each.

`submit_many()` takes notifications that have nothing to do with each other; `insert_rows()` stores the rows of a batch,
which differ only in whom they go to and what they say (bulk/loading.py).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from notifications import intake, suppressions
from notifications.intake import Accepted, Submission
from notifications.models import SANDBOX_LANE, IdempotencyKey, Notification
from notifications.waking import wake
from users import directory
from users.directory import Destination, Search
from users.finding_many import Known, Newcomer, make_many
from users.refusals import IdempotencyKeyReused, Refused

#: What differs from one notification to the next, with its type in SQL; everything else is the same for all.
_OF_SUBMISSIONS = {
    "id": "uuid",
    "flow_id": "bigint",
    "recipient_id": "bigint",
    "user_id": "text",
    "channel": "text",
    "priority": "text",
    "address": "text",
    "title": "text",
    "message": "text",
    "html": "text",
    "url": "text",
    "category": "text",
    "reference": "text",
    "metadata": "jsonb",
    "scheduled_for": "timestamptz",
    "expires_at": "timestamptz",
    "lifetime": "interval",
}
_OF_BATCH = {
    "id": "uuid",
    "row_number": "bigint",
    "recipient_id": "bigint",
    "user_id": "text",
    "address": "text",
    "title": "text",
    "message": "text",
    "html": "text",
}

_INSERT = """
INSERT INTO notifications_notification (
    id, project_id, flow_id, recipient_id, user_id, channel, priority, live, api_key_id, row_number, once_per_address,
    address, title, message, html, url, category, reference, metadata, status,
    failure_kind, failure_code, failure_detail, provider, provider_message_id,
    created_at, scheduled_for, due_at, expires_at, fence, attempt_count, lapses, resends
)
SELECT
    {id}, {project_id}, {flow_id}, {recipient_id}, {user_id}, {channel}, {priority}, {live}, {api_key_id},
    {row_number}, {once_per_address}, {address}, {title}, {message}, {html}, {url}, {category}, {reference},
    {metadata}, 'pending', '', '', '', '', '',
    moment, {scheduled_for}, due, coalesce({expires_at}, due + {lifetime}), 0, 0, 0, 0
FROM unnest({arrays}) WITH ORDINALITY AS given ({names}, ordinality)
CROSS JOIN users_project project
CROSS JOIN clock_timestamp() AS moment
CROSS JOIN LATERAL (SELECT greatest({scheduled_for}, moment) AS due) AS clock
WHERE project.id = %(project_id)s {condition}
ORDER BY ordinality
{ending}
"""

_CONSTANTS = {
    "project_id": "bigint",
    "flow_id": "bigint",
    "channel": "text",
    "priority": "text",
    "live": "boolean",
    "api_key_id": "bigint",
    "row_number": "bigint",
    "once_per_address": "boolean",
    "url": "text",
    "category": "text",
    "reference": "text",
    "metadata": "jsonb",
    "scheduled_for": "timestamptz",
    "expires_at": "timestamptz",
    "lifetime": "interval",
}


def _statement(varying: Mapping[str, str], condition: str = "", ending: str = "") -> str:
    """The INSERT in which `varying` come as arrays, and the other columns once."""
    columns = {name: f"%({name})s::{kind}" for name, kind in _CONSTANTS.items()}
    columns |= {name: f"given.{name}" for name in varying}
    return _INSERT.format(
        **columns,
        arrays=", ".join(f"%({name})s::{kind}[]" for name, kind in varying.items()),
        names=", ".join(varying),
        condition=condition,
        ending=ending,
    )


_STORED = [field.attname for field in Notification._meta.concrete_fields]
INSERT_SUBMISSIONS = _statement(
    _OF_SUBMISSIONS,
    condition="AND NOT EXISTS ("
    + suppressions.stopped_by("given.address", "given.channel", "given.category")
    + ")",
    ending="RETURNING " + ", ".join(f"notifications_notification.{name}" for name in _STORED),
)
# Whoever is suppressed by the time a row of a batch is claimed does not get it (queue.CANCEL_SUPPRESSED): that is in
# the ledger then, beside those who did.
INSERT_ROWS = _statement(_OF_BATCH, ending="ON CONFLICT DO NOTHING")


def submit_many(submissions: Sequence[Submission]) -> list[Accepted | Refused]:
    """Store those that can be stored, in one transaction, and wake their lanes. All of one project.

    One answer for each, in order: what `submit()` returns or raises. Raises IdempotencyKeyReused for all where one of
    them has a key that was used for something else.
    """
    for last_try in (False, False, True):
        try:
            with transaction.atomic():
                return _Intake(submissions).store()
        except IntegrityError:
            # A recipient was made or forgotten between our look and our insert: then look again.
            if last_try:
                raise
    raise AssertionError("unreachable")


@dataclass(slots=True)
class _Place:
    """Where one of them goes."""

    submission: Submission
    lane: str
    destination: Destination


class _Intake:
    """One try to store many."""

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self.submissions = submissions
        self.project_id = submissions[0].project_id if submissions else 0
        self.answers: dict[int, Accepted | Refused] = {}
        self.places: dict[int, _Place] = {}

    def store(self) -> list[Accepted | Refused]:
        self._answer_repeated()
        self._find_places()
        self._make_newcomers()
        self._insert()
        for lane in {place.lane for at, place in self.places.items() if self._is_stored(at)}:
            transaction.on_commit(lambda lane=lane: wake(lane), robust=True)  # type: ignore[misc]
        return [self.answers[at] for at in range(len(self.submissions))]

    def _is_stored(self, at: int) -> bool:
        return isinstance(self.answers[at], Accepted)

    def _answer_repeated(self) -> None:
        """Those whose key stored something before are answered with that."""
        keyed = {each.idempotency_key: at for at, each in enumerate(self.submissions)}
        keyed.pop("", None)
        if not keyed:
            return
        intake.lock_key(self.submissions[next(iter(keyed.values()))])
        known = IdempotencyKey.objects.select_related("notification")
        for each in known.filter(project_id=self.project_id, key__in=keyed):
            at = keyed[each.key]
            if bytes(each.fingerprint) != self.submissions[at].fingerprint:
                raise IdempotencyKeyReused
            self.answers[at] = Accepted(intake.as_accepted(each.notification), replayed=True)

    def _find_places(self) -> None:
        known = Known(self.project_id, self._searches())
        for at, submission in enumerate(self.submissions):
            if at in self.answers:
                continue
            try:
                self.places[at] = self._place(submission, known)
            except Refused as refusal:
                self.answers[at] = refusal

    def _place(self, submission: Submission, known: Known) -> _Place:
        lane = intake.lane_for(submission.channel, submission.priority, submission.live)
        in_sandbox = lane == SANDBOX_LANE
        return _Place(submission, lane, intake.destination_of(submission, in_sandbox, known.answer))

    def _searches(self) -> Iterable[Search]:
        for at, submission in enumerate(self.submissions):
            if at not in self.answers:
                yield from _searches_of(submission)

    def _make_newcomers(self) -> None:
        """Who is named twice is made once."""
        by_channel: dict[str, list[_Place]] = defaultdict(list)
        for place in self.places.values():
            if place.destination.recipient_id is None:
                by_channel[place.submission.channel].append(place)
        for channel, places in by_channel.items():
            newcomers = [_newcomer(place.destination) for place in places]
            made = make_many(self.project_id, channel, newcomers)
            for place, (recipient_id, user_id) in zip(places, made, strict=True):
                place.destination = Destination(user_id, place.destination.address, recipient_id)

    def _insert(self) -> None:
        if not self.places:
            return
        columns = {at: _columns(self.project_id, place) for at, place in self.places.items()}
        first = self.submissions[0]
        same = {"live": first.live, "api_key_id": first.api_key_id, "once_per_address": False}
        with connection.cursor() as cursor:
            cursor.execute(
                INSERT_SUBMISSIONS,
                _arrays(_OF_SUBMISSIONS, columns.values())
                | same
                | {"project_id": self.project_id, "row_number": None},
            )
            stored = {row[0]: row for row in cursor.fetchall()}
        for at, values in columns.items():
            self.answers[at] = self._answer(at, stored.get(values["id"]))
        self._remember_keys()

    def _answer(self, at: int, row: tuple[Any, ...] | None) -> Accepted | Refused:
        if row:
            return Accepted(intake.from_row(_STORED, row))
        place = self.places[at]
        field = "recipient" if place.submission.recipient else "user_id"
        return suppressions.refusal_of(
            self.project_id, place.submission.channel, place.destination.address, field
        )

    def _remember_keys(self) -> None:
        IdempotencyKey.objects.bulk_create(
            IdempotencyKey(
                project_id=self.project_id,
                key=self.submissions[at].idempotency_key,
                fingerprint=self.submissions[at].fingerprint,
                notification=answer.notification,
            )
            for at in self.places
            if self.submissions[at].idempotency_key
            and isinstance(answer := self.answers[at], Accepted)
        )


def _searches_of(submission: Submission) -> Iterable[Search]:
    """All that `directory.find` may ask for it. What is refused without asking asks nothing."""
    project_id, recipient = submission.project_id, submission.recipient
    try:
        search = directory.search_for(project_id, submission.channel, submission.user_id, recipient)
    except Refused:
        return ()
    if search:
        return (search,)
    return tuple(each for each in directory.searches_by_phone(project_id, recipient) if each)


def _newcomer(destination: Destination) -> Newcomer:
    """Who has an id of ours is known by the address, and is one person however often it is named."""
    if destination.new_address:
        return Newcomer(address=destination.new_address)
    return Newcomer(user_id=destination.user_id)


def _columns(project_id: int, place: _Place) -> dict[str, Any]:
    submission, destination = place.submission, place.destination
    flow_id = intake.flow_of(project_id, place.lane)
    values = intake.values_of(submission, flow_id, in_sandbox=False)
    return values | {
        "recipient_id": destination.recipient_id,
        "user_id": destination.user_id,
        "address": destination.address,
    }


def insert_rows(rows: Sequence[Mapping[str, Any]], same: Mapping[str, Any]) -> int:
    """Store rows of one batch, but those whose number or address is there already. Returns how many were stored.

    `rows`: recipient_id, user_id, address, row_number, title, message, html of each; `same`: what they have in common,
    by the columns' names. Without `expires_at` they do not expire: at some rate a batch takes weeks.

    Raises IntegrityError where a recipient is not there.
    """
    if not rows:
        return 0
    columns = ({"id": uuid7(), **row} for row in rows)
    constant = {"reference": "", "metadata": json.dumps({}), "lifetime": None}
    with connection.cursor() as cursor:
        cursor.execute(INSERT_ROWS, _arrays(_OF_BATCH, columns) | constant | dict(same))
        return int(cursor.rowcount)


def _arrays(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list for each column, as `unnest` takes them."""
    rows = list(rows)
    return {name: [row[name] for row in rows] for name in names}
