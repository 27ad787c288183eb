"""/inbox: a person's own in-app messages, for their browser, with an inbox token. API keys have nothing to do here."""

from __future__ import annotations

from typing import Any, cast

from django.http import Http404, HttpResponse
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from notifications.api.filters import InboxFilters, filtered_inbox
from notifications.api.pagination import NewestFirst
from notifications.api.views import PAGING, NeedsLength, WithQuotaHeaders, as_uuid, problems
from notifications.inbox import items, marking
from notifications.inbox.entry import stream_url
from notifications.models import Notification, Priority
from users.api.fields import ChoiceField, StrictSerializer
from users.inbox_access import HasInboxToken, InboxTokenAuthentication
from users.inbox_tokens import InboxToken
from users.throttling import InboxThrottle

#: PostgreSQL's largest bigint.
LARGEST_POSITION = 2**63 - 1


class InboxItem(serializers.Serializer[Any]):
    """A message as its person sees it. Without `metadata`, which is the backend's own."""

    id = serializers.UUIDField()
    position = serializers.IntegerField(help_text="By which change of the inbox it arrived.")
    title = serializers.CharField()
    message = serializers.CharField()
    url = serializers.CharField(help_text="Where a click leads: http or https, or empty.")
    category = serializers.CharField()
    priority = serializers.ChoiceField(Priority.choices)
    created_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)
    read_at = serializers.DateTimeField(allow_null=True)
    archived_at = serializers.DateTimeField(allow_null=True)


class InboxCount(serializers.Serializer[Any]):
    unread = serializers.IntegerField()
    position = serializers.IntegerField(help_text="The number of the inbox's last change.")


class InboxPage(InboxCount):
    inbox = serializers.CharField(help_text="Tells inboxes apart; stays the same.")
    stream_url = serializers.CharField(allow_null=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)
    results = InboxItem(many=True)


class ItemChange(StrictSerializer):
    status = ChoiceField(["read", "unread", "archived", "unarchived"])


class ReadAll(StrictSerializer):
    up_to = serializers.IntegerField(
        min_value=0,
        max_value=LARGEST_POSITION,
        help_text="The `position` that you have seen. What has arrived since stays unread.",
    )


class LastArrivedFirst(NewestFirst):
    key = "inbox_position"


class StreamNotConfigured(APIException):
    status_code = 503
    default_code = "stream_not_configured"
    default_detail = "This installation has no stream. Ask for the list or the count now and then."


_CHANGE = ItemChange()
_READ_ALL = ReadAll()
_CHANGES = {
    "read": marking.mark_read,
    "unread": marking.mark_unread,
    "archived": marking.archive,
    "unarchived": marking.unarchive,
}


@extend_schema_view(
    list=extend_schema(
        summary="What is in the inbox, the last that arrived first",
        parameters=[InboxFilters, *PAGING],
        responses={200: InboxPage, **problems()},
    ),
    count=extend_schema(summary="How many are unread", responses={200: InboxCount, **problems()}),
    partial_update=extend_schema(
        summary="Mark one read or unread, archive it or take it back",
        request=ItemChange,
        responses={200: InboxItem, **problems(404)},
    ),
    read_all=extend_schema(
        summary="Mark all read that arrived up to a position",
        request=ReadAll,
        responses={200: InboxCount, **problems()},
    ),
    stream=extend_schema(
        summary="What changes, as it changes (Server-Sent Events)",
        description="Leads to `stream_url`, where the stream is; see docs/inbox.md for its events. The token may stand "
        "in `?token=` here, since an EventSource can send no header.",
        responses={
            307: OpenApiResponse(
                description="To `stream_url`, with the same query. What follows is told there."
            ),
            **problems(),
        },
        auth=[{"InboxToken": []}],  # type: ignore[list-item]  # as OpenAPI has it, whatever the hint says
    ),
)
class InboxViewSet(NeedsLength, WithQuotaHeaders, viewsets.GenericViewSet[Notification]):
    """List, count, mark."""

    authentication_classes = (InboxTokenAuthentication,)
    permission_classes = (HasInboxToken,)
    throttle_classes = (InboxThrottle,)
    serializer_class = InboxItem
    pagination_class = LastArrivedFirst
    queryset = Notification.objects.none()
    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        token = token_of(request)
        # Before the page: what comes between the two is in the page already, and the stream brings it once more.
        state = items.state_of(token.recipient_id, token.live)
        found = filtered_inbox(request.query_params, token.recipient_id, token.live)
        page = self.paginate_queryset(items.as_told(found)) or []
        response = self.get_paginated_response([items.present(item) for item in page])
        response.data |= {
            "inbox": items.name_of(token.recipient_id, token.live),
            "stream_url": stream_url(request.get_host()),
            **state.content,
        }
        return response

    @action(detail=False)
    def count(self, request: Request) -> Response:
        return _count(request)

    def partial_update(self, request: Request, pk: str) -> Response:
        token = token_of(request)
        wanted = _CHANGE.run_validation(request.data)["status"]
        id = as_uuid(pk)
        one = Notification.objects.of_inbox(token.recipient_id, token.live).filter(id=id)
        if not one.exists():
            raise Http404
        _CHANGES[wanted](id)
        # Retention, or forgetting, may have come in between.
        item = items.as_told(one).first()
        if item is None:
            raise Http404
        return Response(items.present(item))

    @action(detail=False, methods=["post"], url_path="read-all")
    def read_all(self, request: Request) -> Response:
        token = token_of(request)
        up_to = _READ_ALL.run_validation(request.data)["up_to"]
        marking.read_all(token.recipient_id, token.live, up_to)
        return _count(request)

    @action(detail=False, authentication_classes=(), permission_classes=(), throttle_classes=())
    def stream(self, request: Request) -> HttpResponse:
        """The stream itself looks at the token: a redirect gives nothing away."""
        url = stream_url(request.get_host())
        # Where it leads back to here, no proxy passes the path on to the stream.
        if url is None or url == request.build_absolute_uri(request.path):
            raise StreamNotConfigured
        query = request.META.get("QUERY_STRING", "")
        response = HttpResponse(
            status=307, headers={"Location": f"{url}?{query}" if query else url}
        )
        response["Cache-Control"] = "no-store"
        return response


def token_of(request: Request) -> InboxToken:
    return cast("InboxToken", request.user)


def _count(request: Request) -> Response:
    token = token_of(request)
    return Response(items.state_of(token.recipient_id, token.live).content)
