"""What happens to every request: an id, and one line in the log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import structlog
from csp.constants import SELF
from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import resolve
from uuid_utils.compat import uuid7

log = structlog.get_logger("notifyproj.request")

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: What monitors and browsers ask all the time is logged at debug.
#: And webhooks: those that are refused have a line of their own.
_QUIET = ("/livez", "/readyz", "/static/", "/favicon.ico", "/hooks/")


_Next = Callable[[HttpRequest], HttpResponse]


class RouteForPath(logging.Filter):
    """A path may hold a user's id, which may be an address: Django's own lines get the route in its place."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if request is not None and isinstance(record.args, tuple):
            match = request.resolver_match
            record.args = (*record.args[:-1], match.route if match else "no route")
        return True


class RequestMiddleware:
    """Takes `X-Request-Id` or makes one, binds it to every log line, and gives it back."""

    def __init__(self, get_response: _Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = self._id_of(request)
        request.request_id = request_id  # type: ignore[attr-defined]
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            self._log(request, response, time.perf_counter() - started)
        response["X-Request-Id"] = request_id
        return response

    @staticmethod
    def _id_of(request: HttpRequest) -> str:
        given = request.headers.get("X-Request-Id", "")
        return given if _ACCEPTABLE_ID.fullmatch(given) else str(uuid7())

    @staticmethod
    def _log(request: HttpRequest, response: HttpResponse, seconds: float) -> None:
        quiet = request.path.startswith(_QUIET)
        # The route, not the path: a path may hold a user's id, which may be an address.
        match = request.resolver_match
        (log.debug if quiet else log.info)(
            "request",
            method=request.method,
            route=match.route if match else None,
            status=response.status_code,
            ms=round(seconds * 1000, 1),
        )


class PolicyMiddleware(CSPMiddleware):
    """What a page may load, run and use of the browser: its own, and nothing within it (CONTENT_SECURITY_POLICY)."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        parts.replace = {**self._needs_of(request), **(parts.replace or {})}
        return parts

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        response["Permissions-Policy"] = _USES_NOTHING
        return super().process_response(request, response)

    @staticmethod
    def _needs_of(request: HttpRequest) -> dict[str, Any]:
        match = request.resolver_match
        if match and "admin" in match.app_names:
            return settings.CONTENT_SECURITY_POLICY_OF_THE_CONSOLE
        if match and match.url_name == "docs":
            return settings.CONTENT_SECURITY_POLICY_OF_THE_DOCS
        if match and match.url_name == "try":
            return {"connect-src": [SELF, *_stream_of(request)]}
        if match and match.url_name == "try_message":
            return settings.CONTENT_SECURITY_POLICY_OF_A_SHOWN_MAIL
        return {}


def _stream_of(request: HttpRequest) -> list[str]:
    """The origin of the inbox's stream, where there is one: the bell reads from there."""
    from notifications.inbox.entry import stream_url

    parts = urlsplit(stream_url(request.get_host()) or "")
    return [f"{parts.scheme}://{parts.netloc}"] if parts.netloc else []


#: But for the clipboard, for copying a key.
_USES_NOTHING = (
    "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), "
    "microphone=(), midi=(), payment=(), usb=()"
)


class ProbeMiddleware:
    """Answers balancers and container engines before the host is checked: they ask by address."""

    def __init__(self, get_response: _Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        from notifications import views

        probes = {"/livez": views.livez, "/readyz": views.readyz}
        return probes.get(request.path, self.get_response)(request)


class SecureApiMiddleware:
    """Refuses API calls and webhooks over plain http in production.

    A redirect would teach the caller nothing: the key has already travelled in clear, and will again
    (OWASP ASVS 5.0, 4.1.2). Browsers' pages are redirected by Django's own SecurityMiddleware.
    """

    def __init__(self, get_response: _Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        from notifications.api.errors import plain_problem

        insecure = settings.SECURE_SSL_REDIRECT and not request.is_secure()
        if insecure and ("Authorization" in request.headers or request.path.startswith("/hooks/")):
            return plain_problem(
                request, 403, "https_required", "Use https. Consider this key as known to others."
            )
        return self.get_response(request)


class WebhookMiddleware:
    """Hands webhooks over before sessions, sign-in and messages, which are for people's pages: they come by thousands a
    second, and these would cost as much as keeping one does.
    """

    def __init__(self, get_response: _Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith("/hooks/"):
            return self.get_response(request)
        match = resolve(request.path_info)
        request.resolver_match = match
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
        # What CommonMiddleware does; a body in chunks, if only an empty one, is not what every vendor expects.
        response["Content-Length"] = str(len(response.content))
        return response


def client_address(request: HttpRequest) -> str:
    """Who asks, as the nearest proxy that we trust saw it.

    Each proxy appends to X-Forwarded-For what it saw, so only as many entries from the right as there are
    trusted proxies can be believed.
    """
    seen: list[str] = [
        entry.strip() for entry in request.headers.get("X-Forwarded-For", "").split(",")
    ]
    proxies: int = settings.TRUSTED_PROXIES
    if proxies and len(seen) >= proxies and seen[-proxies]:
        return seen[-proxies]
    return str(request.META.get("REMOTE_ADDR", ""))
