"""Phone numbers: any spelling in, E.164 out."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from users.phones import as_e164


@pytest.mark.parametrize(
    ("region", "number", "expected"),
    [
        ("US", "1236889367", "+11236889367"),
        ("US", "+1 (212) 555-0100", "+12125550100"),
        ("US", "tel:+1-212-555-0100", "+12125550100"),
        ("US", "001 212 555 0100", None),
        ("US", "011 43 664 1234567", "+436641234567"),
        ("AT", "0043 664 1234567", "+436641234567"),
        ("AT", "0664 1234567", "+436641234567"),
        ("AT", "+43 664 1234567", "+436641234567"),
        ("US", "٢١٢٥٥٥٠١٠٠", "+12125550100"),
        ("US", "1-800-FLOWERS", "+18003569377"),
    ],
)
def test_any_spelling_becomes_e164(
    settings: Settings, region: str, number: str, expected: str | None
) -> None:
    settings.DEFAULT_PHONE_REGION = region
    assert as_e164(number) == expected


@pytest.mark.parametrize(
    "number", ["", " ", "+", "12", "ann", "+999 123456789", "1" * 18, "+1" * 500, "212 555 0100 x7"]
)
def test_what_cannot_be_a_phone_is_none(number: str) -> None:
    assert as_e164(number) is None
