"""Counts what has been accepted and what has been called, so that no page has to. Beat asks for it every minute.

Notifications change after they were counted, so an hour's are counted again and again: every minute while the hour
lasts, then the seldomer the older it is. Calls never change once they are over, so each is counted once: a mark says
up to which attempt, and moves in the transaction that counts. Nothing that delivery needs: where it is behind, only
figures are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from notifications import ids, stopping
from notifications.models import CallCount, CountedHour, HourlyCount, Notification, Watermark

#: Seconds one run takes at most; the next one goes on. Beat asks for one every minute.
LONGEST_RUN = 20.0
#: Attempts that one transaction counts.
CHUNK = 20_000
#: Distinct codes of calls, failure codes and categories of a project that an hour tells apart; the others are `other`.
MOST_CODES = MOST_CATEGORIES = 100
OTHER = "other"
#: For how long an hour is counted again. What is pruned from the ledger afterwards stays counted.
RECOUNTED_FOR = timedelta(days=30)
#: For so long before RETENTION_DAYS is over as well, since counting again what is pruned would lose it.
BEFORE_RETENTION = timedelta(hours=12)
#: For how long counts are kept.
HOURS_KEPT = timedelta(days=400)
MINUTES_OF_CALLS_KEPT, HOURS_OF_CALLS_KEPT = timedelta(hours=3), timedelta(days=90)
HOUR = timedelta(hours=1)

#: The name of the mark up to which attempts are counted.
MARK = "calls"


def count(seconds: float = LONGEST_RUN) -> None:
    """Go on with both for so long. Two at once do no harm: what one has, the other leaves."""
    end = time.monotonic() + seconds
    # What was never counted before may be very much; the newest figures are the ones that are looked at.
    count_calls(time.monotonic() + seconds / 2)
    count_hours(end)


def _goes_on(end: float) -> bool:
    return time.monotonic() < end and not stopping.is_stopping()


# --- Calls ----------------------------------------------------------------------------------------


def settled_after() -> timedelta:
    """How long after its begin a call is surely over; also how late the row of its begin may appear."""
    longest = settings.SEND_DEADLINE + settings.SEND_LEASE_MARGIN + 60
    return timedelta(seconds=max(120.0, longest))


# The next attempts behind the mark, up to the first that may not be over, or behind which one may yet appear.
NEXT_CALLS = """
SELECT max(id) FROM (
    SELECT id, bool_or(started_at > now() - %(settled)s) OVER (ORDER BY id) AS open
    FROM (SELECT id, started_at FROM notifications_attempt WHERE id > %(mark)s ORDER BY id LIMIT %(chunk)s) chunk
) looked_at WHERE NOT open
"""

# width_bucket() is exact where a logarithm of 8 may be a little less than 3.
CALLS = """
SELECT date_trunc('minute', a.started_at, 'UTC') AS minute, f.lane, a.provider, coalesce(a.outcome, ''), a.code,
       CASE WHEN a.finished_at IS NULL THEN 0 ELSE
            width_bucket((extract(epoch FROM a.finished_at - a.started_at) * 1000)::float8, %(bounds)s::float8[]) END,
       count(*)
FROM notifications_attempt a
JOIN notifications_notification n ON n.id = a.notification_id
JOIN notifications_flow f ON f.id = n.flow_id
WHERE a.id > %(mark)s AND a.id <= %(last)s AND a.started_at > now() - %(kept)s
GROUP BY 1, 2, 3, 4, 5, 6
"""

ADD_CALLS = """
INSERT INTO notifications_callcount (span, began_at, lane, provider, outcome, code, bucket, calls)
SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::smallint[],
                     %s::bigint[])
ON CONFLICT (span, began_at, lane, provider, outcome, code, bucket)
DO UPDATE SET calls = notifications_callcount.calls + excluded.calls
"""

#: The lower bounds, in milliseconds, of the buckets 1 to 24; the last is longer than any call may take.
BOUNDS = [2.0**bucket for bucket in range(1, 25)]


class Call(NamedTuple):
    """What calls are counted by."""

    span: str
    began_at: datetime
    lane: str
    provider: str
    outcome: str
    code: str
    bucket: int


def count_calls(end: float) -> int:
    """Each call once, in its minute and its hour, until `end` (of the monotonic clock) or all are. Returns how many
    transactions it took."""
    Watermark.objects.get_or_create(name=MARK)
    chunks = 0
    while _goes_on(end) and _count_chunk():
        chunks += 1
    return chunks


def _count_chunk() -> bool:
    """Whether there was anything to count. False also where somebody else is counting."""
    with transaction.atomic(), connection.cursor() as cursor:
        mark = Watermark.objects.select_for_update(skip_locked=True).filter(name=MARK).first()
        if mark is None:
            return False
        parameters: dict[str, Any] = {"mark": mark.last_id, "chunk": CHUNK}
        cursor.execute(NEXT_CALLS, parameters | {"settled": settled_after()})
        (last,) = cursor.fetchone()
        if last is None:
            return False
        _add_calls(cursor, mark.last_id, last)
        mark.last_id = last
        mark.save()
    return True


def _add_calls(cursor: Any, mark: int, last: int) -> None:
    cursor.execute(
        CALLS, {"mark": mark, "last": last, "bounds": BOUNDS, "kept": HOURS_OF_CALLS_KEPT}
    )
    by_minute = [
        (Call(CallCount.Span.MINUTE.value, *row[:-1]), row[-1]) for row in cursor.fetchall()
    ]
    counted = Counter[Call]()
    oldest_minute = timezone.now() - MINUTES_OF_CALLS_KEPT
    for call, number in _without_rare_codes(by_minute):
        counted[_of_its_hour(call)] += number
        if call.began_at > oldest_minute:
            counted[call] += number
    # In one order, so that no two could ever wait for each other.
    rows = [(*call, number) for call, number in sorted(counted.items())]
    if rows:
        cursor.execute(ADD_CALLS, [list(column) for column in zip(*rows, strict=True)])


def _of_its_hour(call: Call) -> Call:
    return call._replace(span=CallCount.Span.HOUR.value, began_at=call.began_at.replace(minute=0))


def _without_rare_codes(counted: list[tuple[Call, int]]) -> Iterator[tuple[Call, int]]:
    """A vendor that puts a number of its own into each code does not make a row of each call."""
    kept = _kept_codes(counted)
    for call, number in counted:
        hour = call.began_at.replace(minute=0)
        yield (call if call.code in kept[hour] else call._replace(code=OTHER)), number


def _kept_codes(counted: list[tuple[Call, int]]) -> dict[datetime, set[str]]:
    """Of each hour, the codes that are counted already, and the most frequent others while there is room."""
    codes: dict[datetime, Counter[str]] = {}
    for call, number in counted:
        hour = call.began_at.replace(minute=0)
        codes.setdefault(hour, Counter())[call.code] += number
    kept: dict[datetime, set[str]] = {hour: {"", OTHER} for hour in codes}
    known = CallCount.objects.filter(span=CallCount.Span.HOUR, began_at__in=codes)
    for hour, code in known.values_list("began_at", "code").distinct():
        kept[hour].add(code)
    for hour, found in codes.items():
        new = [code for code, _ in found.most_common() if code not in kept[hour]]
        kept[hour].update(new[: max(0, MOST_CODES - len(kept[hour]))])
    return kept


# --- Hours ----------------------------------------------------------------------------------------

# How late an hour is, in intervals at which it is to be counted: 1 and more is due. What was never counted is 2, so
# that a large ledger which is counted for the first time keeps the present hour waiting for two minutes at most.
DUE_HOURS = """
SELECT hour FROM (
    SELECT hour, counted_at,
           CASE WHEN counted_at = %(never)s THEN 2 ELSE
           extract(epoch FROM clock_timestamp() - counted_at)
           / greatest(60, extract(epoch FROM clock_timestamp() - hour - interval '1 hour') / 4) END AS lateness
    FROM notifications_countedhour
    WHERE hour <= clock_timestamp() AND (counted_at = %(never)s OR hour > %(since)s)
) counted WHERE lateness >= 0.95 ORDER BY lateness DESC, hour DESC
"""

NOTE_HOURS = """
INSERT INTO notifications_countedhour (hour, counted_at)
SELECT hour, %(never)s FROM generate_series(%(first)s::timestamptz, %(last)s::timestamptz, interval '1 hour') AS hour
ON CONFLICT (hour) DO NOTHING
"""

STATUSES = """
SELECT project_id, channel, live, category, status, failure_code, count(*)
FROM notifications_notification WHERE id >= %s AND id < %s
GROUP BY project_id, channel, live, category, status, failure_code
"""


class Standing(NamedTuple):
    """What an hour's notifications are counted by."""

    project_id: int
    channel: str
    live: bool
    category: str
    status: str
    failure_code: str


def count_hours(end: float) -> int:
    """The hours that are due, the latest ones first, until `end` (of the monotonic clock). Returns how many."""
    _note_new_hours()
    hours = 0
    for hour in _due_hours():
        if not _goes_on(end):
            break
        hours += _count_hour(hour)
    return hours


def _note_new_hours() -> None:
    """Those since the last that is noted; the first time, since the oldest notification."""
    newest = CountedHour.objects.order_by("-hour").values_list("hour", flat=True).first()
    if newest is not None:
        note_hours(newest)
        return
    oldest = Notification.objects.order_by("id").values_list("created_at", flat=True).first()
    # Its id has the time of the process that made it, which may be a little earlier.
    note_hours((oldest or timezone.now()) - HOUR)


def note_hours(since: datetime) -> None:
    """All since then are to be counted, where they are not noted yet. For whoever adds old ones to the ledger, too."""
    now = timezone.now()
    first = max(since, now - HOURS_KEPT).replace(minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute(NOTE_HOURS, {"never": CountedHour.NEVER, "first": first, "last": now})


def recount(since: datetime) -> None:
    """All hours since then are to be counted as if they never were: old notifications were added."""
    note_hours(since)
    CountedHour.objects.filter(hour__gte=since - HOUR).update(counted_at=CountedHour.NEVER)


def _due_hours() -> list[datetime]:
    since = timezone.now() - _recounted_for()
    with connection.cursor() as cursor:
        cursor.execute(DUE_HOURS, {"never": CountedHour.NEVER, "since": since})
        return [hour.astimezone(UTC) for (hour,) in cursor.fetchall()]


def _recounted_for() -> timedelta:
    if not settings.RETENTION_DAYS:
        return RECOUNTED_FOR
    return min(RECOUNTED_FOR, timedelta(days=settings.RETENTION_DAYS) - BEFORE_RETENTION)


def _count_hour(hour: datetime) -> bool:
    """Replace its counts. False where somebody else is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        noted = CountedHour.objects.select_for_update(skip_locked=True).filter(hour=hour)
        if not noted:
            return False
        # Before the counting: what changes meanwhile is counted by the next.
        noted.update(counted_at=Now())
        cursor.execute(STATUSES, (ids.first_of(hour), ids.first_of(hour + HOUR)))
        counted = _without_rare_names([(Standing(*row[:-1]), row[-1]) for row in cursor.fetchall()])
        HourlyCount.objects.filter(hour=hour).delete()
        HourlyCount.objects.bulk_create(
            HourlyCount(hour=hour, count=number, **standing._asdict())
            for standing, number in counted.items()
        )
    return True


def _without_rare_names(counted: list[tuple[Standing, int]]) -> Counter[Standing]:
    """Categories are what callers say, and codes what vendors do: neither makes a row of each notification."""
    categories = _most_frequent(((s.project_id, s.category), n) for s, n in counted)
    codes = _most_frequent(((s.project_id, s.failure_code), n) for s, n in counted)
    folded = Counter[Standing]()
    for standing, number in counted:
        if (standing.project_id, standing.category) not in categories:
            standing = standing._replace(category=OTHER)
        if (standing.project_id, standing.failure_code) not in codes:
            standing = standing._replace(failure_code=OTHER)
        folded[standing] += number
    return folded


def _most_frequent(counted: Iterable[tuple[tuple[int, str], int]]) -> set[tuple[int, str]]:
    """Of each project, the names that are counted by themselves; none is one of them."""
    numbers = Counter[tuple[int, str]]()
    for of_project, number in counted:
        numbers[of_project] += number
    room: Counter[int] = Counter()
    kept: set[tuple[int, str]] = set()
    for of_project, _ in sorted(numbers.items(), key=lambda item: (-item[1], item[0])):
        project_id, name = of_project
        room[project_id] += 1 if name else 0
        if not name or room[project_id] <= MOST_CATEGORIES:
            kept.add(of_project)
    return kept
