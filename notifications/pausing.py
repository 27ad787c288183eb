"""Pausing: a lane, a provider or a project's flow of which nothing goes out until somebody lets it run again.

A pause holds what waits and changes none of it: no attempt is spent, what reaches its `expires_at` expires. Nothing is
claimed, and what a worker has claimed already does not begin; a call that is under way still counts. A batch is paused
with its own acts (batches.py). Command and console both call these.
"""

from __future__ import annotations

import structlog
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.db import models, transaction

from notifications import providers
from notifications.models import LANES, SANDBOX_LANE, Flow, Pause
from notifications.waking import wake
from users.models import User
from users.refusals import Conflict, Refused

log = structlog.get_logger(__name__)


def is_paused(lane: str, provider: str) -> str:
    """SQL: whether a lane, or the provider that carries it, is paused. Both arguments are expressions.

    By the primary key of a table of a few rows. Where they are parameters, it is asked once for each statement.
    """
    return (
        f"EXISTS (SELECT FROM notifications_pause pause WHERE pause.target IN ({lane}, {provider}))"
    )


def known_targets() -> list[str]:
    """What can be paused: every lane, and every provider there is, whether it carries something now or not."""
    return [*LANES, *(name for name in providers.names() if name != SANDBOX_LANE)]


def kind_of(target: str) -> str:
    """`lane` or `provider`. The sandbox is a lane."""
    return "lane" if target in LANES else "provider"


def lanes_of(target: str) -> list[str]:
    """The lanes that a pause of `target` holds."""
    return [lane for lane in LANES if target in (lane, providers.of_lane(lane))]


def pause(target: str, user: User | None, reason: str) -> None:
    """Nothing of this lane or provider goes out from now on. `user` is None where a command does it.

    Pausing what is paused already is fine: a reason that is given replaces the older one. Raises Refused where there is
    no such target.
    """
    if target not in known_targets():
        raise _unknown(target)
    with transaction.atomic():
        paused, is_new = Pause.objects.get_or_create(
            target=target, defaults={"reason": reason, "paused_by": user}
        )
        if not is_new:
            if not reason:
                return
            Pause.objects.filter(target=target).update(reason=reason, paused_by=user)
        _log(user, paused, ADDITION if is_new else CHANGE, _because("Paused", reason))
    log.warning("paused", target=target, reason=reason)


def resume(target: str, user: User | None) -> bool:
    """Let it go out again, at once. Returns whether it was paused. Raises Refused where there is no such target."""
    with transaction.atomic():
        paused = Pause.objects.select_for_update().filter(target=target).first()
        if paused is None:
            if target not in known_targets():
                raise _unknown(target)
            return False
        _log(user, paused, DELETION, "Resumed.")
        paused.delete()
        _wake(lanes_of(target))
    log.warning("resumed", target=target)
    return True


def pauses() -> list[Pause]:
    """Every lane and provider that is paused, the longest first."""
    return list(Pause.objects.select_related("paused_by").order_by("paused_at", "target"))


def holding(lane: str, provider: str) -> Pause | None:
    """The pause that keeps a lane carried by this provider from going out; its own before the provider's."""
    found = Pause.objects.filter(target__in=(lane, provider)).select_related("paused_by")
    own_first = models.Case(models.When(target=lane, then=0), default=1)
    return found.order_by(own_first).first()


def pause_flow(flow_id: int, user: User | None, reason: str) -> None:
    """Nothing of a project's flow goes out from now on. Pausing a paused one is fine, and logs a reason that is given.

    Raises Conflict for a batch's flow.
    """
    with transaction.atomic():
        flow = _of_project(flow_id)
        if flow.paused and not reason:
            return
        Flow.objects.filter(id=flow_id).update(paused=True)
        _log(user, flow, CHANGE, _because("Paused", reason))
    log.warning("paused", target=str(flow), reason=reason)


def resume_flow(flow_id: int, user: User | None) -> bool:
    """Let the flow go out again, at once. Returns whether it was paused. Raises Conflict for a batch's flow."""
    with transaction.atomic():
        flow = _of_project(flow_id)
        if not flow.paused:
            return False
        Flow.objects.filter(id=flow_id).update(paused=False)
        _log(user, flow, CHANGE, "Resumed.")
        _wake([flow.lane])
    log.warning("resumed", target=str(flow))
    return True


def _of_project(flow_id: int) -> Flow:
    """Locked by its `paused` alone: a claim that gives out its slots waits for nobody."""
    rows = Flow.objects.select_related("project", "batch")
    flow = rows.select_for_update(of=("self",), no_key=True).get(id=flow_id)
    if flow.batch:
        raise Conflict(
            "flow_of_batch",
            f"This flow is of the batch {flow.batch.name!r}, which knows whether it may run: pause or resume the batch.",
        )
    return flow


def _wake(lanes: list[str]) -> None:
    for lane in lanes:
        transaction.on_commit(lambda lane=lane: wake(lane), robust=True)  # type: ignore[misc]


def _log(user: User | None, row: models.Model, flag: int, message: str) -> None:
    """Where there is nobody signed in, the service's own log has it."""
    if user is not None:
        LogEntry.objects.log_actions(user.pk, [row], flag, message, single_object=True)


def _because(done: str, reason: str) -> str:
    return f"{done}: {reason}" if reason else f"{done}."


def _unknown(target: str) -> Refused:
    known = ", ".join(known_targets())
    return Refused(
        "unknown_target", f"There is no lane or provider {target!r}. Known are: {known}.", "target"
    )
