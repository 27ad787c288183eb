"""The first page: is it well, lane by lane and provider by provider, and what went out in a day and in a week.

What it shows costs the same however large the ledger is: what waits is counted up to a bound, by index, and what went
out is read from counts (figures.py). Lanes and providers are shown whole to everybody, for they carry all projects;
the charts, and the senders whose circuits are open, only as far as one's projects reach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.utils import timezone

from notifications import figures, pausing, providers
from notifications.admin.chart import Chart, stacked
from notifications.admin.circuit import within_reach
from notifications.admin.headline import Standing, statements
from notifications.admin.refreshing import refreshed
from notifications.doctor import backlog, processes
from notifications.doctor.backlog import MOST, OVERDUE_WARNING, Lane
from notifications.explaining import duration, next_try, trouble
from notifications.figures import Hour, LaneFigures, ProviderHour
from notifications.models import LANES, Channel, Circuit, Flow, Notification
from notifyproj.version import VERSION
from users.console import MOST_COUNTED
from users.models import User
from users.reach import project_ids_of, sees_everything, within

VIEW = "notifications.view_circuit"
VIEW_NOTIFICATIONS = "notifications.view_notification"

#: What is stacked in the charts, from the bottom up, and where it is listed.
SHOWN = ("delivered", "sent", "unknown", "failed")
#: Hours of the longest chart, and hours that one of its bars stands for.
WEEK, PER_BAR = 7 * 24, 6
DAY = 24
#: Open circuits, and paused flows, that are shown at most: there may be one for each project.
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class LaneRow:
    """A lane as the page shows it. `figures` is None where no call was counted in the last hour."""

    name: str
    provider: str
    paused: bool
    late: bool
    oldest: str
    waiting: str
    retries: str
    figures: LaneFigures | None


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """`is_everybodys`: of the service's own sender, which carries every project's mail."""

    id: int
    is_everybodys: bool
    words: str
    next_try: str


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """`held`: the service's own circuit is open, and not only some sender's. `calls` are the last day's; `now` is its
    newest hour that had any.
    """

    name: str
    lanes: str
    known: bool
    paused: bool
    held: bool
    circuits: list[OpenCircuit]
    calls: int
    accepted: str
    now: ProviderHour | None
    chart: Chart


@dataclass(frozen=True, slots=True)
class ChannelCharts:
    channel: str
    day: Chart
    week: Chart


def may_see(user: AbstractBaseUser | AnonymousUser) -> bool:
    return isinstance(user, User) and user.has_perm(VIEW)


# --- What changes by itself --------------------------------------------------------------------------------


def state(request: HttpRequest) -> HttpResponse:
    """What of the page changes by itself, for static/notifyproj/overview.js. `?all`: also what changes more slowly."""
    if not may_see(request.user):
        raise PermissionDenied
    if request.method not in {"GET", "HEAD"}:
        return HttpResponseNotAllowed(["GET"])
    context = live(request) | (slower(request) if "all" in request.GET else {})
    return refreshed(request, "admin/overview/parts.html", context)


def live(request: HttpRequest) -> dict[str, Any]:
    """How it stands at this moment."""
    user, now = cast("User", request.user), timezone.now()
    alive = processes.alive()
    standing = Standing(
        lanes=backlog.lanes(with_retries=True),
        carried={lane: providers.of_lane(lane) for lane in LANES},
        findings=list(processes.judged(alive)),
        circuits=_open_circuits(user),
        pauses=pausing.pauses(),
    )
    return {
        "statements": statements(standing, now),
        "lanes": lane_rows(standing, figures.lanes(now)),
        "providers": provider_rows(standing, figures.calls(DAY, now), now),
        "paused_flows": _paused_flows(user),
        "processes": alive,
        "version": VERSION,
        "may_pause": user.has_perm("notifications.pause_delivery") and sees_everything(user),
        "may_pause_flows": user.has_perm("notifications.pause_delivery"),
        "may_send_test": user.has_perm("notifications.send_batch"),
        "may_probe": user.has_perm("notifications.change_circuit"),
        "sees_all": sees_everything(user),
    }


def lane_rows(standing: Standing, counted: Mapping[str, LaneFigures]) -> list[LaneRow]:
    """Those that have something of their own to show, in the order of their urgency."""
    known = {lane.name: lane for lane in standing.lanes}
    paused = {pause.target for pause in standing.pauses}
    return [
        _lane_row(known.get(name) or Lane(name, 0, 0, 0), standing, paused, counted.get(name))
        for name in LANES
        if name in known or name in paused
    ]


def _lane_row(
    lane: Lane, standing: Standing, paused: set[str], counted: LaneFigures | None
) -> LaneRow:
    provider = standing.carried.get(lane.name)
    return LaneRow(
        name=lane.name,
        provider=provider or "",
        paused=lane.name in paused,
        late=lane.overdue > OVERDUE_WARNING,
        oldest=duration(timedelta(seconds=lane.oldest)) if lane.waiting else "",
        waiting=_bounded(lane.waiting),
        retries=_bounded(lane.retries),
        figures=counted,
    )


def provider_rows(
    standing: Standing, counted: Mapping[str, Sequence[ProviderHour]], now: datetime
) -> list[ProviderRow]:
    """Those that carry something, have been called in a day, are paused, or are being left alone."""
    carrying: dict[str, list[str]] = defaultdict(list)
    for lane, provider in standing.carried.items():
        if provider:
            carrying[provider].append(lane)
    paused = {pause.target for pause in standing.pauses if pausing.kind_of(pause.target) != "lane"}
    troubled = {circuit.provider for circuit in standing.circuits}
    names = sorted({*carrying, *counted, *paused, *troubled})
    return [
        _provider_row(name, carrying[name], standing, counted.get(name, ()), now) for name in names
    ]


def _provider_row(
    name: str, lanes: list[str], standing: Standing, hours: Sequence[ProviderHour], now: datetime
) -> ProviderRow:
    calls = sum(hour.calls for hour in hours)
    accepted = sum(hour.accepted for hour in hours)
    of_it = [circuit for circuit in standing.circuits if circuit.provider == name]
    return ProviderRow(
        name=name,
        lanes=", ".join(lanes),
        # Not a provider of an earlier release, which only the counts still name.
        known=name in providers.names(),
        paused=any(pause.target == name for pause in standing.pauses),
        held=any(not circuit.sender for circuit in of_it),
        circuits=[
            OpenCircuit(each.pk, not each.sender, trouble(each, now), next_try(each, now))
            for each in of_it
        ],
        calls=calls,
        accepted=_share(accepted, calls),
        now=max(
            (hour for hour in hours if hour.calls), key=lambda hour: hour.began_at, default=None
        ),
        chart=_chart_of_calls(hours, now),
    )


def _chart_of_calls(hours: Sequence[ProviderHour], now: datetime) -> Chart:
    by_hour = {hour.began_at: hour for hour in hours}
    columns = []
    for began_at in _hours_until(now, DAY):
        hour = by_hour.get(began_at)
        counts = {"accepted": hour.accepted, "failed": hour.calls - hour.accepted} if hour else {}
        columns.append((f"{began_at:%H:%M}", counts))
    return stacked(columns, ("accepted", "failed"))


def _open_circuits(user: User) -> list[Circuit]:
    """The longest open first; of senders, those of the user's projects."""
    found = within_reach(user, Circuit.objects.filter(open_until__isnull=False))
    return list(found.order_by("opened_at")[:MOST_SHOWN])


def _paused_flows(user: User) -> list[Flow]:
    flows = within(user, Flow.objects.filter(paused=True, batch=None))
    return list(flows.select_related("project").order_by("id")[:MOST_SHOWN])


# --- What changes more slowly: what is held, and what went out ---------------------------------------------


def slower(request: HttpRequest) -> dict[str, Any]:
    """Charts of a day and of a week, by the hour in which it was accepted; and of how many nobody knows the end."""
    user = cast("User", request.user)
    if not user.has_perm(VIEW_NOTIFICATIONS):
        return {}
    now = timezone.now()
    hours = _hours_until(now, WEEK)
    found = figures.accepted(hours[0], now, "channel", project_ids_of(user))
    held = within(user, Notification.objects.held())
    return {
        "charts": charts_of_channels(found, hours),
        "held": held[: MOST_COUNTED + 1].count(),
        "most_counted": MOST_COUNTED,
    }


def charts_of_channels(found: Sequence[Hour], hours: Sequence[datetime]) -> list[ChannelCharts]:
    """`hours` are those of the week, the oldest first."""
    by_channel: dict[str, dict[datetime, dict[str, int]]] = defaultdict(dict)
    for hour, channel, counts in found:
        by_channel[channel][hour] = counts
    return [
        ChannelCharts(
            str(channel.label),
            day=_chart(by_channel[channel], hours[-DAY:], 1, "%H:%M"),
            week=_chart(by_channel[channel], hours, PER_BAR, "%-d %b %H:%M"),
        )
        for channel in Channel
        if channel in by_channel
    ]


def _chart(
    counted: Mapping[datetime, Mapping[str, int]],
    hours: Sequence[datetime],
    per_bar: int,
    label: str,
) -> Chart:
    columns = []
    for first in range(0, len(hours), per_bar):
        of_bar = [counted.get(hour, {}) for hour in hours[first : first + per_bar]]
        sums = {name: sum(counts.get(name, 0) for counts in of_bar) for name in SHOWN}
        columns.append((hours[first].strftime(label), sums))
    return stacked(columns, SHOWN)


def _hours_until(now: datetime, count: int) -> list[datetime]:
    """The first moments of the last so many hours, this one the last."""
    this = now.replace(minute=0, second=0, microsecond=0)
    return [this - timedelta(hours=ago) for ago in range(count - 1, -1, -1)]


# --- In words ----------------------------------------------------------------------------------------------


def _bounded(count: int) -> str:
    return f"{count:,}" if count < MOST else f"{MOST:,}+"


def _share(part: int, whole: int) -> str:
    """In per cent; never 100 while one is missing."""
    if not whole:
        return ""
    return "100" if part == whole else f"{min(100 * part / whole, 99.9):.1f}"
