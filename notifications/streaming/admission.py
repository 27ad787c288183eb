"""Who may open a stream, and from which number on."""

from __future__ import annotations

from dataclasses import dataclass

from notifications.inbox.items import State, state_of
from users.authentication import bearer_in
from users.inbox_access import admitted
from users.inbox_tokens import InboxToken
from users.throttling import inbox_bucket, limiter, rate_limit


class BadRequest(Exception):
    """`field` names what is at fault."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


class TooOften(Exception):
    """`retry_after`: seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("The browsers of this user ask too often.")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Admitted:
    """Whose stream it is, and how their inbox is now."""

    token: InboxToken
    state: State


def admit(text: str, origin: str | None, own: str) -> Admitted:
    """Whom the token lets in, from a page of the origin. Asks the database, and Redis.

    Raises TokenRefused, OriginNotAllowed, TooOften, and what the database raises.
    """
    token = admitted(text, origin, own)
    _refuse_who_comes_too_often(token.recipient_id)
    return Admitted(token, state_of(token.recipient_id, token.live))


def _refuse_who_comes_too_often(recipient_id: int) -> None:
    """Opening a stream counts as one of the person's calls: a client that comes back at once for ever is stopped."""
    limit = rate_limit("INBOX_RATE_LIMIT")
    quota = limiter.take(inbox_bucket(recipient_id), *limit) if limit else None
    if quota and not quota.allowed:
        raise TooOften(quota.retry_after)


def token_in(authorization: str | None, query: str | None) -> str:
    """The token of the header; of the query where there is none, since an EventSource can send no header."""
    return bearer_in(authorization) if authorization else query or ""


def number_after(header: str | None, query: str | None) -> int | None:
    """`Last-Event-ID`, which a browser keeps, before `?after=`, with which it began. Raises BadRequest."""
    for name, given in (("Last-Event-ID", header), ("after", query)):
        if not given:
            continue
        if not (given.isascii() and given.isdigit() and len(given) <= 18):
            raise BadRequest(name, "This must be the number of an event.")
        return int(given)
    return None
