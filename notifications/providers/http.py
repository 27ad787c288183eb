"""HTTP towards vendors: `requests` sessions whose calls end at the deadline and know what has left."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection

from notifications.providers import deadline
from notifications.providers.base import (
    Ambiguous,
    Misconfigured,
    Permanent,
    ProviderError,
    Temporary,
)

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
#: Load balancers close a connection that was idle for 60 s (AWS's default), some earlier. One that is
#: closed while we write to it would turn an innocent message into an ambiguous one.
IDLE_LIMIT = 30.0
_MOST_WORDS = 500
#: RFC 6585, 4.
TOO_MANY_REQUESTS = 429


def with_deadlines(session: requests.Session) -> requests.Session:
    """Put every call of this session, which serves one thread, under the deadline of that thread."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(pool_connections=2, pool_maxsize=1))
    return session


class _Watched(HTTPConnection):
    """Puts its socket under the deadline of whichever call uses it, and notes when the request has left."""

    _last_used = 0.0

    def connect(self) -> None:
        super().connect()
        self._watch()

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            self._watch()
        super().request(*args, **kwargs)
        # Not before: a send that broke has left the request incomplete, and that is surely not accepted.
        deadline.current().message_left = True
        self._last_used = monotonic()

    @property
    def is_connected(self) -> bool:
        """The pool asks before it uses a kept connection again, and otherwise opens a new one."""
        return monotonic() - self._last_used < IDLE_LIMIT and super().is_connected

    def _watch(self) -> None:
        # TLS to a vendor through a TLS proxy is not a socket but has one.
        deadline.current().watch(getattr(self.sock, "socket", self.sock))


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS


_POOLS = {"http": _Pool, "https": _TLSPool}


class _Adapter(HTTPAdapter):
    """Watched connections, our time-outs whatever the caller says, no redirects, no retries.

    (requests' own default is not to retry.)
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        if proxy.lower().startswith("socks"):
            raise requests.exceptions.InvalidProxyURL(
                "a SOCKS proxy has no deadline; use an HTTP proxy"
            )
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        within = deadline.current().within
        kwargs["timeout"] = Timeout(connect=within(CONNECT_TIMEOUT), read=within(READ_TIMEOUT))
        response = super().send(request, *args, **kwargs)
        # Nothing to follow then. A followed POST would be repeated, or turn into a GET.
        response.headers.pop("Location", None)
        return response


def failure(error: BaseException) -> ProviderError:
    """What a call without an answer means. A certificate that fails is not the message's fault."""
    if _caused_by_certificate(error):
        return Misconfigured("tls_certificate", str(error)[:_MOST_WORDS])
    return deadline.current().failure(error)


def refusal(
    status: int, words: str, headers: Mapping[str, str], *, code: str = ""
) -> ProviderError:
    """What an HTTP status means where the vendor says nothing more specific.

    | status | meaning |
    |---|---|
    | 2xx | Ambiguous: an answer, but not one we can read |
    | 3xx, 401, 402, 403, 407 | Misconfigured: the URL, the credentials, the account |
    | 408, 421, 425, 429, 503 | Temporary, not before Retry-After: it was not processed (RFC 9110, 6585) |
    | other 4xx | Permanent: the message itself |
    | other 5xx | Ambiguous: it failed on the way, nobody knows where |
    """
    code, words = code or f"http_{status}", words[:_MOST_WORDS]
    if status in (408, 421, 425, 429, 503):
        return Temporary(
            code, words, retry_after=retry_after(headers), throttled=status == TOO_MANY_REQUESTS
        )
    if status // 100 == 3 or status in (401, 402, 403, 407):
        return Misconfigured(code, words)
    return (Permanent if status // 100 == 4 else Ambiguous)(code, words)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which gives seconds or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    # "-0000" makes a naive datetime; RFC 9110 dates are always in GMT.
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _caused_by_certificate(error: BaseException | None) -> bool:
    if error is None or isinstance(error, ssl.SSLCertVerificationError):
        return error is not None
    return _caused_by_certificate(error.__cause__ or error.__context__)
