"""What an operator can do to notifications: resend, retry now, cancel, settle an unknown one.

What would be refused is told beforehand, on the page that asks for confirmation; what is refused is decided by
notifications/changes.py, row by row, when it is done. Each is done for a reason, and the log keeps it with the name. On
very many it is done by bulk_actions.py.
"""

from __future__ import annotations

import abc
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar
from uuid import UUID

from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.db import transaction

from notifications import changes, suppressions
from notifications.explaining import counted
from notifications.models import Notification, Status
from notifications.suppressions import Planned
from users.models import User
from users.refusals import Refused

#: Notifications that can be acted on at once, while somebody waits for the page.
MOST_AT_ONCE = 500

#: Characters of a reason.
LONGEST_REASON = 500

#: Why a resend would be refused.
SUPPRESSED = "the address is suppressed"
#: Begins the log's words, of the old one (a change) and of the new one (an addition).
RESENT = "Resent"


@dataclass(frozen=True, slots=True)
class State:
    """What of a notification decides whether something can be done to it."""

    status: str
    erased: bool = False
    resent: bool = False

    @classmethod
    def of(cls, notification: Notification) -> State:
        return cls(
            notification.status, bool(notification.erased_at), hasattr(notification, "resent_as")
        )


class Act(abc.ABC):
    """`name` stands in URLs and permissions; the other words on buttons and in sentences."""

    name: ClassVar[str]
    verb: ClassVar[str]
    done: ClassVar[str]
    icon: ClassVar[str]
    consequence: ClassVar[str]
    #: Of notifications that it can be done to.
    statuses: ClassVar[frozenset[str]]

    @property
    def permission(self) -> str:
        return f"notifications.{self.name}_notification"

    def question(self, count: int) -> str:
        return f"{self.verb} {counted(count, 'notification')}?"

    @abc.abstractmethod
    def obstacle_to(self, state: State) -> str:
        """Why it would be refused, in a few words; empty where nothing is in the way."""

    def obstacle(self, notification: Notification) -> str:
        return self.obstacle_to(State.of(notification))

    def repeats(self, status: str) -> bool:
        """Whether the person has the message already, and would get it twice."""
        return False

    def obstacles(self, notifications: Sequence[Notification]) -> list[str]:
        """Those of each, in order."""
        return [self.obstacle(notification) for notification in notifications]

    @abc.abstractmethod
    def perform(
        self, notification: Notification, user: User, reason: str, include_arrived: bool = False
    ) -> Notification | None:
        """Do it and log it. Returns a notification that came of it. Raises Refused.

        `include_arrived`: also where the person has the message already.
        """


class Resend(Act):
    name = "resend"
    verb = "Resend"
    done = "resent"
    icon = "forward_to_inbox"
    consequence = (
        "Each is sent once more, to the same address, as a new notification that names the old one."
    )
    statuses = Notification.RESENDABLE

    def obstacle_to(self, state: State) -> str:
        if state.erased:
            return "the person was forgotten"
        if state.status not in self.statuses:
            return f"still {state.status}"
        return "resent already" if state.resent else ""

    def repeats(self, status: str) -> bool:
        return status in (Status.SENT, Status.DELIVERED)

    def obstacles(self, notifications: Sequence[Notification]) -> list[str]:
        suppressed = _suppressed_among(notifications)
        return [
            self.obstacle(notification) or (SUPPRESSED if notification.pk in suppressed else "")
            for notification in notifications
        ]

    def perform(
        self, notification: Notification, user: User, reason: str, include_arrived: bool = False
    ) -> Notification:
        newer = changes.resend(notification, include_arrived).notification
        _log(user, notification, CHANGE, RESENT, reason)
        _log(user, newer, ADDITION, RESENT, reason)
        return newer


class _Change(Act):
    """What changes a notification itself, and makes no new one."""

    #: In the log.
    logged: ClassVar[str]
    #: What it would have to be, in a few words.
    wanted: ClassVar[str]

    def obstacle_to(self, state: State) -> str:
        return "" if state.status in self.statuses else f"{state.status}, not {self.wanted}"

    @abc.abstractmethod
    def change(self, notification_id: UUID) -> None:
        """Raises Refused."""

    def perform(
        self, notification: Notification, user: User, reason: str, include_arrived: bool = False
    ) -> None:
        self.change(notification.pk)
        _log(user, notification, CHANGE, self.logged, reason)


class RetryNow(_Change):
    name = "retry"
    verb = "Retry now"
    done = "due now"
    icon = "bolt"
    consequence = "Each becomes due at once, instead of waiting for its time."
    statuses = frozenset({Status.PENDING})
    wanted = "waiting"
    logged = "Made due at once"

    def change(self, notification_id: UUID) -> None:
        changes.retry_now(notification_id)


class Cancel(_Change):
    name = "cancel"
    verb = "Cancel"
    done = "cancelled"
    icon = "cancel"
    consequence = "Each is never sent. This cannot be undone, but a cancelled one can be resent."
    statuses = frozenset(Notification.CANCELLABLE)
    wanted = "waiting"
    logged = "Cancelled"

    def obstacle_to(self, state: State) -> str:
        if state.status == Status.CANCELLED:
            return "cancelled already"
        return super().obstacle_to(state)

    def change(self, notification_id: UUID) -> None:
        changes.cancel(notification_id)


class _Settle(_Change):
    """What an operator says of an `unknown` one, when no provider will."""

    permission = "notifications.settle_notification"
    statuses = frozenset({Status.UNKNOWN})
    wanted = "unknown"


class Arrived(_Settle):
    name = "arrived"
    verb = "It arrived"
    done = "settled as sent"
    icon = "mark_email_read"
    consequence = (
        "Each is then sent, on your word instead of the provider's, and never goes out a second time. "
        "Say so when the person, or the provider's own log, has told you."
    )
    logged = "Settled as sent, it arrived"

    def question(self, count: int) -> str:
        return "Did it arrive?" if count == 1 else f"Did these {count:,} notifications arrive?"

    def change(self, notification_id: UUID) -> None:
        changes.settle_as_arrived(notification_id)


class GiveUp(_Settle):
    name = "give_up"
    verb = "Give up"
    done = "given up"
    icon = "block"
    consequence = (
        "Each then failed, with the code given_up, and never goes out a second time, whether its person has it "
        "or not. It can still be resent."
    )
    logged = "Given up"

    def change(self, notification_id: UUID) -> None:
        changes.give_up(notification_id)


_ACTS = (Arrived(), Resend(), GiveUp(), RetryNow(), Cancel())
ACTS: dict[str, Act] = {act.name: act for act in _ACTS}


@dataclass(frozen=True, slots=True)
class Plan:
    """What an act would do to some notifications."""

    act: Act
    eligible: list[Notification] = field(default_factory=list)
    #: Those whose person has the message already. Left out, unless somebody says that they are meant too.
    arrived: list[Notification] = field(default_factory=list)
    #: Why the others are not, and how many each.
    obstacles: Counter[str] = field(default_factory=Counter)

    @property
    def left_out(self) -> list[tuple[str, int]]:
        return self.obstacles.most_common()

    @property
    def question(self) -> str:
        return self.act.question(len(self.eligible))

    @property
    def possible(self) -> list[Notification]:
        """Those that the button is about, with those that have to be ticked."""
        return self.eligible + self.arrived

    @property
    def channels(self) -> list[tuple[str, int]]:
        """How many of each channel."""
        return Counter(each.get_channel_display() for each in self.eligible).most_common()

    @property
    def perhaps_arrived(self) -> list[Notification]:
        """Those whose person may have it already."""
        if self.act.name != "resend":
            return []
        return [each for each in self.eligible if each.status == Status.UNKNOWN]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an act: those done, each with what came of it; those refused, each with the reason."""

    done: list[tuple[Notification, Notification | None]] = field(default_factory=list)
    refused: list[tuple[Notification, str]] = field(default_factory=list)


def plan(act: Act, notifications: Iterable[Notification]) -> Plan:
    planned = Plan(act)
    notifications = list(notifications)
    for notification, obstacle in zip(notifications, act.obstacles(notifications), strict=True):
        if obstacle:
            planned.obstacles[obstacle] += 1
        elif act.repeats(notification.status):
            planned.arrived.append(notification)
        else:
            planned.eligible.append(notification)
    return planned


def _suppressed_among(notifications: Sequence[Notification]) -> set[UUID]:
    """Those whose address must not be written to: one question for each project."""
    by_project: dict[int, list[Notification]] = defaultdict(list)
    for notification in notifications:
        by_project[notification.project_id].append(notification)
    suppressed: set[UUID] = set()
    for project_id, its in by_project.items():
        wanted = [Planned(each.channel, each.address, each.category, "") for each in its]
        suppressed |= {its[at].pk for at in suppressions.refusals_among(project_id, wanted)}
    return suppressed


def carry_out(
    act: Act,
    notifications: Iterable[Notification],
    user: User,
    reason: str,
    include_arrived: bool = False,
) -> Report:
    """Each in a transaction of its own, with its log entry: one that is refused holds up no other.

    A database that goes away ends it; what was done until then is committed and logged.
    """
    report = Report()
    for notification in notifications:
        try:
            with transaction.atomic():
                newer = act.perform(notification, user, reason, include_arrived)
            report.done.append((notification, newer))
        except Refused as refusal:
            report.refused.append((notification, refusal.detail))
    return report


def _log(user: User, notification: Notification, flag: int, done: str, reason: str) -> None:
    message = f"{done}: {reason}"
    LogEntry.objects.log_actions(user.pk, [notification], flag, message, single_object=True)
