"""What happens to every request: an id, and one line in the log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse
from uuid_utils.compat import uuid7

log = structlog.get_logger("notifyproj.request")

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
#: What monitors and browsers ask all the time is logged at debug.
_QUIET = ("/livez", "/readyz", "/static/", "/favicon.ico")


class RequestMiddleware:
    """Takes `X-Request-Id` or makes one, binds it to every log line, and gives it back."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
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
