"""How a person's browser gets into the inbox: a token, and the address of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from users import directory
from users.inbox_tokens import InboxToken, issue
from users.models import Recipient

PATH = "/api/v1/inbox/stream"
#: For how long a token may hold.
SHORTEST = timedelta(minutes=1)
USUAL = timedelta(hours=1)
LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Entry:
    token: str
    expires_at: datetime
    user_id: str
    live: bool


def entry_for(
    project_id: int,
    user_id: str,
    *,
    live: bool,
    key_id: int | None = None,
    lifetime: timedelta = USUAL,
) -> Entry:
    """A token for one of the project's users. One that was never seen is made, as by a first notification.

    `live` False: for what test keys send. The token ends with the API key `key_id`, where one is given.
    """
    recipient = _recipient(project_id, user_id)
    expires_at = (timezone.now() + lifetime).replace(microsecond=0)
    token = InboxToken(project_id, recipient.pk, live, recipient.inbox_epoch, key_id, expires_at)
    return Entry(issue(token), expires_at, recipient.user_id, live)


def _recipient(project_id: int, user_id: str) -> Recipient:
    known = Recipient.objects.filter(project_id=project_id, user_id=user_id)
    if recipient := known.first():
        return recipient
    with transaction.atomic():
        directory.make(project_id, "in_app", directory.Destination(user_id, user_id))
    return known.get()


def stream_url(host: str) -> str | None:
    """Where the stream is: what STREAM_URL says; in development, beside the host that was asked.

    `host` as in a request's Host header. None where nobody has said.
    """
    if settings.STREAM_URL:
        return str(settings.STREAM_URL)
    if settings.PRODUCTION:
        return None
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return f"http://{name}:{settings.STREAM_PORT}{PATH}"
