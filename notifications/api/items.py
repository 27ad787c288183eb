"""POST /notifications/batch: up to 1,000 ready-made notifications in one call, each with a result of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    extend_schema,
    extend_schema_field,
    extend_schema_view,
)
from rest_framework import serializers, status, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from notifications.api.errors import explained
from notifications.api.explanations import refuse_dry_run
from notifications.api.parsing import ManyJSONParser, check
from notifications.api.serializers import (
    NotificationInput,
    NotificationOutput,
    ProblemItem,
    present,
)
from notifications.api.views import (
    NeedsLength,
    WithQuotaHeaders,
    idempotency_key_of,
    problems,
)
from notifications.intake import Accepted, Submission, fingerprint
from notifications.intake_many import LARGEST_CALL, key_of, submit_many
from users.api.fields import StrictSerializer
from users.api.views import caller_of
from users.models import Scope
from users.refusals import Refused
from users.throttling import charge

#: Characters of the call's Idempotency-Key: each notification's own is made of it and its position.
LONGEST_KEY = 245
#: Notifications that one token of the key's rate limit pays for.
ITEMS_PER_TOKEN = 10

#: Why an item was refused, by its position in the call.
_Refusals = dict[int, Refused | APIException]


@extend_schema_field(
    {
        "type": "array",
        "items": {"$ref": "#/components/schemas/NotificationInput"},
        "minItems": 1,
        "maxItems": LARGEST_CALL,
    }
)
class ItemsField(serializers.ListField):
    """A list whose items are checked one by one, later: a bad one is its own error."""


class NotificationBatchInput(StrictSerializer):
    """Notifications, each as `POST /notifications` takes it."""

    notifications = ItemsField(allow_empty=False, max_length=LARGEST_CALL)


class ItemError(serializers.Serializer[Any]):
    """As in a problem document. Rely on `code`, never on the words."""

    code = serializers.CharField()
    detail = serializers.CharField()
    errors = ProblemItem(many=True)  # type: ignore[assignment]  # a field of that name


class ItemResult(serializers.Serializer[Any]):
    """What became of one: `notification` where it was accepted, `error` where it was refused."""

    status = serializers.IntegerField(help_text="What `POST /notifications` would answer.")
    notification = NotificationOutput(required=False)
    replayed = serializers.BooleanField(
        required=False, help_text="true: the same call stored it before."
    )
    error = ItemError(required=False)


class NotificationBatchOutput(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    refused = serializers.IntegerField()
    results = ItemResult(many=True, help_text="One for each notification, in order.")


_INPUT = NotificationBatchInput()
_ITEM = NotificationInput()


@extend_schema_view(
    create=extend_schema(
        summary="Send up to 1,000 notifications",
        description="Each is checked by itself and has its own result, in order; one that is refused does not touch the "
        "others. All that are accepted are stored in one transaction: after a 503, none is.\n\n"
        "A body of up to 16 MB. Each started ten notifications count as one request to the rate limit.",
        request=NotificationBatchInput,
        responses={200: NotificationBatchOutput, **problems(409, 411, 413, 422)},
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                str,
                OpenApiParameter.HEADER,
                description=f"Up to {LONGEST_KEY} visible characters, kept 7 days. The same key and body again answer what "
                "was accepted as the first time, each `replayed`, and try again what was refused. "
                "`Idempotent-Replayed: true` where all are replayed.",
            )
        ],
        examples=[
            OpenApiExample(
                "Two people, two channels",
                {
                    "notifications": [
                        {
                            "channel": "email",
                            "recipient": "ada@example.com",
                            "title": "Your statement",
                            "message": "Hello Ada,\n\nyour statement is ready.",
                        },
                        {"channel": "in_app", "user_id": 4, "message": "Your statement is ready."},
                    ]
                },
                request_only=True,
            ),
            OpenApiExample(
                "One that is refused",
                {
                    "accepted": 0,
                    "refused": 1,
                    "results": [
                        {
                            "status": 400,
                            "error": {
                                "code": "invalid_email",
                                "detail": "This is not an e-mail address.",
                                "errors": [
                                    {
                                        "field": "recipient",
                                        "code": "invalid_email",
                                        "detail": "This is not an e-mail address.",
                                    }
                                ],
                            },
                        }
                    ],
                },
                response_only=True,
                status_codes=["200"],
            ),
        ],
    )
)
class NotificationBatchViewSet(NeedsLength, WithQuotaHeaders, viewsets.ViewSet):
    """Send many."""

    parser_classes = (ManyJSONParser,)
    scopes = {"create": Scope.SEND}

    def create(self, request: Request) -> Response:
        refuse_dry_run(request.query_params)
        key = idempotency_key_of(request, LONGEST_KEY)
        items = _items_of(request.data)
        charge(request, _cost_of(items) - 1)
        submissions, refusals = _checked(request, items, key)
        answers = submit_many(list(submissions.values()), key)
        outcomes = refusals | dict(zip(submissions, answers, strict=True))
        results = [_result(outcomes[position]) for position in range(len(items))]
        replayed = all(result.get("replayed") for result in results)
        return Response(
            _summed_up(results), headers={"Idempotent-Replayed": "true"} if replayed else {}
        )


def _items_of(body: Any) -> list[Any]:
    """Raises ValidationError, naming the field."""
    if isinstance(body, dict):
        check(dict.fromkeys(body))  # the names alone: they may stand in an error
    items: list[Any] = _INPUT.run_validation(body)["notifications"]
    return items


def _cost_of(items: Sequence[Any]) -> int:
    """In tokens of the key's rate limit."""
    return -(-len(items) // ITEMS_PER_TOKEN)


def _checked(
    request: Request, items: Sequence[Any], key: str
) -> tuple[dict[int, Submission], _Refusals]:
    """What is right in shape, and what is not, each by its position."""
    caller = caller_of(request)
    of_call = fingerprint(request.data, caller.live) if key else b""
    submissions: dict[int, Submission] = {}
    refusals: _Refusals = {}
    for position, item in enumerate(items):
        try:
            check(item)
            values = _ITEM.run_validation(item)
        except APIException as error:
            refusals[position] = error
            continue
        submissions[position] = Submission(
            project_id=caller.project_id,
            api_key_id=caller.key_id,
            live=caller.live,
            idempotency_key=key_of(key, position) if key else "",
            fingerprint=of_call,
            **values,
        )
    return submissions, refusals


def _result(outcome: Accepted | Refused | APIException) -> dict[str, Any]:
    """As `ItemResult` describes it."""
    if isinstance(outcome, Refused):
        return {"status": outcome.status, "error": explained(outcome)}
    if isinstance(outcome, APIException):
        return {"status": outcome.status_code, "error": explained(outcome)}
    result = {"status": status.HTTP_201_CREATED, "notification": present(outcome.notification)}
    return result | {"replayed": True} if outcome.replayed else result


def _summed_up(results: list[dict[str, Any]]) -> dict[str, Any]:
    accepted = sum("notification" in result for result in results)
    return {"accepted": accepted, "refused": len(results) - accepted, "results": results}
