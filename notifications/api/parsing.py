"""JSON in and out, stricter than DRF's own.

Refused on the way in, each with a sentence and a field: what PostgreSQL cannot store (NUL, lone surrogates),
what Python would choke on (100,000 levels, 5,000 digits), and what two readers could understand differently
(duplicate keys, NaN).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import IO, Any
from uuid import UUID

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException, ParseError, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

#: Digits that an integer may have; Python itself stops at 4,300.
LONGEST_NUMBER = 1000
#: Levels of nesting that a body may have.
DEEPEST = 20


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is larger than {limit:,} bytes.")


class LengthRequired(APIException):
    status_code = status.HTTP_411_LENGTH_REQUIRED
    default_code = "length_required"
    default_detail = "Send the body with a Content-Length, not in chunks."


class StrictJSONParser(BaseParser):
    """Parses one JSON document. Raises ParseError, ValidationError or BodyTooLarge."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return parse_json(_read(stream, settings.MAX_REQUEST_BYTES))


class ManyJSONParser(BaseParser):
    """Parses a larger document whose parts the view checks by themselves: each with `check()`.

    Raises ParseError or BodyTooLarge.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return _decode(_read(stream, settings.MAX_BATCH_REQUEST_BYTES))


def _read(stream: IO[Any], limit: int) -> bytes:
    body: bytes = stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge(limit)
    return body


def parse_json(body: bytes) -> Any:
    """The document in `body`. Raises ParseError or ValidationError."""
    document = _decode(body)
    # An escaped NUL or surrogate is the only way for one to be in a string; most bodies have no such escape.
    suspicious = b"\\u0000" in body or b"\\ud" in body.lower()
    _check(document, suspicious)
    return document


def check(part: Any) -> None:
    """What `parse_json` refuses in a document that can be read. Raises ParseError or ValidationError."""
    _check(part, suspicious=True)


def _decode(body: bytes) -> Any:
    try:
        return _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise ParseError("The body is not UTF-8.", code="invalid_json") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        raise ParseError(f"The body is not valid JSON: {error}", code="invalid_json") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise ValueError(f"{literal[:20]} is too large")
    return number


def _short(literal: str) -> int:
    if len(literal) > LONGEST_NUMBER:
        raise ValueError(f"a number has more than {LONGEST_NUMBER:,} digits")
    return int(literal)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    count = Counter(name for name, _ in pairs)
    twice = max(count, key=count.__getitem__)
    raise ValueError(f"the name {twice[:100]!r} occurs twice in one object")


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_finite,
    parse_int=_short,
    object_pairs_hook=_without_duplicates,
)


def _too_deep() -> ParseError:
    return ParseError(f"The body is nested deeper than {DEEPEST} levels.", code="too_deep")


def _check(value: Any, suspicious: bool, path: tuple[str, ...] = ()) -> None:
    """Depth always; characters only where the body holds an escape that could be a bad one."""
    if suspicious and isinstance(value, str) and not _is_storable(value):
        raise _bad_characters(path)
    if not value or not isinstance(value, dict | list):
        return
    if len(path) == DEEPEST:
        raise _too_deep()
    if suspicious and isinstance(value, dict) and not all(map(_is_storable, value)):
        raise _bad_characters((*path, "?"))
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for name, member in members:
        if isinstance(member, str):
            if suspicious and not _is_storable(member):
                raise _bad_characters((*path, str(name)))
        elif isinstance(member, dict | list):
            _check(member, suspicious, (*path, str(name)))


_SURROGATE = re.compile("[\ud800-\udfff]")


def _is_storable(text: str) -> bool:
    return "\x00" not in text and (text.isascii() or not _SURROGATE.search(text))


def _bad_characters(path: tuple[str, ...]) -> ValidationError:
    message = "Text must not contain the NUL character or half a surrogate pair."
    return ValidationError({".".join(path): [message]}, code="invalid_characters")


class JSONRenderer(BaseRenderer):
    """Compact UTF-8 JSON; times in RFC 3339, UTC, with `Z`."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else dump_json(data)


def dump_json(data: Any) -> bytes:
    return _ENCODER.encode(data).encode()


def _plain(value: Any) -> str | list[Any]:
    if isinstance(value, datetime):
        return _in_utc(value)
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


@lru_cache(maxsize=1024)
def _in_utc(moment: datetime) -> str:
    """Of the notifications of one call most moments are alike."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain)
