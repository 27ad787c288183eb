"""Field types and the strict serializer that the whole API shares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NoReturn

from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import empty
from rest_framework.validators import ProhibitSurrogateCharactersValidator

#: Unicode's categories Cc, Zl and Zp.
CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses unknown fields. A `null` is as good as leaving the field out."""

    default_error_messages = {"null": "The body must be a JSON object."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            raise ValidationError({"": ["The body must be a JSON object."]}, code="not_an_object")
        given = {name: value for name, value in data.items() if value is not None}
        unknown = [name for name in given if name not in self.fields]
        if unknown:
            raise ValidationError(
                {name: ["This field is not known."] for name in unknown}, code="unknown_field"
            )
        return self._checked(given)

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """As in DRF, which looks at every field there is: here at what is given, required or has a default."""
        values: dict[str, Any] = {}
        errors: dict[str, list[ErrorDetail]] = {}
        for name, field, validate, always in self._checks:
            if not always and name not in given:
                continue
            try:
                value = field.run_validation(given.get(name, empty))
                values[name] = validate(value) if validate else value
            except ValidationError as error:
                errors[name] = error.detail  # type: ignore[assignment]
        if errors:
            raise ValidationError(errors)
        return values

    def run_validators(self, value: Any) -> None:
        """DRF gathers the defaults of read-only fields before it sees that there is no validator."""
        if self.validators:
            super().run_validators(value)

    @cached_property
    def _checks(self) -> list[tuple[str, serializers.Field[Any, Any, Any, Any], Any, bool]]:
        """For each field: its name, itself, `validate_<name>` or None, and whether it is checked when not given."""
        return [
            (
                name,
                field,
                getattr(self, f"validate_{name}", None),
                field.required or field.default is not empty,
            )
            for name, field in self.fields.items()
        ]


@extend_schema_field({"oneOf": [{"type": "string", "maxLength": 255}, {"type": "integer"}]})
class UserIdField(serializers.Field[str, Any, str, str]):
    """The caller's own id of a user: integer or string, kept as text."""

    def to_internal_value(self, data: Any) -> str:
        if isinstance(data, bool) or not isinstance(data, int | str):
            raise ValidationError("A user_id is an integer or a string.", code="invalid")
        if isinstance(data, int) and abs(data) >= 10**255:
            raise ValidationError("A user_id has at most 255 characters.", code="max_length")
        text = str(data).strip()
        if not text:
            raise ValidationError("A user_id must not be empty.", code="blank")
        if len(text) > 255:
            raise ValidationError("A user_id has at most 255 characters.", code="max_length")
        return _single_line(text)

    def to_representation(self, value: str) -> str:
        return value


def refuse_unreachable(user_id: str) -> str:
    """Raises ValidationError for an id that no path could reach: /users/{user_id} would be another path."""
    if "/" in user_id or user_id in {".", ".."}:
        message = "A user_id must not contain a slash, nor be '.' or '..': it stands in paths."
        raise ValidationError(message, code="unreachable")
    return user_id


class ChoiceField(serializers.ChoiceField):
    """Says what it could have been."""

    def run_validation(self, data: Any = empty) -> Any:
        """What is one of the choices needs none of DRF's checks."""
        if type(data) is str and data in self.choice_strings_to_values:
            return self.choice_strings_to_values[data]
        return super().run_validation(data)

    def fail(self, key: str, **kwargs: Any) -> NoReturn:
        if key == "invalid_choice":
            choices = ", ".join(str(choice) for choice in self.choices)
            raise ValidationError(f"This must be one of: {choices}.", code=key)
        super().fail(key, **kwargs)


@extend_schema_field(OpenApiTypes.DATETIME)
class ZonedDateTimeField(serializers.Field[datetime, Any, str, datetime]):
    """RFC 3339 with a zone: a time without one means something else on every machine."""

    def to_internal_value(self, data: Any) -> datetime:
        try:
            moment = parse_datetime(data) if isinstance(data, str) else None
        except ValueError:
            moment = None
        if moment is None:
            raise ValidationError(
                "Give a time as in RFC 3339: YYYY-MM-DDThh:mm:ssZ, or with an offset for Z.",
                code="invalid",
            )
        if moment.tzinfo is None:
            raise ValidationError(
                "The time has no zone; add Z or an offset like +01:00.", code="no_time_zone"
            )
        try:
            return moment.astimezone(UTC)
        except OverflowError:
            raise ValidationError("This time is out of range.", code="invalid") from None

    def to_representation(self, value: datetime) -> str:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _single_line(text: str) -> str:
    """Refuses control characters: in a header a line break would start another header."""
    if CONTROL_CHARACTER.search(text):
        raise ValidationError(
            "Line breaks and control characters are not allowed here.", code="control_characters"
        )
    return text


def _at_most(text: str, limit: int) -> str:
    if len(text) * 4 > limit and len(text.encode()) > limit:
        raise ValidationError(f"This has more than {limit:,} bytes.", code="max_length")
    return text


class TextField(serializers.CharField):
    """Text that is stored as it came. `line` refuses line breaks; `most_bytes` limits its UTF-8 length."""

    def __init__(self, *, line: bool = False, most_bytes: int | None = None, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)
        self.line = line
        self.most_bytes = most_bytes
        # It looks at each character in turn. The parser has refused half a surrogate pair already.
        self.validators = [
            validator
            for validator in self.validators
            if not isinstance(validator, ProhibitSurrogateCharactersValidator)
        ]

    def run_validation(self, data: Any = empty) -> str | None:
        """What can be seen to pass DRF's checks (blank, NUL, length) does not go through each of them."""
        plain = type(data) is str and data and "\x00" not in data
        if plain and (self.max_length is None or len(data) <= self.max_length):
            return self.to_internal_value(data)
        checked: str | None = super().run_validation(data)
        return checked

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise ValidationError("This must be a string.", code="invalid")
        if self.most_bytes:
            _at_most(data, self.most_bytes)
        return _single_line(data) if self.line else data
