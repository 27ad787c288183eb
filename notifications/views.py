"""Pages and health checks outside the API proper."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications.api.errors import plain_problem, wrong_method
from notifications.api.serializers import HealthOutput
from notifications.health import DOWN, health

Page = Callable[[HttpRequest], HttpResponse]


def only_read(view: Page) -> Page:
    """Refuses other methods with a problem document, and that before Django asks for a CSRF token."""

    @csrf_exempt
    @wraps(view)
    def read(request: HttpRequest) -> HttpResponse:
        if request.method in {"GET", "HEAD"}:
            return view(request)
        return wrong_method(request, ("GET", "HEAD"))

    return read


@only_read
def index(request: HttpRequest) -> HttpResponse:
    """What this is, and where to go."""
    return render(request, "index.html")


class HealthView(APIView):
    """Each component, and how overdue each lane is. 503 when nothing can be stored or nothing goes out."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes = ()

    @extend_schema(operation_id="health", auth=[], responses={200: HealthOutput, 503: HealthOutput})
    def get(self, request: Request) -> Response:
        state = health()
        response = Response(state, 503 if state["status"] == DOWN else 200)
        response["Cache-Control"] = "no-store"
        return response


@only_read
def livez(request: HttpRequest) -> HttpResponse:
    """This web process runs."""
    return HttpResponse("ok\n", content_type="text/plain")


@only_read
def readyz(request: HttpRequest) -> HttpResponse:
    """This web process can store a notification: what a load balancer asks."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM notifications_flow LIMIT 1")
    except (DatabaseError, InterfaceError):
        connection.close()
        return HttpResponse("the database does not answer\n", content_type="text/plain", status=503)
    return HttpResponse("ok\n", content_type="text/plain")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return plain_problem(request, 404, "not_found", "There is nothing here. See /docs.")


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        detail = "This host name is not among the service's ALLOWED_HOSTS."
        return plain_problem(request, 400, "unknown_host", detail)
    return plain_problem(request, 400, "bad_request", "This request cannot be understood.")


def server_error(request: HttpRequest, *args: Any) -> HttpResponse:
    detail = "This is a fault of ours; it is in the logs under the id given in `instance`."
    return plain_problem(request, 500, "internal_error", detail)
