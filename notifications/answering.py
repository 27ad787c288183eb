"""An operator's one answer about many `unknown` notifications that are held, perhaps with the provider's log beside.

Each is answered as in the console (changes.py), by itself, so that a run that is broken off has done what it has done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from notifications import changes, ids
from notifications.models import Channel, Notification
from notifications.provider_log import ProviderLog, notification_in
from users.refusals import Conflict, Refused

CHUNK = 500

#: What an operator can say: each takes the notification as it was seen.
ANSWERS: dict[str, Callable[[Notification], object]] = {
    "arrived": lambda notification: changes.settle_as_arrived(notification.id),
    "resend": changes.resend,
    "give-up": lambda notification: changes.give_up(notification.id),
}


@dataclass
class Answered:
    """How many were answered, and how many were left, by why."""

    count: int = 0
    left: Counter[str] = field(default_factory=Counter)


def key_of_ours(written: str) -> str:
    """For a ProviderLog: an e-mail's Message-ID holds our id; others do not count."""
    return str(notification_in(written) or "")


def answer(
    how: str,
    since: datetime | None = None,
    until: datetime | None = None,
    log: ProviderLog | None = None,
    pretend: bool = False,
) -> Answered:
    """Give the answer for all that are held and were accepted in [since, until).

    With a `log` (keyed by `key_of_ours`) only e-mail counts: "arrived" is said of what is in it, the others of what is
    not. `pretend` only counts.
    """
    answered = Answered()
    for notification in _concerned(how, since, until, log):
        try:
            if not pretend:
                ANSWERS[how](notification)
            answered.count += 1
        except (Conflict, Refused) as refusal:
            answered.left[refusal.code] += 1
    return answered


def _concerned(
    how: str, since: datetime | None, until: datetime | None, log: ProviderLog | None
) -> Iterator[Notification]:
    for chunk in _held(since, until):
        if log is None:
            yield from chunk
            continue
        found = log.know([str(each.id) for each in chunk])
        for each in chunk:
            if each.channel == Channel.EMAIL and (str(each.id) in found) == (how == "arrived"):
                yield each


def _held(since: datetime | None, until: datetime | None) -> Iterator[list[Notification]]:
    """By their ids, so that what an answer leaves as it is does not come again."""
    held = Notification.objects.held().filter(erased_at=None).order_by("id")
    after = ids.first_of(since) if since else ids.FIRST
    end = ids.first_of(until) if until else ids.LAST
    chunk = list(held.filter(id__gte=after, id__lt=end)[:CHUNK])
    while chunk:
        yield chunk
        chunk = list(held.filter(id__gt=chunk[-1].id, id__lt=end)[:CHUNK])
