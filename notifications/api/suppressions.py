"""/suppressions: the addresses of a project that must not be written to."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework import serializers, status, viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import suppressions
from notifications.api.filters import SuppressionFilters, filtered_suppressions
from notifications.api.pagination import NewestFirst
from notifications.api.views import PAGING, NeedsLength, WithQuotaHeaders, as_uuid, problems
from notifications.models import Suppression
from users.api.fields import ChoiceField, StrictSerializer, TextField
from users.api.views import project_of
from users.models import Address, Scope

_ID = OpenApiParameter("id", str, OpenApiParameter.PATH)


class SuppressionInput(StrictSerializer):
    """An address that must not be written to."""

    channel = ChoiceField(Address.Channel.choices)
    address = TextField(
        line=True, max_length=320, help_text="An e-mail address, or a phone number in any spelling."
    )
    reason = ChoiceField(
        Suppression.Reason.choices,
        required=False,
        default=Suppression.Reason.MANUAL,
        help_text="`hard_bounce` and `stop` stop everything; the others let a project's mandatory categories through.",
    )
    detail = TextField(required=False, default="", allow_blank=True, most_bytes=2000)


class SuppressionOutput(serializers.Serializer[Suppression]):
    """For the schema; `present()` makes it."""

    id = serializers.UUIDField()
    channel = serializers.ChoiceField(Address.Channel.choices)
    address = serializers.CharField(help_text="In lower case, a phone as E.164.")
    reason = serializers.ChoiceField(Suppression.Reason.choices)
    source = serializers.ChoiceField(Suppression.Source.choices)  # type: ignore[assignment]  # a field of that name
    detail = serializers.CharField()
    notification_id = serializers.UUIDField(
        allow_null=True, help_text="By which notification we learned so, if by one."
    )
    created_at = serializers.DateTimeField()


def present(suppression: Suppression) -> dict[str, Any]:
    return {
        "id": suppression.id,
        "channel": suppression.channel,
        "address": suppression.address,
        "reason": suppression.reason,
        "source": suppression.source,
        "detail": suppression.detail,
        "notification_id": suppression.notification_id,
        "created_at": suppression.created_at,
    }


_INPUT = SuppressionInput()


@extend_schema_view(
    list=extend_schema(
        summary="Suppressed addresses, newest first",
        parameters=[SuppressionFilters, *PAGING],
        responses={200: SuppressionOutput(many=True), **problems()},
    ),
    create=extend_schema(
        summary="Suppress an address",
        description="What is there already stays, unless the new reason stops more.",
        request=SuppressionInput,
        responses={
            200: SuppressionOutput,
            201: SuppressionOutput,
            **problems(),
        },
        examples=[
            OpenApiExample(
                "Who has unsubscribed elsewhere",
                {"channel": "email", "address": "ada@example.com", "reason": "unsubscribe"},
                request_only=True,
            )
        ],
    ),
    retrieve=extend_schema(
        summary="One suppressed address",
        parameters=[_ID],
        responses={200: SuppressionOutput, **problems(404)},
    ),
    destroy=extend_schema(
        summary="Take an address off the list",
        parameters=[_ID],
        responses={
            204: OpenApiResponse(description="It may be written to again."),
            **problems(404),
        },
    ),
)
class SuppressionViewSet(NeedsLength, WithQuotaHeaders, viewsets.GenericViewSet[Suppression]):
    """Look, add, take off."""

    serializer_class = SuppressionOutput
    pagination_class = NewestFirst
    queryset = Suppression.objects.none()
    lookup_value_regex = "[^/]+"
    scopes = {
        "list": Scope.READ,
        "retrieve": Scope.READ,
        "create": Scope.MANAGE,
        "destroy": Scope.MANAGE,
    }

    def list(self, request: Request) -> Response:
        found = filtered_suppressions(request.query_params, project_of(request))
        page = self.paginate_queryset(found) or []
        return self.get_paginated_response([present(each) for each in page])

    def create(self, request: Request) -> Response:
        project_id = project_of(request)
        entry = suppressions.entry_for(**_INPUT.run_validation(request.data))
        added = suppressions.add(project_id, [entry], Suppression.Source.API)
        listed = suppressions.find(project_id, entry.channel, entry.address)
        if listed is None:
            # Added, and taken off again by somebody else before we could look.
            raise Http404
        headers = {"Location": f"/api/v1/suppressions/{listed.id}"}
        code = status.HTTP_201_CREATED if added else status.HTTP_200_OK
        return Response(present(listed), code, headers=headers)

    def retrieve(self, request: Request, pk: str) -> Response:
        listed = Suppression.objects.filter(project_id=project_of(request), id=as_uuid(pk)).first()
        if listed is None:
            raise Http404
        return Response(present(listed))

    def destroy(self, request: Request, pk: str) -> Response:
        if not suppressions.remove(project_of(request), as_uuid(pk)):
            raise Http404
        return Response(status=status.HTTP_204_NO_CONTENT)
