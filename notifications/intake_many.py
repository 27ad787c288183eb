"""Many notifications at once, by the rules of intake.py: a few statements instead of a few for each.

`submit_many()` takes notifications that have nothing to do with each other; `insert_rows()` stores the rows of a batch,
which differ only in whom they go to and what they say (bulk/loading.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, cast

from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from notifications import intake, suppressions
from notifications.intake import Accepted, Submission
from notifications.models import SANDBOX_LANE, IdempotencyKey, Notification, Status
from notifications.waking import wake
from users import directory
from users.directory import Destination, Search
from users.finding_many import Expected, Known, make_expected
from users.refusals import IdempotencyKeyReused, Refused

#: Notifications that one call may bring.
LARGEST_CALL = 1000

#: What may differ from one notification to the next, with its type in SQL.
_COLUMNS = {
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
    "row_number": "bigint",
}
#: What is the same for all.
_CONSTANTS = {
    "project_id": "bigint",
    "live": "boolean",
    "api_key_id": "bigint",
    "once_per_address": "boolean",
}
#: What differs between the rows of a batch.
_OF_BATCH = ("id", "row_number", "recipient_id", "user_id", "address", "title", "message", "html")

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
WHERE project.id = %(project_id)s
ORDER BY ordinality
{ending}
"""


@lru_cache(maxsize=256)
def _statement(varying: tuple[str, ...], ending: str = "") -> str:
    """The INSERT in which `varying` come as arrays, and the other columns once."""
    columns = {name: f"%({name})s::{kind}" for name, kind in (_COLUMNS | _CONSTANTS).items()}
    columns |= {name: f"given.{name}" for name in varying}
    return _INSERT.format(
        **columns,
        arrays=", ".join(f"%({name})s::{_COLUMNS[name]}[]" for name in varying),
        names=", ".join(varying),
        ending=ending,
    )


# What the database alone knows. The moments as text: most are alike, and each text is read once.
_RETURNING = """
RETURNING notifications_notification.id, notifications_notification.metadata,
          notifications_notification.created_at::text, notifications_notification.due_at::text,
          notifications_notification.expires_at::text
"""

# Whoever is suppressed by the time a row is claimed does not get it (queue.CANCEL_SUPPRESSED): that is in the ledger
# then, beside those who did. `submit_many` has looked before; a batch leaves it to the claim.
INSERT_ROWS = _statement(_OF_BATCH, "ON CONFLICT DO NOTHING")


def key_of(call_key: str, position: int) -> str:
    """The idempotency key of one notification of a call that has one."""
    return f"{call_key}#{position}"


def submit_many(submissions: Sequence[Submission], call_key: str = "") -> list[Accepted | Refused]:
    """Store those that can be stored, in one transaction, and wake their lanes. All of one API key; none a resend.

    One answer for each, in order: what `submit()` would return or raise. With a `call_key`, their idempotency keys are
    `key_of()` it, and one fingerprint is that of the whole call. Raises IdempotencyKeyReused where it was another call's,
    IdempotencyKeyInUse where that call is under way.
    """
    if not submissions:
        return []
    lane_of = cache(_lane_of)
    lanes = [lane_of(each.channel, each.priority, each.live) for each in submissions]
    # Before the transaction: making a flow takes a lock to its end, and two calls could want two flows in turn.
    flows = {
        lane: intake.flow_of(submissions[0].project_id, lane)
        for lane in sorted({lane for lane in lanes if isinstance(lane, str)})
    }
    for last_try in (False, False, True):
        try:
            with transaction.atomic():
                return _Intake(submissions, lanes, flows, call_key).store()
        except IntegrityError:
            # A recipient was made or forgotten between our look and our insert: then look again.
            if last_try:
                raise
    raise AssertionError("unreachable")


def _lane_of(channel: str, priority: str, live: bool) -> str | Refused:
    try:
        return intake.lane_for(channel, priority, live)
    except Refused as refusal:
        return refusal


@dataclass(slots=True)
class _Place:
    """Where one of them goes."""

    submission: Submission
    lane: str
    destination: Destination


class _Intake:
    """One try to store many."""

    def __init__(
        self,
        submissions: Sequence[Submission],
        lanes: Sequence[str | Refused],
        flows: Mapping[str, int],
        call_key: str,
    ) -> None:
        self.submissions = submissions
        self.lanes = lanes
        self.flows = flows
        self.call_key = call_key
        self.project_id = submissions[0].project_id
        self.answers: dict[int, Accepted | Refused] = {
            at: lane for at, lane in enumerate(lanes) if isinstance(lane, Refused)
        }
        self.places: dict[int, _Place] = {}
        self.expected: list[Expected] = []

    def store(self) -> list[Accepted | Refused]:
        if self.call_key:
            self._answer_repeated()
        self._find_places()
        self._make_recipients()
        self._insert()
        for lane in {place.lane for place in self.places.values()}:
            transaction.on_commit(lambda lane=lane: wake(lane), robust=True)  # type: ignore[misc]
        return [self.answers[at] for at in range(len(self.submissions))]

    def _answer_repeated(self) -> None:
        """Those whose key stored something before are answered with that.

        Whatever the call's key has stored must be of this very call, also what is not in it again.
        """
        intake.lock_key(self.project_id, self.call_key)
        positions = {each.idempotency_key: at for at, each in enumerate(self.submissions)}
        keys = [key_of(self.call_key, position) for position in range(LARGEST_CALL)]
        known = IdempotencyKey.objects.select_related("notification")
        for each in known.filter(project_id=self.project_id, key__in=keys):
            if bytes(each.fingerprint) != self.submissions[0].fingerprint:
                raise IdempotencyKeyReused
            at = positions.get(each.key)
            if at is not None and at not in self.answers:
                self.answers[at] = Accepted(intake.as_accepted(each.notification), replayed=True)

    def _find_places(self) -> None:
        """Where somebody was to be made for one that is suppressed, all look again: that person is not there."""
        while not self._are_places_found():
            pass

    def _are_places_found(self) -> bool:
        known = Known(self.project_id, self._searches())
        self.places = {}
        refusals: dict[int, Refused] = {}
        for at in range(len(self.submissions)):
            if at in self.answers:
                continue
            try:
                self.places[at] = self._place(at, known)
            except Refused as refusal:
                refusals[at] = refusal
        self.expected = known.expected
        if self._refuse_suppressed():
            return False
        self.answers |= refusals
        return True

    def _searches(self) -> Iterable[Search]:
        for at, submission in enumerate(self.submissions):
            if at not in self.answers:
                yield from _searches_of(submission)

    def _place(self, at: int, known: Known) -> _Place:
        """Whoever an earlier one makes is known to the later ones, as if they came one by one."""
        submission, lane = self.submissions[at], self.lanes[at]
        assert isinstance(lane, str)
        destination = intake.destination_of(submission, lane == SANDBOX_LANE, known.answer)
        if destination.recipient_id is None:
            destination = known.expect(submission.channel, destination)
        return _Place(submission, lane, destination)

    def _refuse_suppressed(self) -> bool:
        """Whether somebody was to be made for one that is refused."""
        positions = list(self.places)
        refusals = suppressions.refusals_among(
            self.project_id,
            [intake.planned(each.submission, each.destination) for each in self.places.values()],
        )
        refused = [self.places.pop(positions[index]) for index in refusals]
        self.answers |= {positions[index]: refusal for index, refusal in refusals.items()}
        return any(_is_expected(place.destination) for place in refused)

    def _make_recipients(self) -> None:
        made = make_expected(self.project_id, self.expected)
        for place in self.places.values():
            if _is_expected(place.destination):
                number = cast("int", place.destination.recipient_id)
                place.destination = replace(place.destination, recipient_id=made[number])

    def _insert(self) -> None:
        if not self.places:
            return
        columns = {at: self._columns(place) for at, place in self.places.items()}
        first = self.submissions[0]
        same = {
            "project_id": self.project_id,
            "live": first.live,
            "api_key_id": first.api_key_id,
            "once_per_address": False,
        }
        varying, parameters = _parameters(list(columns.values()))
        with connection.cursor() as cursor:
            cursor.execute(_statement(varying, _RETURNING), parameters | same)
            stored = {row[0]: row for row in cursor.fetchall()}
        read = cache(datetime.fromisoformat)
        for at, values in columns.items():
            _, metadata, created_at, due_at, expires_at = stored[values["id"]]
            known = _UNSET | same | values
            known |= {"metadata": metadata, "created_at": read(created_at), "due_at": read(due_at)}
            known["expires_at"] = expires_at and read(expires_at)
            self.answers[at] = Accepted(intake.from_row(_STORED, _as_row(known)))
        if self.call_key:
            self._remember_keys()

    def _columns(self, place: _Place) -> dict[str, Any]:
        destination = place.destination
        values = intake.values_of(place.submission, self.flows[place.lane], in_sandbox=False)
        return values | {
            "recipient_id": destination.recipient_id,
            "user_id": destination.user_id,
            "address": destination.address,
            "row_number": None,
        }

    def _remember_keys(self) -> None:
        IdempotencyKey.objects.bulk_create(
            IdempotencyKey(
                project_id=self.project_id,
                key=place.submission.idempotency_key,
                fingerprint=place.submission.fingerprint,
                notification=cast("Accepted", self.answers[at]).notification,
            )
            for at, place in self.places.items()
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


def _is_expected(destination: Destination) -> bool:
    """Whether a number stands for its recipient (`Known.expect`)."""
    return destination.recipient_id is not None and destination.recipient_id < 0


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


_STORED = [field.attname for field in Notification._meta.concrete_fields]
_BLANK = Notification(status=Status.PENDING)
_UNSET = {name: getattr(_BLANK, name) for name in _STORED}
_as_row = itemgetter(*_STORED)


def _parameters(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The names of the columns that differ between the rows; and a list for each of those, one value for each other."""
    first, varying, parameters = rows[0], ["id"], {"id": [row["id"] for row in rows]}
    for name in _COLUMNS:
        if name == "id":
            continue
        value = first[name]
        if all(row[name] == value for row in rows):
            parameters[name] = value
        else:
            varying.append(name)
            parameters[name] = [row[name] for row in rows]
    return tuple(varying), parameters


def _arrays(names: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """One list for each column, as `unnest` takes them."""
    rows = list(rows)
    return {name: [row[name] for row in rows] for name in names}
