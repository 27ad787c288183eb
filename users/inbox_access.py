"""Whether an inbox token still holds, and from which pages it may be used."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import F
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from users.authentication import TRUSTED_FOR, bearer_in
from users.inbox_tokens import REVOKED, InboxToken, TokenRefused, read
from users.models import Project, Recipient

#: Where the inbox is; nothing else may be called from pages of other origins.
PATH = "/api/v1/inbox"
#: How a refused call is told what to bring (RFC 6750, section 3).
CHALLENGE = 'Bearer realm="notifyproj inbox"'

# A token ends with the person, with the person's epoch, and with the API key that made it.
_HOLDING = """
SELECT token.place FROM unnest(%(recipients)s::bigint[], %(projects)s::bigint[], %(epochs)s::int[], %(keys)s::bigint[])
    WITH ORDINALITY AS token (recipient_id, project_id, epoch, key_id, place)
JOIN users_recipient recipient ON recipient.id = token.recipient_id
    AND recipient.project_id = token.project_id AND recipient.inbox_epoch = token.epoch
WHERE NOT EXISTS (SELECT FROM users_forgetting forgetting WHERE forgetting.recipient_id = recipient.id)
  AND (token.key_id IS NULL OR EXISTS (
      SELECT FROM users_apikey key WHERE key.id = token.key_id AND key.revoked_at IS NULL
        AND (key.expires_at IS NULL OR key.expires_at > clock_timestamp()) AND 'inbox' = ANY(key.scopes)
  ))
"""


def holding(tokens: Sequence[InboxToken]) -> set[InboxToken]:
    """Those that nobody has revoked, by one question for all. Says nothing about their time."""
    with connection.cursor() as cursor:
        cursor.execute(
            _HOLDING,
            {
                "recipients": [token.recipient_id for token in tokens],
                "projects": [token.project_id for token in tokens],
                "epochs": [token.epoch for token in tokens],
                "keys": [token.key_id for token in tokens],
            },
        )
        return {tokens[place - 1] for (place,) in cursor.fetchall()}


def admitted(text: str, origin: str | None, own: str) -> InboxToken:
    """The token behind the text, which holds and comes from a page that may use it. `origin` and `own` as in is_allowed().

    Raises TokenRefused or OriginNotAllowed.
    """
    token = read(text, timezone.now())
    if not holding([token]):
        raise REVOKED
    if not is_allowed(origin, own, token.project_id):
        raise OriginNotAllowed
    return token


def revoke(recipient: Recipient) -> None:
    """End all inbox tokens of the person; streams that are open end within seconds."""
    Recipient.objects.filter(pk=recipient.pk).update(inbox_epoch=F("inbox_epoch") + 1)


# --- Pages of other origins --------------------------------------------------------------------------


class OriginNotAllowed(APIException):
    status_code = 403
    default_code = "origin_not_allowed"
    default_detail = "Pages of this origin may not use this inbox. It is not among the inbox origins of the project."


class Origins:
    """Which origins the projects allow, asked for once in `TRUSTED_FOR` seconds: there are few."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self._of_projects: dict[int, frozenset[str]] = {}
        self._until = 0.0

    def known(self) -> dict[int, frozenset[str]]:
        """As they were when last asked for: for who must not wait."""
        return self._of_projects

    def of_projects(self) -> dict[int, frozenset[str]]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._ask()
                self._until = time.monotonic() + TRUSTED_FOR
            return self._of_projects

    def _ask(self) -> None:
        """While the database is away, what it said last holds: a preflight is no reason for an error."""
        allowing = Project.objects.exclude(inbox_origins=[])
        try:
            rows = list(allowing.values_list("id", "inbox_origins"))
        except (DatabaseError, InterfaceError):
            return
        self._of_projects = {project: frozenset(allowed) for project, allowed in rows}


origins = Origins()


def is_allowed(origin: str | None, own: str, project_id: int) -> bool:
    """Whether a page of the origin may use the project's inboxes. `own` is where the request itself was sent to.

    A request without an origin comes from no page, or from one of ours.
    """
    if not origin or origin == own or origin in settings.OWN_ORIGINS:
        return True
    return origin in origins.of_projects().get(project_id, ())


def is_allowed_by_some(origin: str, projects: Mapping[int, frozenset[str]]) -> bool:
    """What a preflight may be told: it has no token, so nobody knows yet whose inbox is meant."""
    return origin in settings.OWN_ORIGINS or any(origin in allowed for allowed in projects.values())


# --- For the API's views -----------------------------------------------------------------------------


class InboxTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer ntf_inbox_...`, from a page that the project allows."""

    def authenticate(self, request: Request) -> tuple[InboxToken, str] | None:
        header = request.headers.get("Authorization", "").strip()
        if not header:
            return None
        text, own = bearer_in(header), f"{request.scheme}://{request.get_host()}"
        try:
            return admitted(text, request.headers.get("Origin"), own), text
        except TokenRefused as refusal:
            raise AuthenticationFailed(refusal.detail, code=refusal.code) from None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class HasInboxToken(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, InboxToken)


def allow_pages_of_projects(sender: Any, request: HttpRequest, **kwargs: Any) -> bool:
    """What django-cors-headers asks about every request, here for those to the inbox alone."""
    if not request.path_info.startswith(PATH):
        return False
    origin = request.headers.get("Origin")
    return origin is not None and is_allowed_by_some(origin, origins.of_projects())
