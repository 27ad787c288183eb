"""What this visitor has sent, as a list of ids in the session: nobody sees here what somebody else has sent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from django.contrib.sessions.backends.base import SessionBase
from django.http import Http404
from django.utils import timezone

from notifications.circumstances import explanation_of
from notifications.models import Notification, Status
from notifications.playground.visitors import Visitor

KEY = "try_sent"
MOST = 15
_MOVING = {Status.PENDING, Status.SENDING, Status.UNKNOWN}
#: For so long a receipt may still come: the sandbox simulates some.
_MAY_BE_REPORTED = timedelta(seconds=20)


class Row(NamedTuple):
    notification: Notification
    sentence: str


def remember(session: SessionBase, notification: Notification) -> None:
    """The newest `MOST` are kept."""
    session[KEY] = [str(notification.pk), *session.get(KEY, [])][:MOST]


def rows_of(visitor: Visitor, session: SessionBase) -> list[Row]:
    """Newest first, each with what the console says of it."""
    now = timezone.now()
    found = visitor.notifications().filter(pk__in=session.get(KEY, []))
    newest_first = found.select_related(*_RELATED).order_by("-pk")
    return [
        Row(notification, explanation_of(notification, now, names_staff=False).sentence)
        for notification in newest_first
    ]


def one_of(visitor: Visitor, session: SessionBase, pk: str) -> Notification:
    """Raises Http404 for whatever this visitor has not sent."""
    own = visitor.notifications().filter(pk__in=set(session.get(KEY, [])) & {pk})
    found = own.select_related(*_RELATED).first()
    if found is None:
        raise Http404
    return found


def is_moving(rows: list[Row]) -> bool:
    """Whether one of them may soon be told otherwise."""
    now = timezone.now()
    return any(_is_moving(row.notification, now) for row in rows)


def _is_moving(notification: Notification, now: datetime) -> bool:
    if notification.status != Status.SENT:
        return notification.status in _MOVING
    return notification.sent_at is not None and now - notification.sent_at < _MAY_BE_REPORTED


_RELATED = ("project", "flow__batch", "resent_as")
