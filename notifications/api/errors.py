"""Every refusal as one problem document (RFC 9457): the status, a stable code, and the field at fault."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from notifications.api.parsing import JSONRenderer, dump_json
from users.refusals import Refused

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Seconds after which a client may try again when nothing could be stored.
RETRY_AFTER = "2"
QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"

TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    411: "Length required",
    413: "Content too large",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
    500: "Internal server error",
    503: "Service unavailable",
}


class ProblemRenderer(JSONRenderer):
    media_type = CONTENT_TYPE


def problem_response(error: Exception, context: Mapping[str, Any]) -> Response | None:
    """DRF's exception handler. None lets a bug become a 500, with its traceback in the log."""
    set_rollback()
    request = context["request"]
    if isinstance(error, Refused):
        return _refused(error, request)
    if isinstance(error, OperationalError | InterfaceError):
        log.error("database_away", error=type(error).__name__)
        return _respond(request, 503, "unavailable", _UNAVAILABLE, {"Retry-After": RETRY_AFTER})
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    return _api_error(error, request)


_UNAVAILABLE = (
    "The database does not answer, so nothing is known to be stored. Try again in a moment, with the same "
    "Idempotency-Key."
)


def _refused(error: Refused, request: Any) -> Response:
    wait = getattr(error, "retry_after", None)
    headers = {"Retry-After": str(wait)} if wait else {}
    return _respond(request, error.status, headers=headers, **explained(error))


def _api_error(error: exceptions.APIException, request: Any) -> Response:
    return _respond(request, error.status_code, headers=_headers_of(error), **explained(error))


def explained(error: Refused | exceptions.APIException) -> dict[str, Any]:
    """What a refusal says: `code`, `detail`, and `errors` by field."""
    if isinstance(error, Refused):
        errors = [{"field": error.field, "code": error.code, "detail": error.detail}]
        return _explanation(error.code, error.detail, errors if error.field else [])
    if isinstance(error, exceptions.ValidationError):
        return _explained_by_field(error)
    codes = error.get_codes()
    return _explanation(
        codes if isinstance(codes, str) else error.default_code, str(error.detail), []
    )


def _explained_by_field(error: exceptions.ValidationError) -> dict[str, Any]:
    errors = list(_items(error.get_full_details()))
    detail = " ".join(
        f"{item['field']}: {item['detail']}" if item["field"] else item["detail"]
        for item in errors[:3]
    )
    return _explanation(errors[0]["code"] if len(errors) == 1 else "invalid", detail, errors)


def _explanation(code: str, detail: str, errors: list[dict[str, str]]) -> dict[str, Any]:
    return {"code": code, "detail": detail, "errors": errors}


def _headers_of(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = retry_after(wait)
    return headers


def retry_after(seconds: float) -> str:
    """For the header of that name: whole seconds, and not too few."""
    return str(max(1, round(seconds + 0.5)))


def _items(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested error details, one item for each field."""
    if isinstance(details, list):
        for detail in details:
            yield from _items(detail, path)
    elif isinstance(details, dict) and set(details) == {"message", "code"}:
        field = "" if path == "non_field_errors" else path
        yield {"field": field, "code": str(details["code"]), "detail": str(details["message"])}
    elif isinstance(details, dict):
        for name, detail in details.items():
            yield from _items(detail, f"{path}.{name}" if path else str(name))


def problem(
    status: int, code: str, detail: str, request_id: str, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    return {
        "type": QUOTA_EXCEEDED if status == 429 else "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "instance": request_id,
        "code": code,
        "errors": errors or [],
    }


def _respond(
    request: Any,
    status: int,
    code: str,
    detail: str,
    headers: dict[str, str],
    errors: list[dict[str, str]] | None = None,
) -> Response:
    request_id = getattr(getattr(request, "_request", request), "request_id", "")
    request.accepted_renderer = ProblemRenderer()
    request.accepted_media_type = CONTENT_TYPE
    document = problem(status, code, detail, request_id, errors)
    return Response(document, status, headers=headers, content_type=CONTENT_TYPE)


def plain_problem(request: HttpRequest, status: int, code: str, detail: str) -> HttpResponse:
    """The same outside of DRF: unknown paths and bugs."""
    document = problem(status, code, detail, getattr(request, "request_id", ""))
    return HttpResponse(dump_json(document), status=status, content_type=CONTENT_TYPE)


def wrong_method(request: HttpRequest, allowed: Iterable[str]) -> HttpResponse:
    """The refusal of a plain page, which names the methods that there are."""
    detail = f'Method "{request.method}" not allowed.'
    response = plain_problem(request, 405, "method_not_allowed", detail)
    response["Allow"] = ", ".join(allowed)
    return response
