"""What a user looks like on the way in and out. The API's user is our `Recipient`."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from users.api.fields import StrictSerializer, TextField, UserIdField, refuse_unreachable
from users.models import Recipient


class UserChange(StrictSerializer):
    """What is known of a person. An empty string removes it."""

    name = TextField(required=False, allow_blank=True, line=True, max_length=200)
    email = TextField(required=False, allow_blank=True, line=True, max_length=320)
    phone = TextField(
        required=False,
        allow_blank=True,
        line=True,
        max_length=40,
        help_text="Any spelling; kept as E.164.",
    )
    locale = TextField(
        required=False, allow_blank=True, line=True, max_length=35, help_text="BCP 47, like de-AT."
    )
    timezone = TextField(
        required=False,
        allow_blank=True,
        line=True,
        max_length=64,
        help_text="IANA name, like Europe/Vienna.",
    )

    def validate_locale(self, locale: str) -> str:
        parts = locale.split("-")
        if locale and not all(
            part.isascii() and part.isalnum() and len(part) <= 8 for part in parts
        ):
            raise ValidationError("This is not a language tag like de-AT.", code="invalid")
        return locale

    def validate_timezone(self, name: str) -> str:
        if name and name not in available_timezones():
            raise ValidationError(
                "This is not an IANA time zone like Europe/Vienna.", code="invalid"
            )
        return name


class UserInput(UserChange):
    user_id = UserIdField(required=False, help_text="Your own id; without it you get one of ours.")

    def validate_user_id(self, user_id: str) -> str:
        return refuse_unreachable(user_id)


class UserOutput(serializers.Serializer[Any]):
    user_id = serializers.CharField()
    name = serializers.CharField()
    email = serializers.CharField(allow_null=True)
    phone = serializers.CharField(allow_null=True)
    locale = serializers.CharField()
    timezone = serializers.CharField()
    created_at = serializers.DateTimeField()


def as_user_id(text: str) -> str:
    """A user_id from a path, checked like one from a body. Raises ValidationError, naming `user_id`."""
    try:
        user_id: str = UserIdField().run_validation(text)
    except ValidationError as error:
        raise ValidationError({"user_id": error.detail}) from error
    return user_id


def present(recipient: Recipient) -> dict[str, Any]:
    """The recipient as `UserOutput` describes it."""
    addresses = {address.channel: address.value for address in recipient.addresses.all()}
    return {
        "user_id": recipient.user_id,
        "name": recipient.name,
        "email": addresses.get("email"),
        "phone": addresses.get("sms"),
        "locale": recipient.locale,
        "timezone": recipient.timezone,
        "created_at": recipient.created_at,
    }
