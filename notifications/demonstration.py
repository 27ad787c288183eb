"""Makes a ledger to look at: two weeks of a busy service, by COPY, with every kind of trouble in it.

Nothing of it is ever sent to anybody. All addresses are of example.com and example.test, which no mail server has,
and the phones end in 555 01xx, which are given to nobody. What is live has ended, is held for an operator, or
waits in the flow of a batch that is paused; whatever moves by itself (what is scheduled, what is tried again, what
is reviewed) was sent with a test key and waits in the sandbox's lane, from which nothing leaves the machine. Never in
production; and never into a project of these names that somebody uses.

It only adds. The same number of rows tells the same stories (a fixed seed), at other times.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from notifications import counting, providers
from notifications.demonstration_stories import (
    APPOINTMENT,
    FIRST_NAMES,
    GREYLISTED,
    HOURS,
    INVOICE,
    LAST_NAMES,
    LETTERS,
    MAILGUN,
    NEWSLETTER,
    NO_ANSWER,
    ORDER,
    PROJECT_SHARES,
    PROJECTS,
    PROVIDERS,
    QUEUED,
    SANDBOX,
    SANDBOX_INBOX,
    SMTP,
    TWILIO_IN_TROUBLE,
    Call,
    Fate,
    Letter,
)
from notifications.inbox.items import State
from notifications.inbox.nudging import InboxKey
from notifications.intake import flow_of
from notifications.models import SANDBOX_LANE, Batch, Circuit, Flow, lane_of
from users.models import Project, Recipient
from users.refusals import Refused

DAYS = 14
SEED = 20260114
#: Notifications that one transaction stores.
CHUNK = 20_000
#: Notifications to a recipient.
EACH = 20
#: Phones that there are to give out in a project.
AREAS = [a for a in range(201, 990) if a // 10 % 10 != 9 and a % 100 != 11]
PHONES = len(AREAS) * 100
#: The day and the hours in which Twilio refused our token.
TROUBLE = (10, range(13, 16))
#: One in so many was sent with a test key.
TEST_KEYS = 33

NOTIFICATION = (
    "id, project_id, flow_id, recipient_id, user_id, channel, priority, live, row_number, address, title, message, "
    "html, url, category, reference, metadata, status, failure_kind, failure_code, failure_detail, provider, "
    "provider_message_id, created_at, scheduled_for, due_at, expires_at, sent_at, delivered_at, read_at, fence, "
    "attempt_count, lapses, review_at, resends, resend_of_id, inbox_position, archived_at"
)
ATTEMPT = "notification_id, fence, provider, started_at, finished_at, outcome, code, detail, provider_message_id"
RECEIPT = (
    "provider, event_id, event, reject_reason, code, detail, occurred_at, received_at, named_id, "
    "provider_message_id, raw, notification_id, applied_at"
)
INBOX = "recipient_id, live, position, unread"
SUPPRESSION = "id, project_id, channel, address, reason, source, detail, notification_id"

RESERVE_IDS = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
# Of each that arrived within the time for which changes are kept. What was read was read before it was counted.
RECORD_ARRIVALS = """
INSERT INTO notifications_inboxevent (inbox_id, number, kind, notification_id, unread, at)
SELECT inbox.id, inbox_position, 'created', arrived.id, arrived.unread, delivered_at
FROM (
    SELECT id, recipient_id, live, inbox_position, delivered_at,
           count(*) FILTER (WHERE read_at IS NULL) OVER (PARTITION BY recipient_id, live ORDER BY inbox_position) AS unread
    FROM notifications_notification
    WHERE project_id = ANY(%(projects)s) AND inbox_position IS NOT NULL
) arrived
JOIN notifications_inbox inbox USING (recipient_id, live)
WHERE delivered_at > now() - make_interval(days => %(kept)s)
"""
KEEP_STATISTICS = (
    "ANALYZE notifications_notification, notifications_attempt, notifications_receipt, notifications_suppression, "
    "notifications_inbox, notifications_inboxevent, users_recipient, users_address, notifications_flow, notifications_batch"
)
KEEP_STATISTICS_OF_COUNTS = "ANALYZE notifications_hourlycount, notifications_callcount"


@dataclass
class Space:
    """A project of the demonstration: its people by number, its flows by lane, its batches by day."""

    project: Project
    people: list[int]
    flows: dict[str, int]
    newsletters: list[Batch] = field(default_factory=list)
    rows: dict[int, int] = field(default_factory=dict)
    suppressed: set[tuple[str, int]] = field(default_factory=set)


@dataclass(slots=True)
class Story:
    """One notification: what it says, to whom (their number), when, through whom, and what becomes of it."""

    letter: Letter
    space: Space
    number: int
    accepted: float
    provider: str
    fate: Fate
    live: bool = True


@dataclass
class Chunk:
    """Lines for COPY, which go in together."""

    notifications: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    suppressions: list[str] = field(default_factory=list)


def seed(
    rows: int, project: str = "", advance: Callable[[int], object] = lambda done: None
) -> None:
    """Store so many notifications, with all that belongs to them, and count them. `advance` is told how many more.

    Raises Refused in production, and where a project of the demonstration has notifications already.
    """
    names = (project,) if project else PROJECTS
    _refuse_where_it_could_harm(names)
    newest = timezone.now() - counting.settled_after() - timedelta(seconds=10)
    teller = Teller(rows, names, newest)
    for chunk, stored in teller.chunks():
        with transaction.atomic():
            _store(chunk)
        advance(stored)
    teller.finish()
    with transaction.atomic():
        _store_inboxes(teller)
    _execute(KEEP_STATISTICS)
    counting.recount(newest - timedelta(days=DAYS, hours=1))
    counting.count(sys.maxsize)
    _execute(KEEP_STATISTICS_OF_COUNTS)


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _refuse_where_it_could_harm(names: Iterable[str]) -> None:
    if settings.PRODUCTION:
        raise Refused("production", "Invented data has no place in production: nothing was stored.")
    for name in names:
        if Recipient.objects.filter(project__name=name).exists():
            raise Refused(
                "in_use",
                f"The project {name!r} is in use already: nothing was stored. Choose another with --project.",
                "project",
            )


def _store(chunk: Chunk) -> None:
    _copy(f"notifications_notification ({NOTIFICATION})", chunk.notifications)
    _copy(f"notifications_attempt ({ATTEMPT})", chunk.attempts)
    _copy(f"notifications_receipt ({RECEIPT})", chunk.receipts)
    _copy(f"notifications_suppression ({SUPPRESSION})", chunk.suppressions)


def _store_inboxes(teller: Teller) -> None:
    lines = [
        _line(recipient_id, "t" if live else "f", inbox.position, inbox.unread)
        for (recipient_id, live), inbox in teller.inboxes.items()
    ]
    _copy(f"notifications_inbox ({INBOX})", lines)
    projects = [space.project.pk for space in teller.spaces]
    with connection.cursor() as cursor:
        cursor.execute(RECORD_ARRIVALS, {"projects": projects, "kept": settings.INBOX_EVENTS_KEPT})


def _copy(target: str, lines: list[str]) -> None:
    if not lines:
        return
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
        copy.write("".join(lines))


def _line(*cells: object) -> str:
    """A line for COPY of cells that need no escapes; None is NULL."""
    return "\t".join(["\\N" if cell is None else str(cell) for cell in cells]) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _at(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def email_of(number: int) -> str:
    """The person's address: in a domain that no mail server has."""
    first, last = _name_of(number)
    plain = "".join(letter for letter in last if letter.isascii() and letter.isalpha())
    return f"{first}.{plain}{number}@example.{'com' if number % 3 else 'test'}".lower()


def phone_of(number: int) -> str:
    """The person's phone: 555 01xx, which are given to nobody; empty where there are no more."""
    if number >= PHONES:
        return ""
    return f"+1{AREAS[number // 100]}55501{number % 100:02}"


def _name_of(number: int) -> tuple[str, str]:
    first = FIRST_NAMES[number % len(FIRST_NAMES)]
    return first, LAST_NAMES[number // len(FIRST_NAMES) % len(LAST_NAMES)]


def user_id_of(number: int) -> str:
    return str(10_000 + number) if number % 2 else f"customer-{number:06}"


class Teller:
    """Tells the stories one after the other, as they happened."""

    def __init__(self, rows: int, names: tuple[str, ...], newest: datetime) -> None:
        self.random = random.Random(SEED)  # noqa: S311  (nothing is secret)
        self.rows = rows
        self.newest = newest.timestamp()
        self.oldest = (newest - timedelta(days=DAYS)).timestamp()
        shares = PROJECT_SHARES[: len(names)]
        self.shares = list(accumulate(share / sum(shares) for share in shares))
        people = max(20, rows // EACH)
        self.spaces = [
            self._space(name, max(5, int(people * share / sum(shares))))
            for name, share in zip(names, shares, strict=True)
        ]
        self.failed: list[tuple[Space, int, Letter, str]] = []
        self.weights: dict[int, list[float]] = {}
        self.chunk = Chunk()
        self.inboxes: dict[InboxKey, State] = {}

    # --- Projects and their people ----------------------------------------------------------------

    @transaction.atomic
    def _space(self, name: str, people: int) -> Space:
        project, _ = Project.objects.get_or_create(
            name=name, defaults={"mandatory_categories": ["security"]}
        )
        with connection.cursor() as cursor:
            cursor.execute(RESERVE_IDS, ("users_recipient", people))
            numbers = [number for (number,) in cursor.fetchall()]
        _copy_people(project, numbers)
        lanes = {lane_of(letter.channel, letter.priority) for letter in LETTERS} | {SANDBOX_LANE}
        space = Space(project, numbers, {lane: flow_of(project.pk, lane) for lane in lanes})
        space.newsletters = [self._newsletter(space, part) for part in range(3)]
        return space

    def _newsletter(self, space: Space, part: int) -> Batch:
        """A batch that is over: the newsletters of one of the three parts of the time."""
        began = self.oldest + part * DAYS / 3 * 86400
        name = f"Autumn newsletter {part + 1}"
        ended = min(began + DAYS / 3 * 86400, self.newest)
        batch = _batch(space.project, name, self._id(began), "completed", began)
        batch.finished_at = datetime.fromtimestamp(ended, UTC)
        batch.save()
        Flow.objects.create(project=space.project, lane="email.low", batch=batch, paused=True)
        return batch

    # --- One after the other ----------------------------------------------------------------------

    def chunks(self) -> Iterator[tuple[Chunk, int]]:
        """Lines to store, and how many notifications are among them."""
        left = max(0, self.rows - len(self._waiting_numbers()))
        moments = self._moments(left)
        while left:
            size = min(CHUNK, left)
            self._tell(size, moments)
            yield self._taken(size)
            left -= size
        waiting = self._waiting_numbers()
        self._tell_what_waits(waiting)
        yield self._taken(len(waiting))

    def _taken(self, size: int) -> tuple[Chunk, int]:
        chunk, self.chunk = self.chunk, Chunk()
        return chunk, size

    def _moments(self, rows: int) -> Iterator[float]:
        """When each was accepted, in order: few at night, many in the morning."""
        hours = int((self.newest - self.oldest) // 3600)
        begins = [self.oldest + hour * 3600 for hour in range(hours)]
        weights = [HOURS[int(begin // 3600 % 24)] for begin in begins]
        ends = [rows * end / sum(weights) for end in accumulate(weights)]
        hour, first = 0, 0.0
        for number in range(rows):
            while number >= ends[hour] and hour < hours - 1:
                first, hour = ends[hour], hour + 1
            width = 3600 / (ends[hour] - first)
            yield begins[hour] + (number - first + self.random.random()) * width % 3600

    def _tell(self, size: int, moments: Iterator[float]) -> None:
        draw = self.random
        letters = draw.choices(LETTERS, [letter.weight for letter in LETTERS], k=size)
        spaces = draw.choices(self.spaces, cum_weights=self.shares, k=size)
        for letter, space in zip(letters, spaces, strict=True):
            self._tell_one(letter, space, next(moments))

    def _tell_one(self, letter: Letter, space: Space, accepted: float) -> None:
        draw = self.random
        number = int(draw.random() * len(space.people))
        if letter.channel == "sms":
            number %= PHONES
        live = draw.random() * TEST_KEYS > 1
        provider, fates = self._provider(letter.channel, live, accepted)
        (fate,) = draw.choices(fates, cum_weights=self._weights(fates))
        if live and (letter.channel, number) in space.suppressed:
            # Seldom does anybody go on writing to them.
            number = int(draw.random() * len(space.people)) % PHONES
        if live and (letter.channel, number) in space.suppressed:
            fate = _SUPPRESSED
        self._tell_story(Story(letter, space, number, accepted, provider, fate, live))

    def _tell_story(self, story: Story) -> None:
        fate, channel = story.fate, story.letter.channel
        written = self._write(story)
        if not story.live:
            return
        if fate.suppressed and (channel, story.number) not in story.space.suppressed:
            self._suppress(story.space, channel, story.number, fate, written)
        if fate.status == "failed" and len(self.failed) < self.rows / 100:
            self.failed.append((story.space, story.number, story.letter, written))

    def _weights(self, fates: tuple[Fate, ...]) -> list[float]:
        if id(fates) not in self.weights:
            self.weights[id(fates)] = list(accumulate(fate.weight for fate in fates))
        return self.weights[id(fates)]

    def _provider(self, channel: str, live: bool, accepted: float) -> tuple[str, tuple[Fate, ...]]:
        if not live:
            return "sandbox", SANDBOX_INBOX if channel == "in_app" else SANDBOX
        offers = PROVIDERS[channel]
        chosen = offers[0]
        if len(offers) > 1 and self.random.random() * 100 >= chosen[1]:
            chosen = offers[1]
        day, hour = divmod(accepted - self.oldest, 86400)
        if chosen[0] == "twilio" and day == TROUBLE[0] and hour // 3600 in TROUBLE[1]:
            return "twilio", TWILIO_IN_TROUBLE
        return chosen[0], chosen[2]

    def _id(self, moment: float) -> UUID:
        """A UUIDv7 of that moment."""
        return UUID(self._hex_id(moment))

    def _hex_id(self, moment: float) -> str:
        chance = self.random.getrandbits(74)
        low = 0x8 << 60 | chance & (1 << 60) - 1
        return f"{int(moment * 1000):012x}7{chance >> 62:03x}{low:016x}"

    def _write(self, story: Story, **special: Any) -> str:
        """The notification's line, and those of its attempts and its receipt. Returns its id.

        `special` cells are in place of those that follow from the story.
        """
        made = self._hex_id(story.accepted)
        calls, provider = story.fate.calls, story.provider
        taken = bool(calls) and calls[-1].outcome == "accepted"
        message_id = f"{provider}-{made[-20:]}" if taken else ""
        ended = self._write_calls(made, provider, calls, story.accepted, message_id)
        if story.fate.event:
            self._write_receipt(made, provider, story.fate, ended, message_id)
        cells = self._cells(story, ended, special)
        cells["inbox_position"] = self._place_in_inbox(story, cells)
        shown = _Shown(story, int(self.random.random() * 900_000) + 100_000)
        self.chunk.notifications.append(_notification(made, story, message_id, shown, cells))
        return made

    def _cells(self, story: Story, ended: float, special: dict[str, Any]) -> dict[str, Any]:
        """Those that are times or ids, by their columns."""
        draw, status = self.random, story.fate.status
        row, flow = None, story.space.flows[_lane(story.letter, story.live)]
        if story.live and story.letter.category == "newsletter" and "flow_id" not in special:
            row, flow = self._row_of_newsletter(story.space, story.accepted)
        delivered = read = archived = None
        if status == "delivered":
            later = 1 + draw.random() * 8 if story.fate.event else 0
            delivered = _at(min(ended + later, self.newest))
            if story.letter.channel == "in_app" and draw.random() < 0.6:
                read = _at(min(self.newest, story.accepted + 60 + draw.random() * 40_000))
                archived = read if draw.random() < 0.2 else None
        was_taken = bool(story.fate.calls) and story.fate.calls[-1].outcome == "accepted"
        return {
            "flow_id": flow,
            "row_number": row,
            "scheduled_for": None,
            "due_at": _at(story.accepted),
            # Kept where a receipt has failed it since.
            "sent_at": _at(ended) if was_taken else None,
            "delivered_at": delivered,
            "read_at": read,
            "archived_at": archived,
            "review_at": None,
            "resend_of_id": None,
        } | special

    def _place_in_inbox(self, story: Story, cells: dict[str, Any]) -> int | None:
        """By which change of its person's inbox it arrived there, which is counted; None for what is in none."""
        if story.letter.channel != "in_app" or story.fate.status != "delivered":
            return None
        key = (story.space.people[story.number], story.live)
        was = self.inboxes.get(key, State())
        unread = was.unread + (cells["read_at"] is None)
        self.inboxes[key] = State(was.position + 1, unread)
        return was.position + 1

    def _row_of_newsletter(self, space: Space, accepted: float) -> tuple[int, int]:
        part = min(2, int((accepted - self.oldest) * 3 / (DAYS * 86400)))
        flow = space.newsletters[part].flow.pk
        space.rows[part] = space.rows.get(part, 0) + 1
        return space.rows[part], flow

    def _write_calls(
        self, made: str, provider: str, calls: tuple[Call, ...], accepted: float, message_id: str
    ) -> float:
        """Returns when the last was over."""
        draw = self.random
        began = accepted + 0.05 + draw.random() * 2
        ended = accepted
        for number, call in enumerate(calls, 1):
            began = min(began, self.newest)
            took = 20.0 if call is NO_ANSWER else _TYPICAL[provider] * draw.lognormvariate(0, 0.7)
            ended = began + took
            taken = message_id if call.outcome == "accepted" else ""
            self.chunk.attempts.append(
                _line(
                    *(made, number, provider, _at(began), _at(ended), call.outcome),
                    *(call.code, call.detail, taken),
                )
            )
            began = ended + 15 * 2**number * (0.5 + draw.random())
        return ended

    def _write_receipt(
        self, made: str, provider: str, fate: Fate, ended: float, message_id: str
    ) -> None:
        told = _at(min(ended + 2, self.newest + 60))
        reason = "bounced" if fate.event == "bounced" else ""
        raw = f'{{"event": "{fate.event}", "id": "{message_id}"}}'
        self.chunk.receipts.append(
            _line(
                *(provider, f"event-{made}", fate.event, reason, fate.code, fate.detail, told),
                *(told, made, message_id, raw, made, told),
            )
        )

    def _suppress(self, space: Space, channel: str, number: int, fate: Fate, made: str) -> None:
        """Once for each address, of which the set of those that are suppressed knows."""
        space.suppressed.add((channel, number))
        address = email_of(number) if channel == "email" else phone_of(number)
        source = "receipt" if fate.event else "refusal"
        self.chunk.suppressions.append(
            _line(
                *(self._hex_id(self.newest), space.project.pk, channel, address.lower()),
                *(fate.suppressed, source, fate.detail, made),
            )
        )

    # --- What is not over -------------------------------------------------------------------------

    def _waiting_numbers(self) -> list[str]:
        """What kind each of those is that are not simply over."""
        rows = self.rows
        return (
            ["paused"] * max(5, rows // 200)
            + ["scheduled"] * max(3, rows // 400)
            + ["tried again"] * max(3, rows // 1000)
            + ["in review"] * max(2, rows // 5000)
            + ["held"] * max(3, rows // 5000)
            + ["gone wrong"] * max(3, rows // 5000)
            + ["resent"] * min(len(LETTERS) + rows // 200, rows // 100)
        )

    def _tell_what_waits(self, kinds: list[str]) -> None:
        paused = self._paused_batch(kinds.count("paused"))
        tell = {
            "scheduled": self._tell_scheduled,
            "tried again": self._tell_tried_again,
            "in review": self._tell_in_review,
            "held": self._tell_held,
            "gone wrong": self._tell_gone_wrong,
            "resent": self._tell_resent,
        }
        for number, kind in enumerate(kinds, 1):
            if kind == "paused":
                self._tell_paused(paused, number)
            else:
                tell[kind]()

    def _lately(self, letter: Letter, provider: str, fate: Fate, *, live: bool = False) -> Story:
        """To anybody, within the last half hour."""
        (space,) = self.random.choices(self.spaces, cum_weights=self.shares)
        number = int(self.random.random() * len(space.people))
        accepted = self.newest - self.random.random() * 1800
        return Story(letter, space, number, accepted, provider, fate, live)

    def _ahead(self, seconds: float, spread: float) -> str:
        return _at(time.time() + seconds + self.random.random() * spread)

    def _tell_scheduled(self) -> None:
        due = self._ahead(3600, 3 * 86400)
        story = self._lately(APPOINTMENT, "sandbox", Fate(1, "pending"))
        self._write(story, scheduled_for=due, due_at=due)

    def _tell_tried_again(self) -> None:
        calls = (GREYLISTED,) * self.random.randint(1, 3)
        story = self._lately(ORDER, "sandbox", Fate(1, "pending", calls))
        self._write(story, due_at=self._ahead(120, 3000))

    def _tell_in_review(self) -> None:
        story = self._lately(INVOICE, "sandbox", Fate(1, "unknown", (NO_ANSWER,)))
        self._write(story, review_at=self._ahead(300, 300))

    def _tell_held(self) -> None:
        self._write(self._lately(ORDER, "smtp", Fate(1, "unknown", (NO_ANSWER,)), live=True))

    def _tell_gone_wrong(self) -> None:
        """Also of few notifications, some have failed lately, each in its way."""
        provider, fates = self.random.choice((("smtp", SMTP), ("mailgun", MAILGUN)))
        wrong = [fate for fate in fates if fate.status in ("failed", "expired")]
        self._tell_story(self._lately(ORDER, provider, self.random.choice(wrong), live=True))

    def _tell_resent(self) -> None:
        """What an operator has sent once more, and what the person then got."""
        fate = Fate(1, "delivered", (QUEUED,), "delivered")
        if not self.failed:
            self._write(self._lately(ORDER, "mailgun", fate, live=True))
            return
        space, number, letter, failed = self.failed.pop()
        provider = "mailgun" if letter.channel == "email" else "twilio"
        story = self._lately(letter, provider, fate, live=True)
        story.space, story.number = space, number
        self._write(story, resend_of_id=failed)

    def _paused_batch(self, rows: int) -> Batch:
        batch = _batch(
            *(self.spaces[0].project, "Black Friday", self._id(self.newest), "paused", self.newest)
        )
        batch.loaded = batch.cursor = rows
        batch.reason = "Waits for the prices."
        batch.save()
        Flow.objects.create(project=batch.project, lane="email.low", batch=batch, paused=True)
        return batch

    def _tell_paused(self, batch: Batch, row: int) -> None:
        story = self._lately(NEWSLETTER, "smtp", Fate(1, "pending"), live=True)
        story.space, story.number = self.spaces[0], row % len(self.spaces[0].people)
        self._write(story, flow_id=batch.flow.pk, row_number=row)

    def finish(self) -> None:
        """What is known only now: how large the batches were. And a provider that refuses us."""
        for space in self.spaces:
            for part, batch in enumerate(space.newsletters):
                batch.loaded = batch.cursor = space.rows.get(part, 0)
                batch.save()
        if providers.for_channel("sms") != "twilio":
            _open_circuit()


def _open_circuit() -> None:
    """Of Twilio, where nobody uses it."""
    now = timezone.now()
    Circuit.objects.get_or_create(
        provider="twilio",
        sender="",
        defaults={
            "open_until": now + timedelta(minutes=10),
            "opened_at": now - timedelta(minutes=7),
            "trips": 3,
            "cause": Circuit.Cause.REFUSED,
            "code": "twilio_20003",
            "detail": "HTTP 401: Authenticate",
        },
    )


def _copy_people(project: Project, ids: list[int]) -> None:
    names = [" ".join(_name_of(number)) for number in range(len(ids))]
    now = _at(time.time() - DAYS * 86400)
    _copy(
        "users_recipient (id, project_id, user_id, name, locale, timezone, provisional, created_at)",
        [
            _line(ids[n], project.pk, user_id_of(n), name, "en", "Europe/Berlin", "f", now)
            for n, name in enumerate(names)
        ],
    )
    addresses = [("email", email_of(n), ids[n]) for n in range(len(ids))]
    addresses += [("sms", phone_of(n), ids[n]) for n in range(min(len(ids), PHONES))]
    _copy(
        "users_address (project_id, channel, value, recipient_id)",
        [_line(project.pk, *address) for address in addresses],
    )


def _batch(project: Project, name: str, made: UUID, status: str, began: float) -> Batch:
    letter = NEWSLETTER
    begin = datetime.fromtimestamp(began, UTC)
    return Batch(
        id=made,
        project=project,
        name=name,
        status=status,
        channel=letter.channel,
        priority=letter.priority,
        live=True,
        title="Autumn offers",
        message="Hello {{ name }},\n\neverything for the garden is 20 percent off until Sunday.",
        category=letter.category,
        file_name="newsletter.csv",
        digest=bytes(32),
        once_per_address=False,
        created_at=begin,
        loaded_at=begin,
        started_at=begin,
        resumed_at=begin,
    )


#: Seconds that a call to it takes, mostly.
_TYPICAL = {"smtp": 0.18, "mailgun": 0.24, "twilio": 0.31, "inbox": 0.003, "sandbox": 0.004}

_SUPPRESSED = Fate(1, "cancelled", kind="permanent", code="suppressed", detail="hard_bounce")


class _Shown:
    """A letter as one person gets it, in cells for COPY."""

    __slots__ = ("address", "html", "message", "metadata", "reference", "title", "url")

    def __init__(self, story: Story, chance: int) -> None:
        letter, number = story.letter, story.number
        words = {
            "name": _name_of(number)[0],
            "number": chance,
            "shop": story.space.project.name,
        }
        self.title, self.message = _filled(letter.title, words), _filled(letter.message, words)
        self.html, self.url = _filled(letter.html, words), _filled(letter.url, words)
        self.reference = _filled(letter.reference, words)
        self.metadata = json.dumps({"origin": "demonstration"}) if chance % 8 == 0 else "{}"
        self.address = _address(letter.channel, number)


def _filled(text: str, words: dict[str, Any]) -> str:
    return _escaped(text.format(**words) if "{" in text else text)


def _notification(
    made: str, story: Story, message_id: str, shown: _Shown, cells: dict[str, Any]
) -> str:
    """The line, its cells in the order of NOTIFICATION."""
    letter, fate, space = story.letter, story.fate, story.space
    tried = len(fate.calls)
    return _line(
        *(made, space.project.pk, cells["flow_id"]),
        *(space.people[story.number], user_id_of(story.number)),
        *(letter.channel, letter.priority, "t" if story.live else "f", cells["row_number"]),
        *(shown.address, shown.title, shown.message, shown.html, shown.url),
        *(letter.category, shown.reference, shown.metadata, fate.status),
        *(fate.kind, fate.code, fate.detail, story.provider if tried else "", message_id),
        *(_at(story.accepted), cells["scheduled_for"], cells["due_at"], None),
        *(cells["sent_at"], cells["delivered_at"], cells["read_at"]),
        *(tried, tried, 0, cells["review_at"], 0, cells["resend_of_id"]),
        *(cells["inbox_position"], cells["archived_at"]),
    )


def _lane(letter: Letter, live: bool) -> str:
    return lane_of(letter.channel, letter.priority) if live else SANDBOX_LANE


def _address(channel: str, number: int) -> str:
    if channel == "email":
        return email_of(number)
    return phone_of(number) if channel == "sms" else user_id_of(number)
