"""The stream's ASGI application: `granian --interface asgi notifications.streaming.app:application`."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")
django.setup()

# ruff: noqa: E402 - What follows reads the settings.
import structlog
from django.conf import settings
from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uuid_utils.compat import uuid7

from notifications.api.errors import CONTENT_TYPE, RETRY_AFTER, TITLES, problem, retry_after
from notifications.api.parsing import dump_json
from notifications.inbox.entry import PATH
from notifications.streaming import feeding
from notifications.streaming.admission import BadRequest, TooOften, admit, number_after, token_in
from notifications.streaming.connections import (
    TRY_AGAIN_AFTER,
    Connection,
    Connections,
    TooManyStreams,
)
from notifications.streaming.watching import DATABASE_ERRORS, Watcher
from users.inbox_access import CHALLENGE, OriginNotAllowed, is_allowed_by_some, origins
from users.inbox_tokens import TokenRefused

log = structlog.get_logger(__name__)

#: Seconds between two comments that show both ends, and proxies, that the other one is there.
HEARTBEAT = 15

connections = Connections()
watcher = Watcher(connections)


class Stream(EventSourceResponse):
    """Ends without a fuss for a client that takes nothing any more."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(
            connection.lines(),
            ping=HEARTBEAT,
            send_timeout=settings.STREAM_PATIENCE,
            sep="\n",
        )
        self.connection = connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            self.connection.ended_by = "too_slow"
        finally:
            connections.remove(self.connection)
            log.info(
                "stream",
                seconds=round(time.monotonic() - began, 1),
                ended_by=self.connection.ended_by or "client",
            )


async def stream(request: Request) -> Response:
    """GET /api/v1/inbox/stream, as docs/inbox.md describes it."""
    if settings.SECURE_SSL_REDIRECT and _scheme(request) != "https":
        return _refuse(403, "https_required", "Use https. Consider this token as known to others.")
    connections.refuse_one_too_many()
    after = number_after(request.headers.get("Last-Event-ID"), request.query_params.get("after"))
    text = token_in(request.headers.get("Authorization"), request.query_params.get("token"))
    admitted = await watcher.ask(admit, text, request.headers.get("Origin"), _own_origin(request))
    state = admitted.state
    connection = connections.add(admitted.token, state.position if after is None else after)
    if connection.position == state.position:
        connection.give(feeding.counted(state), state.position)
    return Stream(connection)


async def livez(request: Request) -> Response:
    """This process runs."""
    return PlainTextResponse("ok\n")


def _own_origin(request: Request) -> str:
    return f"{_scheme(request)}://{request.headers.get('Host', '')}"


def _scheme(request: Request) -> str:
    """As the proxy in front saw it."""
    return request.headers.get("X-Forwarded-Proto", request.url.scheme)


# --- Refusals, as everywhere else (notifications/api/errors.py) --------------------------------------


def _refuse(status: int, code: str, detail: str, field: str = "", **headers: str) -> Response:
    errors = [{"field": field, "code": code, "detail": detail}] if field else []
    document = problem(status, code, detail, str(uuid7()), errors)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(dump_json(document), status, names, media_type=CONTENT_TYPE)


def _token_refused(request: Request, error: Any) -> Response:
    return _refuse(401, error.code, error.detail, WWW_Authenticate=CHALLENGE)


def _origin_refused(request: Request, error: Any) -> Response:
    return _refuse(403, error.default_code, error.default_detail)


def _too_many(request: Request, error: Any) -> Response:
    return _refuse(429, "too_many_streams", str(error), Retry_After=str(TRY_AGAIN_AFTER))


def _too_often(request: Request, error: Any) -> Response:
    return _refuse(429, "throttled", str(error), Retry_After=retry_after(error.retry_after))


def _bad_request(request: Request, error: Any) -> Response:
    return _refuse(400, "invalid", error.detail, error.field)


def _database_away(request: Request, error: Any) -> Response:
    log.error("database_away", error=type(error).__name__)
    detail = "The database does not answer. Try again in a moment."
    return _refuse(503, "unavailable", detail, Retry_After=RETRY_AFTER)


def _other(request: Request, error: Any) -> Response:
    """Another path, another method."""
    code = TITLES.get(error.status_code, "error").lower().replace(" ", "_")
    return _refuse(
        error.status_code, code, f"There is only GET {PATH} here.", **(error.headers or {})
    )


class PagesOfProjects(CORSMiddleware):
    """Which origins may ask at all. Whether this one may for this inbox is looked at with the token."""

    def is_allowed_origin(self, origin: str) -> bool:
        return is_allowed_by_some(origin, origins.known())


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    await watcher.start()
    _say_goodbye_when_told_to_stop()
    yield
    await watcher.stop()


def _say_goodbye_when_told_to_stop() -> None:
    """Granian waits for open requests before it ends the application, and a stream never ends by itself.

    The event loop hears of a signal by another way than this handler (signal.set_wakeup_fd), so that granian's own
    handler is called as well.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(connections.say_goodbye))


application = Starlette(
    routes=[Route(PATH, stream), Route("/livez", livez)],
    middleware=[
        Middleware(
            PagesOfProjects,
            allow_methods=["GET"],
            allow_headers=["Authorization", "Last-Event-ID"],
            expose_headers=["Retry-After"],
        )
    ],
    exception_handlers={
        TokenRefused: _token_refused,
        OriginNotAllowed: _origin_refused,
        TooManyStreams: _too_many,
        TooOften: _too_often,
        BadRequest: _bad_request,
        404: _other,
        405: _other,
        **dict.fromkeys(DATABASE_ERRORS, _database_away),
    },
    lifespan=_lifespan,
)
