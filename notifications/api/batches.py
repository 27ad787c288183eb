"""/batches: one message to many, from an uploaded file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Any, BinaryIO, cast

from django.conf import settings
from django.http import Http404, StreamingHttpResponse
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)
from rest_framework import serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from notifications import batches
from notifications.api.pagination import NewestFirst
from notifications.api.parsing import BodyTooLarge, StrictJSONParser
from notifications.api.views import PAGING, NeedsLength, WithQuotaHeaders, as_uuid, problems
from notifications.batches import LONGEST_NAME, Plan
from notifications.bulk import results
from notifications.bulk.sources import digest_of, staged
from notifications.bulk.staging import refuse_at_once, stage
from notifications.limits import LONGEST_CATEGORY, LONGEST_MESSAGE, LONGEST_TITLE
from notifications.models import Batch, Channel, Priority
from notifications.newest import newest
from users.api.fields import ChoiceField, StrictSerializer, TextField, ZonedDateTimeField
from users.api.views import caller_of, project_of
from users.models import Scope
from users.refusals import Refused

_ID = OpenApiParameter("id", str, OpenApiParameter.PATH)


class _FileParser(BaseParser):
    """The body as a file on disk: it is read twice, and may be larger than memory."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return {"file": staged(cast(BinaryIO, stream))}


class CSVParser(_FileParser):
    media_type = "text/csv"


class NDJSONParser(_FileParser):
    media_type = "application/x-ndjson"


class BatchInput(StrictSerializer):
    """What is to be said to all, and how. Liquid templates; the file's columns are their variables."""

    name = TextField(
        line=True,
        max_length=LONGEST_NAME,
        help_text="Unique in the project. The same again sends nothing twice.",
    )
    channel = ChoiceField(Channel.choices)
    title = TextField(required=False, default="", allow_blank=True, most_bytes=LONGEST_TITLE * 4)
    message = TextField(most_bytes=LONGEST_MESSAGE, help_text="Hello {{ first_name }}!")
    html = TextField(required=False, default="", allow_blank=True, most_bytes=LONGEST_MESSAGE)
    url = TextField(required=False, default="", allow_blank=True, line=True, most_bytes=2048)
    category = TextField(
        required=False, default="", allow_blank=True, line=True, max_length=LONGEST_CATEGORY
    )
    priority = ChoiceField(Priority.choices, required=False, default=Priority.LOW)
    scheduled_for = ZonedDateTimeField(required=False, help_text="Not before this time.")
    expires_at = ZonedDateTimeField(
        required=False, help_text="Not after this time. Default: never."
    )
    rate = serializers.FloatField(
        required=False, min_value=0.001, max_value=100_000, help_text="At most so many a second."
    )
    failure_limit = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=1,
        help_text="It pauses itself when a larger share of its last 1,000 calls fails. Default: 0.2.",
    )
    skip_invalid = serializers.BooleanField(
        required=False, default=False, help_text="Send the good rows of a file with errors."
    )
    allow_duplicates = serializers.BooleanField(
        required=False, default=False, help_text="An address may come more than once."
    )
    start = serializers.BooleanField(
        required=False,
        default=True,
        help_text="false: wait in `ready` until its status is set to `running`.",
    )
    encoding = TextField(required=False, default="", allow_blank=True, max_length=40)
    file_name = TextField(required=False, default="", allow_blank=True, line=True, max_length=255)

    def validate_rate(self, rate: float) -> float:
        return _number(rate)

    def validate_failure_limit(self, share: float) -> float:
        return _number(share)

    def validate_expires_at(self, moment: datetime) -> datetime:
        if moment <= timezone.now():
            raise ValidationError("It must be in the future.", code="before_start")
        return moment


def _number(value: float) -> float:
    if math.isnan(value):
        raise ValidationError("This is not a number.", code="invalid")
    return value


class BatchStatusChange(StrictSerializer):
    """`running` starts or resumes it, `paused` holds it, `cancelled` ends it for good."""

    status = ChoiceField(["running", "paused", "cancelled"])


class BatchOutput(serializers.Serializer[Batch]):
    """For the schema; `present()` makes it."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(Batch.Status.choices)
    reason = serializers.CharField(help_text="Why it paused itself, or why nothing of it was sent.")
    channel = serializers.ChoiceField(Channel.choices)
    priority = serializers.ChoiceField(Priority.choices)
    category = serializers.CharField()
    live = serializers.BooleanField()
    rate = serializers.FloatField(allow_null=True)
    loaded = serializers.IntegerField(help_text="Rows that are stored as notifications.")
    rejected = serializers.IntegerField(help_text="Rows that were left out.")
    created_at = serializers.DateTimeField()
    scheduled_for = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class BatchDetail(BatchOutput):
    """One batch read alone: also how far it is, and what its check found."""

    progress = serializers.DictField(
        help_text="How many rows are waiting, sending, sent, delivered, failed, suppressed, cancelled, expired, "
        "unknown; `failures`: by code."
    )
    report = serializers.DictField(
        help_text="What the check of the file found: `rows`, `valid`, `invalid`, `suppressed`, SMS `segments`; the "
        "first 1,000 `errors` as {line, field, code, detail}; three rendered `examples`."
    )


def present(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "name": batch.name,
        "status": batch.status,
        "reason": batch.reason,
        "channel": batch.channel,
        "priority": batch.priority,
        "category": batch.category,
        "live": batch.live,
        "rate": batch.flow.rate,
        "loaded": batch.loaded,
        "rejected": batch.rejected,
        "created_at": batch.created_at,
        "scheduled_for": batch.scheduled_for,
        "expires_at": batch.expires_at,
        "started_at": batch.started_at,
        "finished_at": batch.finished_at,
    }


def present_in_detail(batch: Batch) -> dict[str, Any]:
    progress = batches.progress(batch)
    return present(batch) | {"progress": progress.as_json(), "report": batch.report}


_INPUT = BatchInput()
_STATUS = BatchStatusChange()


@extend_schema_view(
    create=extend_schema(
        summary="Send one message to many",
        description="The file is the body (`text/csv` or `application/x-ndjson`), with everything else in the query; "
        "or the part `file` of a form, with everything else as its fields. It is checked whole and stored by a worker: "
        "ask GET /batches/{id} how far it is. If rows of it cannot be sent, nothing is (see `skip_invalid`).",
        parameters=[BatchInput],
        request={
            "text/csv": OpenApiTypes.BINARY,
            "application/x-ndjson": OpenApiTypes.BINARY,
            "multipart/form-data": OpenApiTypes.OBJECT,
        },
        responses={
            202: BatchDetail,
            **problems(409, 411, 413),
        },
    ),
    list=extend_schema(
        summary="Batches, newest first",
        parameters=PAGING,
        responses={200: BatchOutput(many=True), **problems()},
    ),
    retrieve=extend_schema(
        summary="One batch, how far it is, and what its check found",
        parameters=[_ID],
        responses={200: BatchDetail, **problems(404)},
    ),
    change_status=extend_schema(
        summary="Start, pause, resume or cancel it",
        parameters=[_ID],
        request=BatchStatusChange,
        responses={200: BatchDetail, **problems(404, 409)},
    ),
    results=extend_schema(
        summary="Who got it: one line for each row",
        parameters=[_ID],
        responses={(200, "text/csv"): OpenApiResponse(OpenApiTypes.STR), **problems(404)},
    ),
)
class BatchViewSet(NeedsLength, WithQuotaHeaders, viewsets.GenericViewSet[Batch]):
    """Send to many, look, pause, resume, cancel."""

    serializer_class = BatchOutput
    pagination_class = NewestFirst
    queryset = Batch.objects.none()
    lookup_value_regex = "[^/]+"
    parser_classes = [StrictJSONParser]
    scopes = {
        "create": Scope.SEND,
        "list": Scope.READ,
        "retrieve": Scope.READ,
        "change_status": Scope.SEND,
        "results": Scope.READ,
    }

    def get_parsers(self) -> list[BaseParser]:
        if getattr(self.request, "method", None) == "POST":
            return [CSVParser(), NDJSONParser(), MultiPartParser()]
        return super().get_parsers()

    def create(self, request: Request) -> Response:
        try:
            batch = stage(*_asked_for(request))
        finally:
            # Django closes a form's files, and knows nothing of a body that was made one.
            if file := cast("dict[str, Any]", request.data).get("file"):
                file.close()
        headers = {"Location": f"/api/v1/batches/{batch.id}"}
        return Response(present_in_detail(batch), status.HTTP_202_ACCEPTED, headers=headers)

    def list(self, request: Request) -> Response:
        found = newest(Batch.objects.select_related("flow"), project_id=project_of(request))
        page = self.paginate_queryset(found)
        return self.get_paginated_response([present(batch) for batch in page or []])

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(present_in_detail(_batch(request, pk)))

    @action(detail=True, methods=["patch"], url_path="status")
    def change_status(self, request: Request, pk: str) -> Response:
        batch = _batch(request, pk)
        wanted = _STATUS.run_validation(request.data)["status"]
        batches.change_status(batch.id, wanted)
        batch.refresh_from_db()
        return Response(present_in_detail(batch))

    @action(detail=True, methods=["get"])
    def results(self, request: Request, pk: str) -> StreamingHttpResponse:
        response = StreamingHttpResponse(
            results.lines(_batch(request, pk)), content_type="text/csv; charset=utf-8"
        )
        response["Content-Disposition"] = 'attachment; filename="results.csv"'
        return response


def _batch(request: Request, pk: str) -> Batch:
    """The caller's own. Raises Http404, or ValidationError where `pk` is no UUID."""
    found = Batch.objects.select_related("flow").filter(project_id=project_of(request))
    batch = found.filter(id=as_uuid(pk)).first()
    if batch is None:
        raise Http404
    return batch


def _asked_for(request: Request) -> tuple[Plan, BinaryIO]:
    """The plan and its file. Raises ValidationError or BodyTooLarge."""
    if int(request.headers.get("Content-Length") or 0) > settings.MAX_BATCH_BYTES:
        raise BodyTooLarge(settings.MAX_BATCH_BYTES)
    form: Any = request.data
    values = request.query_params.dict() | (form.dict() if hasattr(form, "dict") else form)
    file = values.pop("file", None)
    if not hasattr(file, "read"):
        raise ValidationError(
            {"file": ["Send the file, as the body or as the form's part `file`."]}, "required"
        )
    asked = _INPUT.run_validation(values)
    # A body that was made a file has a number for a name.
    name = getattr(file, "name", "")
    asked["file_name"] = asked["file_name"] or (name if isinstance(name, str) else "") or "upload"
    _check(asked, file)
    return _plan(request, asked, file), file


def _check(asked: dict[str, Any], file: Any) -> None:
    try:
        refuse_at_once(
            asked["title"],
            asked["message"],
            asked["html"],
            file,
            asked["file_name"],
            asked["encoding"],
        )
    except Refused as refusal:
        raise ValidationError({refusal.field: [refusal.detail]}, refusal.code) from refusal


def _plan(request: Request, asked: dict[str, Any], file: Any) -> Plan:
    caller = caller_of(request)
    once_per_address = not asked.pop("allow_duplicates")
    starts_by_itself = asked.pop("start")
    return Plan(
        project_id=caller.project_id,
        api_key_id=caller.key_id,
        live=caller.live,
        digest=digest_of(cast(BinaryIO, file)),
        once_per_address=once_per_address,
        starts_by_itself=starts_by_itself,
        **asked,
    )
