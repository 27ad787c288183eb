"""Inbox tokens: with one, a person's browser reads and marks that person's in-app messages, for a while.

A backend makes them for its users; an API key never reaches a browser. A token is signed, not stored: what is inside is
no secret, and who changes it is found out. Whether it still holds is asked of the database (inbox_access.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from django.core.signing import BadSignature, Signer

#: What tells it from an API key at a glance, and secret scanners too.
PREFIX = "ntf_inbox_"
#: Longer ones are none of ours, and not worth looking at.
LONGEST = 500


@dataclass(frozen=True, slots=True)
class InboxToken:
    """Whose inbox, until when, and what ends it before that. Stands where Django has a user.

    `live` False: the inbox of what test keys sent. `epoch`: that of the recipient when it was made. `key_id`: the API
    key that made it; None for one of our own pages.
    """

    project_id: int
    recipient_id: int
    live: bool
    epoch: int
    key_id: int | None
    expires_at: datetime

    is_authenticated: ClassVar[bool] = True


class TokenRefused(Exception):
    """The token gives no access. `code` is one of invalid_token, token_expired, token_revoked."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


INVALID = TokenRefused("invalid_token", "This is not a valid inbox token.")
EXPIRED = TokenRefused("token_expired", "This inbox token has expired. Make a new one.")
REVOKED = TokenRefused("token_revoked", "This inbox token was revoked. Make a new one.")


def issue(token: InboxToken) -> str:
    """The token as text: letters, digits, `_`, `-` and `:`, about 120 of them."""
    return PREFIX + _signer().sign_object(
        [
            token.project_id,
            token.recipient_id,
            token.live,
            token.epoch,
            token.key_id,
            int(token.expires_at.timestamp()),
        ]
    )


def read(text: str, now: datetime) -> InboxToken:
    """The token behind the text. Raises TokenRefused where it is not one of ours, or its time is over."""
    if not text.startswith(PREFIX) or len(text) > LONGEST:
        raise INVALID
    try:
        signed = _signer().unsign_object(text.removeprefix(PREFIX))
    except BadSignature:
        raise INVALID from None
    project_id, recipient_id, live, epoch, key_id, expires_at = signed
    expiry = datetime.fromtimestamp(expires_at, UTC)
    token = InboxToken(project_id, recipient_id, live, epoch, key_id, expiry)
    if token.expires_at <= now:
        raise EXPIRED
    return token


def _signer() -> Signer:
    """Of SECRET_KEY; SECRET_KEY_FALLBACKS are accepted while one takes the other's place."""
    return Signer(salt="notifyproj.inbox-token")
