"""Pages by key, newest first: as fast on page 10,000 as on the first, and nothing is counted."""

from __future__ import annotations

from typing import Any

from django.core.signing import BadSignature, Signer
from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

_signer = Signer(salt="cursor")
_FIRST_PAGE = Cursor(offset=0, reverse=False, position=None)


class NewestFirst(CursorPagination):
    """`?limit=` (50, at most 250) and `?cursor=`; answers `{next, previous, results}`.

    Ids are unique and time-ordered, so a cursor is an id and a direction. The order is the queryset's own (newest.py),
    where DRF's pages would put one of theirs in its place.
    """

    page_size = 50
    max_page_size = 250
    page_size_query_param = "limit"
    #: What the queryset is ordered by, descending; unique within it.
    key = "id"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        size = self.get_page_size(request)
        self.base_url = request.build_absolute_uri()
        cursor = self.decode_cursor(request) or _FIRST_PAGE
        found = list(self._beyond(queryset, cursor)[: size + 1])
        has_more = len(found) > size
        self.page = found[:size]
        self.position: Any = cursor.position
        self.has_next, self.has_previous = has_more, self.position is not None
        if cursor.reverse:
            self.page.reverse()
            self.has_next, self.has_previous = True, has_more
        return self.page

    def _beyond(self, queryset: QuerySet[Any], cursor: Cursor) -> QuerySet[Any]:
        """Older than the cursor's position; or newer, and then the oldest first."""
        if cursor.reverse:
            return queryset.reverse().filter(**{f"{self.key}__gt": cursor.position})
        if cursor.position:
            return queryset.filter(**{f"{self.key}__lt": cursor.position})
        return queryset

    def get_next_link(self) -> str | None:
        return self._link(-1, reverse=False) if self.has_next else None

    def get_previous_link(self) -> str | None:
        return self._link(0, reverse=True) if self.has_previous else None

    def _link(self, end: int, reverse: bool) -> str:
        """Beyond the first or the last of the page."""
        position: Any = str(getattr(self.page[end], self.key)) if self.page else self.position
        return self.encode_cursor(Cursor(0, reverse, position))

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get("limit")
        if given is None:
            return self.page_size
        is_short_number = given.isascii() and given.isdigit() and len(given) <= 3
        if not is_short_number or not 1 <= int(given) <= self.max_page_size:
            message = f"This must be a number from 1 to {self.max_page_size}."
            raise ValidationError({"limit": [message]}, code="invalid")
        return int(given)

    def encode_cursor(self, cursor: Cursor) -> str:
        """Signed, so that a cursor that was changed on the way is refused and not a wrong page."""
        return replace_query_param(self.base_url or "", "cursor", _signer.sign_object(list(cursor)))

    def decode_cursor(self, request: Request) -> Cursor | None:
        given = request.query_params.get("cursor")
        if given is None:
            return None
        try:
            return Cursor(*_signer.unsign_object(given))
        except BadSignature as error:
            message = "This cursor is not one of ours. Use `next` or `previous` as they were given."
            raise ValidationError({"cursor": [message]}, code="invalid_cursor") from error

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {"next": self.get_next_link(), "previous": self.get_previous_link(), "results": data}
        )
