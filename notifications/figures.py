"""Figures of the console and of /stats, read from what counting.py has counted; never from the ledger.

How long calls took is estimated: a count knows of each call only between which powers of two milliseconds it lay
(`CallCount.bucket`), and within such a span calls are taken to be spread evenly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from django.db.models import F, Q, Sum
from django.db.models.functions import TruncDay

from notifications.counting import settled_after
from notifications.models import Attempt, CallCount, CountedHour, HourlyCount

#: What figures can be divided by.
DIVISIONS = ("channel", "status", "category")
#: Whole minutes over which the pace of a lane is measured.
PACE_MINUTES = 5
#: Codes of failed calls that a lane names.
TOP_CODES = 3
#: In place of a code where no answer ever came, or one without a code.
NO_ANSWER = "no_answer"


class Hour(NamedTuple):
    """Of the notifications accepted in this hour that have this key: how many are in which status."""

    hour: datetime
    key: str
    counts: dict[str, int]


@dataclass(frozen=True)
class LaneFigures:
    """A lane's calls of the last hour that are counted, which those of the last minutes are not yet."""

    #: Accepted by a provider, over the last five whole minutes that are counted.
    per_minute: float
    calls: int
    #: All that were not accepted, also those without an answer.
    failed: int
    #: The most frequent codes of failed calls, with their numbers.
    codes: list[tuple[str, int]]


@dataclass(frozen=True)
class ProviderHour:
    """A provider's calls that began in this hour. Durations are estimates; None where nothing was answered."""

    began_at: datetime
    calls: int
    accepted: int
    p50_ms: float | None
    p95_ms: float | None


def accepted(
    since: datetime,
    until: datetime,
    by: str,
    project_ids: Sequence[int] | None = None,
    *,
    live: bool | None = None,
    daily: bool = False,
) -> list[Hour]:
    """The notifications of each hour that began in [since, until), oldest first; `since` is rounded down to its hour.

    Of all projects where none are given; `daily` adds up the hours of each day (UTC), which then stands in `hour`.
    Raises ValueError for a division that there is not.
    """
    if by not in DIVISIONS:
        raise ValueError(f"{by!r} is none of {', '.join(DIVISIONS)}")
    counted = HourlyCount.objects.filter(hour__gte=hour_of(since), hour__lt=until)
    if project_ids is not None:
        counted = counted.filter(project_id__in=project_ids)
    if live is not None:
        counted = counted.filter(live=live)
    found: dict[tuple[datetime, str], dict[str, int]] = defaultdict(dict)
    moment = TruncDay("hour", tzinfo=UTC) if daily else F("hour")
    rows = counted.annotate(moment=moment).values_list("moment", by, F("status"))
    sums = rows.annotate(number=Sum("count")).order_by("moment", by, "status")
    for hour, key, status, number in sums:
        found[hour, key][status] = number
    return [Hour(hour, key, counts) for (hour, key), counts in found.items()]


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def counted_at(since: datetime, until: datetime) -> datetime | None:
    """When the newest hour of the period was last counted; None where none ever was."""
    hours = CountedHour.objects.filter(hour__gte=hour_of(since), hour__lt=until)
    newest = hours.exclude(counted_at=CountedHour.NEVER).order_by("-hour").first()
    return newest.counted_at if newest else None


def lanes(now: datetime) -> dict[str, LaneFigures]:
    """Of each lane that had calls in the last hour."""
    rows = (
        CallCount.objects.filter(
            span=CallCount.Span.MINUTE, began_at__gte=now - timedelta(hours=1), began_at__lte=now
        )
        .values_list("lane", "outcome", "code")
        .annotate(number=Sum("calls"), lately=Sum("calls", filter=_in_the_last_minutes(now)))
    )
    found: dict[str, list[tuple[str, str, int, int]]] = defaultdict(list)
    for lane, outcome, code, number, lately in rows:
        found[lane].append((outcome, code, number, lately or 0))
    return {lane: _lane_figures(counts) for lane, counts in sorted(found.items())}


def _in_the_last_minutes(now: datetime) -> Q:
    """Those that are surely counted: a call is when it is over, and by a task that runs every minute."""
    end = (now - settled_after() - timedelta(minutes=1)).replace(second=0, microsecond=0)
    return Q(began_at__gte=end - timedelta(minutes=PACE_MINUTES), began_at__lt=end)


def _lane_figures(counts: Iterable[tuple[str, str, int, int]]) -> LaneFigures:
    calls = failed = lately = 0
    codes: Counter[str] = Counter()
    for outcome, code, number, accepted_lately in counts:
        calls += number
        if outcome == Attempt.Outcome.ACCEPTED:
            lately += accepted_lately
        else:
            failed += number
            codes[code or outcome or NO_ANSWER] += number
    return LaneFigures(lately / PACE_MINUTES, calls, failed, codes.most_common(TOP_CODES))


def calls(provider_hours: int, now: datetime) -> dict[str, list[ProviderHour]]:
    """Each provider's hours, oldest first: those of the last so many in which it was called."""
    rows = (
        CallCount.objects.filter(
            span=CallCount.Span.HOUR,
            began_at__gt=hour_of(now) - timedelta(hours=provider_hours),
            began_at__lte=now,
        )
        .values_list("provider", "began_at", "bucket")
        .annotate(
            number=Sum("calls"),
            answered=Sum("calls", filter=~Q(outcome="")),
            accepted=Sum("calls", filter=Q(outcome=Attempt.Outcome.ACCEPTED)),
        )
        .order_by("provider", "began_at", "bucket")
    )
    hours: dict[tuple[str, datetime], list[tuple[int, int, int, int]]] = defaultdict(list)
    for provider, began_at, bucket, number, answered, accepted_ in rows:
        hours[provider, began_at].append((bucket, number, answered or 0, accepted_ or 0))
    found: dict[str, list[ProviderHour]] = defaultdict(list)
    for (provider, began_at), buckets in hours.items():
        found[provider].append(_provider_hour(began_at, buckets))
    return dict(found)


def _provider_hour(
    began_at: datetime, buckets: Sequence[tuple[int, int, int, int]]
) -> ProviderHour:
    answered = {bucket: answered for bucket, _, answered, _ in buckets if answered}
    return ProviderHour(
        began_at,
        sum(number for _, number, _, _ in buckets),
        sum(accepted_ for _, _, _, accepted_ in buckets),
        quantile(answered, 0.5),
        quantile(answered, 0.95),
    )


def quantile(buckets: Mapping[int, int], share: float) -> float | None:
    """Milliseconds within which this share of the calls was answered, estimated; None where there were none."""
    left = share * sum(buckets.values())
    for bucket, number in sorted(buckets.items()):
        if left <= number:
            low = 2.0**bucket if bucket else 0.0
            return low + (2.0 ** (bucket + 1) - low) * left / number
        left -= number
    return None
