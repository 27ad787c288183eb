"""The API's calls: read the request, call one flow, answer. Rules live in intake and changes."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import changes, intake
from notifications.api.errors import CONTENT_TYPE
from notifications.api.explanations import (
    ExplanationOutput,
    RehearsalOutput,
    explained,
    is_dry_run,
    rehearsed,
)
from notifications.api.filters import NotificationFilters, filtered
from notifications.api.inbox_tokens import (
    InboxTokenInput,
    InboxTokenOutput,
    lifetime_of,
    present_entry,
)
from notifications.api.pagination import NewestFirst
from notifications.api.parsing import LengthRequired
from notifications.api.serializers import (
    NotificationDetail,
    NotificationInput,
    NotificationOutput,
    Problem,
    StatusChange,
    present,
    present_in_detail,
)
from notifications.inbox import marking
from notifications.inbox.entry import entry_for
from notifications.models import Notification, NotificationQuerySet
from notifications.rehearsing import rehearse
from users import inbox_access
from users.api import views as users_views
from users.api.serializers import UserChange, UserInput, UserOutput, as_user_id
from users.api.views import caller_of, project_of
from users.models import Scope

#: Built once: a serializer's fields are copied at its making, which costs more than the checking.
_INPUT = NotificationInput()
_STATUS = StatusChange()
_IDEMPOTENCY_KEY = re.compile(r'("?)([!#-~]+)\1')
#: Characters of an Idempotency-Key.
LONGEST_KEY = 255

_CHANGES = {
    "cancelled": changes.cancel,
    "read": marking.mark_read,
    "unread": marking.mark_unread,
}
#: The id of no recipient.
NOBODY = 0
PAGING = [
    OpenApiParameter("limit", int, description="Results on a page: 50, at most 250."),
    OpenApiParameter("cursor", str, description="From `next` or `previous`."),
]


def problems(*statuses: int) -> dict[tuple[int, str], type[Problem]]:
    """How a call may be refused: as every call may, and in these ways."""
    return {(status, CONTENT_TYPE): Problem for status in (400, 401, 403, *statuses, 429, 503)}


class WithQuotaHeaders:
    """Tells the caller how much of the key's rate limit is left, on every answer."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        quota = getattr(getattr(request, "_request", request), "quota", None)
        if quota:
            for name, value in quota.headers().items():
                response[name] = value
        return response


class NeedsLength:
    """Refuses a body in chunks: WSGI hands none of it over, so that every field would seem to be missing."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if "Transfer-Encoding" in request.headers and "Content-Length" not in request.headers:
            raise LengthRequired


@extend_schema_view(
    create=extend_schema(
        summary="Send a notification",
        request=NotificationInput,
        responses={
            201: NotificationOutput,
            200: OpenApiResponse(RehearsalOutput, description="A dry run: nothing was stored."),
            **problems(409, 422),
        },
        parameters=[
            OpenApiParameter(
                "dry_run",
                bool,
                description="`true`: says what would happen (whom it reaches, by which provider, how it would look, until "
                "when), refuses as the call itself would, and stores nothing. The Idempotency-Key is not looked at.",
            ),
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description="Up to 255 visible characters, kept 7 days. The same key and body again answer "
                "as the first time, with `Idempotent-Replayed: true`, and send nothing.",
            ),
        ],
        examples=[
            OpenApiExample(
                "E-mail to an address",
                {
                    "channel": "email",
                    "recipient": "ada@example.com",
                    "title": "Your order has shipped",
                    "message": "Hello Ada,\n\nyour order is on its way.",
                },
                request_only=True,
            ),
            OpenApiExample(
                "One-time code by SMS",
                {
                    "channel": "sms",
                    "recipient": "+15005550006",
                    "message": "Your code is 123456",
                    "priority": "high",
                },
                request_only=True,
            ),
            OpenApiExample(
                "In-app message to a user",
                {
                    "channel": "in_app",
                    "user_id": 4,
                    "title": "Welcome!",
                    "message": "Good to have you here.",
                    "url": "https://example.com/start",
                },
                request_only=True,
            ),
        ],
    ),
    retrieve=extend_schema(
        summary="One notification, with its attempts and receipts",
        responses={200: NotificationDetail, **problems(404)},
    ),
    list=extend_schema(
        summary="Notifications, newest first",
        parameters=[NotificationFilters, *PAGING],
        responses={200: NotificationOutput(many=True), **problems()},
    ),
    explain=extend_schema(
        summary="Why it is where it is, and what happens next",
        responses={200: ExplanationOutput, **problems(404)},
    ),
    change_status=extend_schema(
        summary="Cancel it, or mark it read or unread",
        request=StatusChange,
        responses={200: NotificationOutput, **problems(404, 409)},
    ),
)
class NotificationViewSet(NeedsLength, WithQuotaHeaders, viewsets.GenericViewSet[Notification]):
    """Send, find, cancel, mark read."""

    serializer_class = NotificationOutput
    pagination_class = NewestFirst
    queryset = Notification.objects.none()
    lookup_value_regex = "[^/]+"
    scopes = {
        "create": Scope.SEND,
        "list": Scope.READ,
        "retrieve": Scope.READ,
        "explain": Scope.READ,
        "change_status": Scope.SEND,
    }

    def create(self, request: Request) -> Response:
        submission = _submission(request)
        if is_dry_run(request.query_params):
            return Response(rehearsed(rehearse(submission)))
        accepted = intake.submit(submission)
        headers = {"Location": f"/api/v1/notifications/{accepted.notification.id}"}
        if accepted.replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(present(accepted.notification), status.HTTP_201_CREATED, headers=headers)

    def list(self, request: Request) -> Response:
        return _page(self, filtered(request.query_params, project_of(request)))

    def retrieve(self, request: Request, pk: str) -> Response:
        notification = _notification(request, pk, "flow", history=("attempts", "receipts"))
        return Response(present_in_detail(notification))

    @action(detail=True, methods=["get"])
    def explain(self, request: Request, pk: str) -> Response:
        return Response(
            explained(_notification(request, pk, "project", "flow__batch", "resent_as"))
        )

    @action(detail=True, methods=["patch"], url_path="status")
    def change_status(self, request: Request, pk: str) -> Response:
        notification = _notification(request, pk)
        wanted = _STATUS.run_validation(request.data)["status"]
        _CHANGES[wanted](notification.id)
        notification.refresh_from_db()
        return Response(present(notification))


def _submission(request: Request) -> intake.Submission:
    caller = caller_of(request)
    values = _INPUT.run_validation(request.data)
    key = idempotency_key_of(request)
    return intake.Submission(
        project_id=caller.project_id,
        api_key_id=caller.key_id,
        live=caller.live,
        idempotency_key=key,
        fingerprint=intake.fingerprint(request.data, caller.live) if key else b"",
        **values,
    )


def idempotency_key_of(request: Request, longest: int = LONGEST_KEY) -> str:
    """The header's value, with or without the quotes of a structured field (RFC 8941). Raises ValidationError."""
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return ""
    match = _IDEMPOTENCY_KEY.fullmatch(given.strip())
    if match is None or len(match.group(2)) > longest:
        message = f"An Idempotency-Key has 1 to {longest} visible ASCII characters."
        raise ValidationError({"Idempotency-Key": [message]}, code="invalid")
    return match.group(2)


def _notifications(request: Request) -> NotificationQuerySet:
    return Notification.objects.of_project(project_of(request))


def _notification(
    request: Request, pk: str, *related: str, history: tuple[str, ...] = ()
) -> Notification:
    """The caller's own notification. Raises Http404, or ValidationError where `pk` is no UUID."""
    notification_id = as_uuid(pk)
    found = _notifications(request).filter(id=notification_id)
    if related:
        found = found.select_related(*related)
    notification = found.prefetch_related(*history).first()
    if notification is None:
        raise Http404
    return notification


def as_uuid(pk: str) -> UUID:
    """Raises ValidationError."""
    try:
        return UUID(pk)
    except ValueError as error:
        raise ValidationError({"id": ["This is not a UUID."]}, code="invalid") from error


def _page(view: Any, found: QuerySet[Notification]) -> Response:
    page = view.paginate_queryset(found)
    response: Response = view.get_paginated_response([present(item) for item in page])
    return response


@extend_schema_view(
    create=extend_schema(
        summary="Register a person",
        request=UserInput,
        responses={201: UserOutput, **problems(409)},
        examples=[
            OpenApiExample(
                "A person with both addresses",
                {"name": "Ada", "email": "ada@example.com", "phone": "+15005550006"},
                request_only=True,
            )
        ],
    ),
    retrieve=extend_schema(
        summary="What is known of a person", responses={200: UserOutput, **problems(404)}
    ),
    update=extend_schema(
        summary="Create or replace a person",
        request=UserChange,
        responses={200: UserOutput, 201: UserOutput, **problems(409)},
    ),
    partial_update=extend_schema(
        summary="Change a person",
        request=UserChange,
        responses={200: UserOutput, **problems(404, 409)},
    ),
    destroy=extend_schema(
        summary="Forget a person: addresses and content are erased",
        description="Some thousand of a person's notifications are erased before the answer; the content of the "
        "others within minutes after it.",
        responses={
            204: OpenApiResponse(description="Forgotten: nothing goes out to the person any more."),
            202: OpenApiResponse(
                description="Out of reach, and nothing new is stored for the person. The very many that were "
                "waiting are still being cancelled."
            ),
            **problems(404),
        },
    ),
    notifications=extend_schema(
        summary="A person's notifications, newest first",
        parameters=[NotificationFilters, *PAGING],
        responses={200: NotificationOutput(many=True), **problems()},
    ),
)
@extend_schema(
    parameters=[OpenApiParameter("user_id", str, OpenApiParameter.PATH, description="Your own id.")]
)
class UserViewSet(NeedsLength, WithQuotaHeaders, users_views.UserViewSet):
    """People, with what was sent to them. Here because forgetting and history touch notifications."""

    serializer_class = UserOutput
    pagination_class = NewestFirst
    scopes = users_views.UserViewSet.scopes | {
        "destroy": Scope.MANAGE,
        "notifications": Scope.READ,
        "make_inbox_token": Scope.INBOX,
        "end_inbox_tokens": Scope.INBOX,
    }

    def destroy(self, request: Request, user_id: str) -> Response:
        stopped = changes.forget(self.recipient(request, user_id))
        return Response(status=status.HTTP_204_NO_CONTENT if stopped else status.HTTP_202_ACCEPTED)

    @extend_schema(
        summary="Make an inbox token, with which the person's browser reads what is in-app",
        description="Give it to the page that you serve to this person; see docs/inbox.md. A user never seen is made.",
        request=InboxTokenInput,
        responses={201: InboxTokenOutput, **problems()},
    )
    @action(detail=True, methods=["post"], url_path="inbox-tokens")
    def make_inbox_token(self, request: Request, user_id: str) -> Response:
        caller = caller_of(request)
        entry = entry_for(
            caller.project_id,
            as_user_id(user_id),
            live=caller.live,
            key_id=caller.key_id,
            lifetime=lifetime_of(request.data),
        )
        return Response(present_entry(entry, request.get_host()), status.HTTP_201_CREATED)

    @extend_schema(
        summary="End all inbox tokens of the person",
        description="For example when they sign out everywhere. Streams that are open end within seconds.",
        responses={
            204: OpenApiResponse(description="None of them holds any more."),
            **problems(404),
        },
    )
    @make_inbox_token.mapping.delete
    def end_inbox_tokens(self, request: Request, user_id: str) -> Response:
        inbox_access.revoke(self.recipient(request, user_id))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["get"])
    def notifications(self, request: Request, user_id: str) -> Response:
        """A user never seen has an empty list: whoever asks need not know whether we have met."""
        recipient = self.find(request, user_id)
        found = filtered(
            request.query_params, project_of(request), recipient.pk if recipient else NOBODY
        )
        paginator = NewestFirst()
        page = paginator.paginate_queryset(found, request, view=self)
        return paginator.get_paginated_response([present(item) for item in page or []])
