"""Phone numbers: any spelling in, E.164 out."""

from __future__ import annotations

import phonenumbers
from django.conf import settings


def as_e164(number: str) -> str | None:
    """The number as E.164, or None where it cannot be one.

    A number without a country code is read as one of `DEFAULT_PHONE_REGION`. `is_possible_number` (length)
    rather than `is_valid_number` (known ranges): ranges change faster than libraries.
    """
    try:
        parsed = phonenumbers.parse(number, settings.DEFAULT_PHONE_REGION)
    except phonenumbers.NumberParseException:
        return None
    if parsed.extension or not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
