"""/users: the people that a project notifies."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework import status, viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from users import directory
from users.api.serializers import UserChange, UserInput, as_user_id, present
from users.authentication import Caller
from users.models import Recipient, Scope

_CHANGE = UserChange()
_INPUT = UserInput()
#: Field of the API -> channel of the address in it.
_ADDRESSES = {"email": "email", "phone": "sms"}


class UserViewSet(viewsets.ViewSet):
    """Create, read, replace and change."""

    lookup_field = "user_id"
    lookup_value_regex = "[^/]+"
    scopes: dict[str, str] = {
        "create": Scope.MANAGE,
        "update": Scope.MANAGE,
        "partial_update": Scope.MANAGE,
        "retrieve": Scope.READ,
    }

    def create(self, request: Request) -> Response:
        values = _with_normalised_addresses(_INPUT.run_validation(request.data))
        recipient = directory.register(project_of(request), values)
        return Response(present(recipient), status.HTTP_201_CREATED)

    def retrieve(self, request: Request, user_id: str) -> Response:
        return Response(present(self.recipient(request, user_id)))

    def update(self, request: Request, user_id: str) -> Response:
        values = _with_normalised_addresses(_CHANGE.run_validation(request.data))
        recipient, created = directory.replace(project_of(request), as_user_id(user_id), values)
        code = status.HTTP_201_CREATED if created else status.HTTP_200_OK
        return Response(present(recipient), code)

    def partial_update(self, request: Request, user_id: str) -> Response:
        values = _with_normalised_addresses(_CHANGE.run_validation(request.data))
        recipient = directory.change(project_of(request), as_user_id(user_id), values)
        if recipient is None:
            raise Http404
        return Response(present(recipient))

    def recipient(self, request: Request, user_id: str) -> Recipient:
        """The caller's own recipient. Raises Http404."""
        recipient = self.find(request, user_id)
        if recipient is None:
            raise Http404
        return recipient

    def find(self, request: Request, user_id: str) -> Recipient | None:
        try:
            user_id = as_user_id(user_id)
        except ValidationError as error:
            raise Http404 from error
        return Recipient.objects.filter(project_id=project_of(request), user_id=user_id).first()


def caller_of(request: Request) -> Caller:
    caller = request.user
    assert isinstance(caller, Caller)
    return caller


def project_of(request: Request) -> int:
    return caller_of(request).project_id


def _with_normalised_addresses(values: dict[str, Any]) -> dict[str, Any]:
    """Raises Refused, naming the field."""
    for field, channel in _ADDRESSES.items():
        if values.get(field):
            values[field] = directory.normalised(channel, values[field], field)
    return values
