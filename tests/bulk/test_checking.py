"""One row of a file, checked without a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from notifications.bulk.checking import Checker, Prepared, Rejected
from notifications.bulk.duplicates import Seen
from notifications.bulk.reading import Row
from notifications.bulk.templating import Templates


@pytest.fixture
def seen() -> Iterator[Seen]:
    with Seen() as seen:
        yield seen


def checker(channel: str, seen: Seen, message: str = "Hi", title: str = "") -> Checker:
    return Checker(channel, Templates(title, message, ""), once_per_address=True, seen=seen)


def row(line: int = 2, **values: Any) -> Row:
    return Row(line - 1, line, values)


def rejected(found: Prepared | Rejected) -> tuple[str, str]:
    assert isinstance(found, Rejected)
    return found.field, found.code


def test_a_good_row_is_prepared(seen: Seen) -> None:
    found = checker("email", seen, "Hi {{ n }}").check(row(email="a@Example.com", n="Ann"))
    assert isinstance(found, Prepared)
    assert (found.address.lower(), found.message) == ("a@example.com", "Hi Ann")


@pytest.mark.parametrize(
    ("channel", "values", "problem"),
    [
        ("sms", {"phone": "1.2E+09"}, ("phone", "spreadsheet_number")),
        ("sms", {}, ("phone", "required")),
        ("email", {}, ("email", "required")),
        ("in_app", {"email": "a@example.com"}, ("user_id", "required")),
        ("in_app", {"user_id": "a/b"}, ("user_id", "unreachable")),
        ("in_app", {"user_id": "x" * 256}, ("user_id", "max_length")),
        ("in_app", {"user_id": "a", "locale": "x" * 36}, ("locale", "invalid")),
    ],
)
def test_a_bad_row_names_its_field(
    channel: str, values: dict[str, Any], problem: tuple[str, str], seen: Seen
) -> None:
    assert rejected(checker(channel, seen).check(row(**values))) == problem


def test_a_line_break_in_the_title_names_the_variable(seen: Seen) -> None:
    found = checker("email", seen, title="{{ n }}").check(
        row(email="a@example.com", n="A\r\nBcc: b")
    )
    assert rejected(found) == ("title", "line_break")
    assert isinstance(found, Rejected)
    assert "n" in found.detail.split("by ")[1]


def test_content_is_no_longer_than_its_channel_takes(seen: Seen) -> None:
    long = row(user_id="a", n="x" * 1601)
    assert rejected(checker("sms", seen, "{{ n }}").check(long)) == ("message", "max_length")
    assert rejected(checker("in_app", seen, "x", "{{ n }}").check(long)) == ("title", "max_length")
    blank = row(user_id="a")
    assert rejected(checker("sms", seen, "{{ n | default: ' ' }}").check(blank)) == (
        "message",
        "blank",
    )


def test_a_second_row_to_an_address_names_the_first(seen: Seen) -> None:
    check = checker("email", seen).check
    assert isinstance(check(row(2, email="a@example.com")), Prepared)
    found = check(row(3, email="A@EXAMPLE.com"))
    assert rejected(found) == ("email", "duplicate")
    assert isinstance(found, Rejected)
    assert "line 2" in found.detail


def test_a_row_that_was_rejected_keeps_no_other_from_being_sent(seen: Seen) -> None:
    check = checker("email", seen, "{{ n }}").check
    assert rejected(check(row(2, email="a@example.com"))) == ("message", "missing_variable")
    assert isinstance(check(row(3, email="a@example.com", n="x")), Prepared)
