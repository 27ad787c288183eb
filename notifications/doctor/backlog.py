"""What waits and why: overdue lanes, paused flows, what is held in `unknown`, and what must never be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.db.models.functions import Now

from notifications import invariants, pace, pausing, providers
from notifications.doctor.findings import Finding, error, ok, warning
from notifications.models import SANDBOX_LANE, Batch, Circuit, Flow, Notification, Receipt

#: Seconds a lane may be overdue before somebody should look, and before it is called an error.
OVERDUE_WARNING = 30.0
OVERDUE_ERROR = 300.0
#: Circuits that are named at most: there is one for each sender.
MOST_CIRCUITS = 10
#: Rows that are counted at most: a look must not cost more the longer the queue is.
MOST = 1000

# What a pause, an open circuit or a rate holds back waits, but is not overdue.
_LANES = """
SELECT flow.lane, sum(due.waiting), max(due.overdue),
       coalesce(max(due.overdue) FILTER (WHERE NOT {held}), 0), {retries}
FROM notifications_flow flow CROSS JOIN LATERAL (
    SELECT count(*) AS waiting,
           coalesce(extract(epoch FROM now() - min(due_at)), 0) AS overdue
    FROM (SELECT due_at FROM notifications_notification
          WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at <= now()
          ORDER BY due_at LIMIT 1000) AS first
) due
WHERE NOT flow.paused GROUP BY flow.lane ORDER BY flow.lane
"""
_HELD = f"({invariants.HELD_BY_PAUSE} OR {invariants.HELD_BY_CIRCUIT} OR {invariants.HELD_BY_PACE})"
# Among the next of each flow: also beside a million that are scheduled, it looks at so many.
_RETRIES = """
sum((SELECT count(*) FILTER (WHERE attempt_count > 0)
     FROM (SELECT attempt_count FROM notifications_notification
           WHERE flow_id = flow.id AND status = 'pending' AND leased_until IS NULL AND due_at > now()
           ORDER BY due_at LIMIT 1000) AS next))"""
LANES = _LANES.format(held=_HELD, retries="0")
LANES_AND_RETRIES = _LANES.format(held=_HELD, retries=_RETRIES)


@dataclass(frozen=True, slots=True)
class Lane:
    """`waiting` is due, free and of no paused flow, counted up to MOST for each flow; `overdue`, in seconds, the longest
    that nothing holds back has waited, `oldest` the longest of all; `retries` come, counted like `waiting`.
    """

    name: str
    waiting: int
    oldest: float
    overdue: float
    retries: int = 0


def lanes(*, with_retries: bool = False) -> list[Lane]:
    """Each lane that has a flow which runs."""
    statement = LANES_AND_RETRIES if with_retries else LANES
    with connection.cursor() as cursor:
        cursor.execute(statement, invariants.carriers() | {"unswept": invariants.UNSWEPT})
        return [
            Lane(name, int(waiting), float(oldest), float(overdue), int(retries))
            for name, waiting, oldest, overdue, retries in cursor.fetchall()
        ]


def overdue() -> Iterator[Finding]:
    late = [lane for lane in lanes() if lane.overdue > OVERDUE_WARNING]
    if not late:
        yield ok("lanes", "No lane is overdue.")
    for lane in late:
        if lane.name != SANDBOX_LANE and not providers.for_channel(lane.name.partition(".")[0]):
            yield _without_provider(lane)
            continue
        make = error if lane.overdue > OVERDUE_ERROR else warning
        yield make(
            "lanes",
            "lane_overdue",
            f"{lane.name} is {lane.overdue:,.0f} s overdue; {_counted(lane.waiting)} wait.",
            "If a worker serves it and its log shows it at work, there is more than it can do: start another one. "
            "Else see the other findings, and docs/operations.md, Mails are not going out.",
        )


def _without_provider(lane: Lane) -> Finding:
    return error(
        "lanes",
        "lane_without_provider",
        f"{_counted(lane.waiting)} wait in {lane.name}, whose channel has no provider any more.",
        "Configure the provider again, in the workers' environment, and restart them; or cancel what waits.",
    )


def pauses() -> Iterator[Finding]:
    """Lanes and providers that somebody has paused. Everybody may hear which, but not who said why."""
    found = pausing.pauses()
    for each in found:
        kind = pausing.kind_of(each.target)
        who = f"by {each.paused_by}" if each.paused_by else "by a command"
        yield warning(
            "pauses",
            f"{kind}_paused",
            f"The {kind} {each.target} is paused: nothing of it goes out.",
            f"manage.py resume {each.target}, or the console's first page. What reaches its expires_at expires.",
            f"since {each.paused_at:%d %b %H:%M} UTC, {who}: {each.reason or 'no reason given'}"[
                :300
            ],
        )
    if not found:
        yield ok("pauses", "No lane and no provider is paused.")


def paused() -> Iterator[Finding]:
    # A batch's flow is paused whenever the batch does not run.
    flows = list(
        Flow.objects.filter(paused=True, batch=None).select_related("project").order_by("id")[:MOST]
    )
    if flows:
        named = "; ".join(str(flow) for flow in flows[:5])
        yield warning(
            "flows",
            "flow_paused",
            f"{_counted(len(flows))} flow(s) are paused: nothing of them goes out.",
            "Let them run again, in the admin under Flows or with manage.py resume PROJECT/LANE. What reaches its expires_at expires.",
            named + (" ..." if len(flows) > 5 else ""),
        )


def paused_batches() -> Iterator[Finding]:
    paused = Batch.objects.filter(status=Batch.Status.PAUSED, finished_at=None)
    found = list(paused.order_by("id").only("name", "reason")[:MOST])
    if found:
        named = "; ".join(f"{batch.name}: {batch.reason or 'by a person'}" for batch in found[:5])
        yield warning(
            "batches",
            "batch_paused",
            f"{_counted(len(found))} batch(es) are paused: the rest of them waits.",
            "Resume or cancel each, in the admin under Batches or with manage.py batch. What reaches its expires_at "
            "expires.",
            named + (" ..." if len(found) > 5 else ""),
        )


def circuits() -> Iterator[Finding]:
    are_open = Circuit.objects.filter(open_until__isnull=False).order_by("provider", "sender")
    opened = list(are_open[:MOST_CIRCUITS])
    for circuit in opened:
        yield _open(circuit)
    if not opened:
        yield ok("circuits", "No provider is being left alone.")


def _open(circuit: Circuit) -> Finding:
    refused = circuit.cause == Circuit.Cause.REFUSED
    make = error if refused else warning
    advice = (
        "Correct the account, the password or the sender, then restart workers: they ask again at once. What waits "
        "goes out by itself; no notification fails by it."
        if refused
        else "It is asked again by itself, with one message at a time, and what waits then goes out. If it lasts, "
        "look at the vendor's status page and at the network."
    )
    since = f"since {circuit.opened_at:%d %b %H:%M} UTC" if circuit.opened_at else ""
    return make(
        "circuits",
        "circuit_open",
        f"{circuit.provider} is being left alone for a while: {circuit.get_cause_display().lower()}.",
        advice,
        f"{circuit}, {since}: {circuit.code} {circuit.detail}".strip()[:300],
    )


def paces() -> Iterator[Finding]:
    """Providers that are called more slowly than they would be, since they said "too many"."""
    lowered = list(pace.lowered())
    for each in lowered:
        yield warning(
            "paces",
            "provider_throttled",
            each.sentence,
            "It doubles each minute until the provider says so again. What waits meanwhile spends no attempt. If it comes "
            "back again and again, set PROVIDER_RATES to what the provider's plan allows, or ask it for more.",
        )
    if not lowered:
        yield ok("paces", "No provider has said lately that we are too fast.")


def held() -> Iterator[Finding]:
    count = Notification.objects.held().filter(erased_at=None)[:MOST].count()
    if count:
        yield warning(
            "unknown",
            "unknown_held",
            f"{_counted(count)} notification(s) may or may not have been sent, and wait for an operator.",
            "Find them in the admin by status unknown, look for them in the provider's log, and decide. manage.py "
            "reconcile --provider-log compares them all at once.",
        )


def receipts() -> Iterator[Finding]:
    """Those that have come, and that nobody has looked at yet."""
    late = Receipt.objects.filter(
        applied_at=None, due_at__lt=Now() - timedelta(seconds=OVERDUE_WARNING)
    )
    count = late[:MOST].count()
    if not count:
        yield ok("receipts", "Every receipt that has come was applied.")
        return
    yield warning(
        "receipts",
        "receipts_waiting",
        f"{_counted(count)} receipt(s) of providers wait to be applied.",
        "Every worker does this with its sweep, every few seconds: look whether one runs, and for sweep_failed in its "
        "log. A burst of many thousands takes some seconds longer.",
    )


def ledger() -> Iterator[Finding]:
    """The invariants."""
    sound = True
    for breach in invariants.breaches():
        sound = False
        yield _breach(breach)
    if sound:
        yield ok("ledger", "The ledger is sound.", f"{len(invariants.INVARIANTS)} invariants hold")


def _breach(breach: invariants.Breach) -> Finding:
    invariant = breach.invariant
    if breach.ids is None:
        return warning(
            "ledger",
            "not_checked",
            f"Whether anything is {invariant.code} could not be told in time.",
            "The database is busy, or its statistics are old (ANALYZE). Try again later.",
            invariant.code,
        )
    more = "or more " if len(breach.ids) >= invariants.LIMIT else ""
    return error(
        "ledger",
        invariant.code,
        f"{len(breach.ids)} {more}{invariant.of}(s): {invariant.meaning}.",
        invariant.advice,
        ", ".join(str(id) for id in breach.ids[:5]) + (" ..." if len(breach.ids) > 5 else ""),
    )


def _counted(number: int) -> str:
    return f"{number:,}" if number < MOST else f"{MOST:,} or more"
