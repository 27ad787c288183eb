"""API keys: who calls, for which project, and what the key may do.

A key that was looked up is trusted for a few seconds in this process, so that a busy key costs no query per
request; hence a revocation works within `TRUSTED_FOR` seconds everywhere.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from users.models import ApiKey, Scope

#: Seconds for which a key that was looked up is not looked up again.
TRUSTED_FOR = 4.0
#: Keys kept in memory at most.
LARGEST_CACHE = 10_000
#: `last_used_at` is written once in this time at most.
LAST_USE_PRECISION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. Stands where Django has a user; staff never call the API."""

    key_id: int
    project_id: int
    live: bool
    scopes: frozenset[str]
    is_authenticated: bool = True


class KeyCache:
    """Digest of a key -> caller, for `TRUSTED_FOR` seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[bytes, tuple[float, Caller]] = {}

    def get(self, digest: bytes) -> Caller | None:
        entry = self._entries.get(digest)
        return entry[1] if entry and entry[0] > time.monotonic() else None

    def put(self, digest: bytes, caller: Caller) -> None:
        with self._lock:
            if len(self._entries) >= LARGEST_CACHE:
                self._entries.clear()
            self._entries[digest] = (time.monotonic() + TRUSTED_FOR, caller)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


cache = KeyCache()


def bearer_in(header: str) -> str:
    """The token of an `Authorization: Bearer ...`; empty where the header reads otherwise."""
    words = header.split()
    return words[1] if len(words) == 2 and words[0].lower() == "bearer" else ""


class ApiKeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer ntf_live_...`. Unknown, revoked and expired keys get one and the same answer."""

    def authenticate(self, request: Request) -> tuple[Caller, str] | None:
        header = request.headers.get("Authorization", "").strip()
        if not header:
            return None
        token = bearer_in(header)
        if not token:
            raise AuthenticationFailed(
                "The Authorization header must read 'Bearer <API key>'.", code="invalid_key"
            )
        return caller_of(token), token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="notifyproj"'


def caller_of(token: str) -> Caller:
    """The caller behind a key. Raises AuthenticationFailed."""
    digest = ApiKey.digest_of(token)
    caller = cache.get(digest)
    if caller is None:
        caller = _look_up(token)
        cache.put(digest, caller)
    return caller


def _look_up(token: str) -> Caller:
    prefix = (ApiKey.prefix_of(token) or "").replace("\x00", "")  # PostgreSQL cannot look for it
    key = ApiKey.objects.usable(timezone.now()).filter(prefix=prefix).first()
    # An unknown prefix is compared as well, so that it takes as long as a known one.
    if not (key or ApiKey(digest=b"")).matches(token) or key is None:
        raise AuthenticationFailed("This API key is not valid.", code="invalid_key")
    _note_use(key)
    return Caller(key.pk, key.project_id, key.is_live, frozenset(key.scopes))


def _note_use(key: ApiKey) -> None:
    long_ago = Q(last_used_at=None) | Q(last_used_at__lt=Now() - LAST_USE_PRECISION)
    ApiKey.objects.filter(long_ago, pk=key.pk).update(last_used_at=Now())


class HasScope(BasePermission):
    """The view names the scope that each action needs, in `scopes`; an action without one is refused."""

    message = "This API key lacks the scope that the call needs."
    code = "missing_scope"

    def has_permission(self, request: Request, view: Any) -> bool:
        caller = request.user
        if not isinstance(caller, Caller):
            return False
        needed = view.scopes.get(getattr(view, "action", None))
        if needed is None:
            # An unknown method: DRF answers 405 after this.
            return getattr(view, "action", None) is None
        self.message = (
            f"This API key lacks the scope '{Scope(needed).value}', which the call needs."
        )
        return Scope(needed).value in caller.scopes
