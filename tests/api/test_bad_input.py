"""Bad input gets a 4xx problem document that names the field, and leaves no row."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from notifications.api.serializers import ALIASES, NotificationInput
from notifyproj.wsgi import application
from tests.api.problems import NOTHING, problem_of, refused, rows
from users.api.serializers import UserInput
from users.models import Project

pytestmark = pytest.mark.django_db

GOOD = {"user_id": "ann", "channel": "in_app", "message": "Hello"}
EMAIL = {"recipient": "ann@example.com", "channel": "email", "message": "Hello"}
SMS = {"recipient": "+15005550006", "channel": "sms", "message": "Hello"}


def iso(**ago: float) -> str:
    return (datetime.now(UTC) + timedelta(**ago)).isoformat()


Post = Callable[..., Any]


@pytest.fixture
def post(client_of_alice: APIClient) -> Iterator[Post]:
    """Posts bytes with an idempotency key; at the end of the test, nothing may have been stored."""

    def send(
        body: bytes, path: str = "/api/v1/notifications", content_type: str = "application/json"
    ) -> Any:
        return client_of_alice.generic(
            "POST", path, body, content_type=content_type, HTTP_IDEMPOTENCY_KEY="k1"
        )

    yield send
    assert rows() == NOTHING


NOT_A_DOCUMENT = {
    "no JSON": (b"hello", "", "invalid_json"),
    "half a document": (b'{"user_id": "ann"', "", "invalid_json"),
    "two documents": (b"{} {}", "", "invalid_json"),
    "form data": (b"user_id=ann&channel=email", "", "invalid_json"),
    "Latin-1": (b'{"message": "\xe9"}', "", "invalid_json"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), "", "invalid_json"),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "", "invalid_json"),
    "a raw surrogate": (b'{"message": "\xed\xa0\x80"}', "", "invalid_json"),
    "a raw NUL": (b'{"message": "\x00"}', "", "invalid_json"),
    "an array": (json.dumps([GOOD]).encode(), "", "not_an_object"),
    "a string": (b'"hello"', "", "not_an_object"),
    "a number": (b"1", "", "not_an_object"),
    "null": (b"null", "", "null"),
    "false": (b"false", "", "not_an_object"),
    "100,000 arrays in each other": (b"[" * 100_000 + b"]" * 100_000, "", "too_deep"),
    "100,000 objects in each other": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "", "too_deep"),
    "30 levels": (b'{"metadata":' * 30 + b"1" + b"}" * 30, "", "too_deep"),
    "5,000 digits": (b'{"user_id": ' + b"9" * 5000 + b"}", "", "invalid_json"),
    "5,000 digits inside metadata": (
        b'{"metadata": {"a": [' + b"9" * 5000 + b"]}}",
        "",
        "invalid_json",
    ),
    "NaN": (b'{"metadata": {"a": NaN}}', "", "invalid_json"),
    "Infinity": (b'{"metadata": {"a": Infinity}}', "", "invalid_json"),
    "-Infinity": (b'{"user_id": -Infinity}', "", "invalid_json"),
    "1e999": (b'{"metadata": {"a": 1e999}}', "", "invalid_json"),
    "a name twice": (b'{"message": "a", "message": "b"}', "", "invalid_json"),
    "a name twice inside metadata": (b'{"metadata": {"a": {"b": 1, "b": 1}}}', "", "invalid_json"),
}


@pytest.mark.parametrize(
    ("body", "field", "code"), NOT_A_DOCUMENT.values(), ids=NOT_A_DOCUMENT.keys()
)
@pytest.mark.parametrize("path", ["/api/v1/notifications", "/users"])
def test_what_is_no_json_object_is_refused(
    post: Post, path: str, body: bytes, field: str, code: str
) -> None:
    refused(post(body, path), 400, field, code)


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_no_body_at_all_is_refused_with_the_fields_that_are_missing(
    post: Post, body: bytes
) -> None:
    named = {item["field"] for item in problem_of(post(body), 400)["errors"]}
    assert named == {"channel", "message"}


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/xml",
        "application/jsonx",
        "",
        "garbage",
    ],
)
def test_another_content_type_is_refused(post: Post, content_type: str) -> None:
    document = problem_of(post(json.dumps(GOOD).encode(), content_type=content_type), 415)
    assert document["code"] == "unsupported_media_type"


NUL_AND_SURROGATES = [r"\u0000", r"a\u0000b", r"\ud800", r"\udfff", r"\uDC00\uD800", r"\uD800x"]
PLACES = {
    "a value": ('{"message": "%s"}', "message"),
    "a number's place": ('{"user_id": "%s"}', "user_id"),
    "a name": ('{"%s": 1}', "?"),
    "metadata": ('{"metadata": {"a": "%s"}}', "metadata.a"),
    "a name inside metadata": ('{"metadata": {"a": {"%s": 1}}}', "metadata.a.?"),
    "an array inside metadata": ('{"metadata": {"a": [0, ["%s"]]}}', "metadata.a.1.0"),
}


@pytest.mark.parametrize("text", NUL_AND_SURROGATES)
@pytest.mark.parametrize(("template", "field"), PLACES.values(), ids=PLACES.keys())
def test_nul_and_half_a_surrogate_pair_are_refused_anywhere(
    post: Post, text: str, template: str, field: str
) -> None:
    refused(post((template % text).encode()), 400, field, "invalid_characters")


def test_a_whole_surrogate_pair_is_one_character(client_of_alice: APIClient) -> None:
    body = rb'{"user_id": "ann", "channel": "in_app", "message": "\ud83d\ude00 \\u0000"}'
    answer = client_of_alice.generic("POST", "/notifications", body, "application/json")
    assert answer.json()["message"] == "\U0001f600 \\u0000"


BAD_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    # Names
    "an unknown field": (GOOD | {"colour": "red"}, "colour", "unknown_field"),
    "the empty name": (GOOD | {"": 1}, "", "unknown_field"),
    "two names for the channel that disagree": (
        GOOD | {"type": "email"},
        "type",
        "conflicting_names",
    ),
    "two old names that disagree": (
        {"user_id": 1, "type": "sms", "notif_type": "email", "content": "x"},
        "notif_type",
        "conflicting_names",
    ),
    "two names for the message that disagree": (
        GOOD | {"content": "Bye"},
        "content",
        "conflicting_names",
    ),
    # Who
    "nobody": ({"channel": "in_app", "message": "x"}, "user_id", "required"),
    "a null for a person": (GOOD | {"user_id": None}, "user_id", "required"),
    "a user_id that is true": (GOOD | {"user_id": True}, "user_id", "invalid"),
    "a user_id with a fraction": (GOOD | {"user_id": 1.5}, "user_id", "invalid"),
    "a user_id that is a list": (GOOD | {"user_id": [1]}, "user_id", "invalid"),
    "a user_id that is an object": (GOOD | {"user_id": {"a": 1}}, "user_id", "invalid"),
    "an empty user_id": (GOOD | {"user_id": ""}, "user_id", "blank"),
    "a blank user_id": (GOOD | {"user_id": " \t "}, "user_id", "blank"),
    "a user_id of 256 characters": (GOOD | {"user_id": "x" * 256}, "user_id", "max_length"),
    "a user_id of 300 digits": (GOOD | {"user_id": 10**299}, "user_id", "max_length"),
    "a negative user_id of 256 characters": (
        GOOD | {"user_id": -(10**254)},
        "user_id",
        "max_length",
    ),
    "a user_id with a line break": (GOOD | {"user_id": "a\nb"}, "user_id", "control_characters"),
    "user_id and recipient that differ, in-app": (
        GOOD | {"recipient": "bob"},
        "recipient",
        "conflicting_recipient",
    ),
    # What
    "no channel": ({"user_id": "ann", "message": "x"}, "channel", "required"),
    "an unknown channel": (GOOD | {"channel": "fax"}, "channel", "invalid_choice"),
    "a channel in capitals": (GOOD | {"channel": "EMAIL"}, "channel", "invalid_choice"),
    "a channel that is a number": (GOOD | {"channel": 1}, "channel", "invalid_choice"),
    "a channel that is a list": (GOOD | {"channel": ["email"]}, "channel", "invalid_choice"),
    "a channel that is an object": (GOOD | {"channel": {}}, "channel", "invalid_choice"),
    "an unknown priority": (GOOD | {"priority": "urgent"}, "priority", "invalid_choice"),
    "a priority that is a list": (GOOD | {"priority": []}, "priority", "invalid_choice"),
    "an unknown priority inside metadata": (
        GOOD | {"metadata": {"priority": "urgent"}},
        "priority",
        "invalid_choice",
    ),
    "no message": ({"user_id": "ann", "channel": "in_app"}, "message", "required"),
    "an empty message": (GOOD | {"message": ""}, "message", "blank"),
    "a blank message": (GOOD | {"message": " \r\n\t\u00a0"}, "message", "blank"),
    "a message that is a number": (GOOD | {"message": 1}, "message", "invalid"),
    "a message that is an object": (GOOD | {"message": {"a": 1}}, "message", "invalid"),
    "a message above 256 KB": (GOOD | {"message": "x" * (256 * 1024 + 1)}, "message", "max_length"),
    "a message above 256 KB in UTF-8": (
        GOOD | {"message": "é" * (128 * 1024 + 1)},
        "message",
        "max_length",
    ),
    "an SMS of 1,601 characters": (SMS | {"message": "x" * 1601}, "message", "max_length"),
    "a title that is a number": (GOOD | {"title": 1}, "title", "invalid"),
    "a title with CR and LF": (
        EMAIL | {"title": "Hi\r\nBcc: eve@example.com"},
        "title",
        "control_characters",
    ),
    "a title with LF": (EMAIL | {"title": "Hi\nthere"}, "title", "control_characters"),
    "a title with a line separator": (
        EMAIL | {"title": "Hi\u2028there"},
        "title",
        "control_characters",
    ),
    "a title above 998 bytes": (EMAIL | {"title": "é" * 500}, "title", "max_length"),
    "HTML for an SMS": (SMS | {"html": "<p>Hi</p>"}, "html", "not_for_channel"),
    "HTML above 256 KB": (EMAIL | {"html": "x" * (256 * 1024 + 1)}, "html", "max_length"),
    "a url for an e-mail": (
        EMAIL | {"url": "https://example.com"},
        "url",
        "not_for_channel",
    ),
    "a script for a url": (GOOD | {"url": "javascript:alert(1)"}, "url", "invalid"),
    "a url without a host": (GOOD | {"url": "https://"}, "url", "invalid"),
    "a url with half an IPv6 address": (GOOD | {"url": "https://[::1"}, "url", "invalid"),
    "a url above 2,048 bytes": (
        GOOD | {"url": "https://example.com/" + "x" * 2048},
        "url",
        "max_length",
    ),
    "a long category": (GOOD | {"category": "x" * 101}, "category", "max_length"),
    "a long category inside metadata": (
        GOOD | {"metadata": {"category": "x" * 101}},
        "category",
        "max_length",
    ),
    "a long reference": (GOOD | {"reference": "x" * 256}, "reference", "max_length"),
    "metadata that is a list": (GOOD | {"metadata": [1]}, "metadata", "not_a_dict"),
    "metadata that is a string": (GOOD | {"metadata": "x"}, "metadata", "not_a_dict"),
    "metadata above 16 KB": (GOOD | {"metadata": {"a": "x" * 16384}}, "metadata", "max_length"),
    # Where
    "a bad e-mail address": (EMAIL | {"recipient": "ann@"}, "recipient", "invalid_email"),
    "an e-mail address with a line break": (
        EMAIL | {"recipient": "ann@example.com\nBcc: eve@example.com"},
        "recipient",
        "control_characters",
    ),
    "an e-mail address with a name": (
        EMAIL | {"recipient": "Ann <ann@example.com>"},
        "recipient",
        "invalid_email",
    ),
    "two e-mail addresses": (
        EMAIL | {"recipient": "ann@example.com,bob@example.com"},
        "recipient",
        "invalid_email",
    ),
    "a number for an e-mail address": (EMAIL | {"recipient": 4}, "recipient", "invalid_email"),
    "an impossible phone": (SMS | {"recipient": "12"}, "recipient", "invalid_phone"),
    "a word for a phone": (SMS | {"recipient": "ann"}, "recipient", "invalid_phone"),
    "a phone with an extension": (
        SMS | {"recipient": "+1 212 555 0100 ext. 7"},
        "recipient",
        "invalid_phone",
    ),
    "a bad e-mail address beside a user_id": (
        EMAIL | {"user_id": "ann", "recipient": "ann"},
        "recipient",
        "invalid_email",
    ),
    # When
    "a time without a zone": (
        GOOD | {"scheduled_for": "2030-01-01T00:00:00"},
        "scheduled_for",
        "no_time_zone",
    ),
    "a date": (GOOD | {"scheduled_for": "2030-01-01"}, "scheduled_for", "no_time_zone"),
    "no time": (GOOD | {"scheduled_for": "tomorrow"}, "scheduled_for", "invalid"),
    "the empty time": (GOOD | {"scheduled_for": ""}, "scheduled_for", "invalid"),
    "a UNIX time": (GOOD | {"scheduled_for": 1900000000}, "scheduled_for", "invalid"),
    "the 31st of February": (
        GOOD | {"scheduled_for": "2030-02-31T00:00:00Z"},
        "scheduled_for",
        "invalid",
    ),
    "a time two days ago": (GOOD | {"scheduled_for": iso(days=-2)}, "scheduled_for", "in_the_past"),
    "a time in two years": (
        GOOD | {"scheduled_for": iso(days=800)},
        "scheduled_for",
        "too_far_ahead",
    ),
    "the end of time, to the west": (
        GOOD | {"scheduled_for": "9999-12-31T23:59:59-12:00"},
        "scheduled_for",
        "invalid",
    ),
    "the beginning of time, to the east": (
        GOOD | {"scheduled_for": "0001-01-01T00:00:00+12:00"},
        "scheduled_for",
        "invalid",
    ),
    "an offset of 99 hours": (
        GOOD | {"scheduled_for": "2030-01-01T00:00:00+99:00"},
        "scheduled_for",
        "invalid",
    ),
    "an expiry in the past": (GOOD | {"expires_at": iso(hours=-1)}, "expires_at", "before_start"),
    "an expiry before the schedule": (
        GOOD | {"scheduled_for": iso(hours=2), "expires_at": iso(hours=1)},
        "expires_at",
        "before_start",
    ),
    "an expiry at the end of time, to the west": (
        GOOD | {"expires_at": "9999-12-31T23:59:59-12:00"},
        "expires_at",
        "invalid",
    ),
}


@pytest.mark.parametrize(("body", "field", "code"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_bad_field_is_named(post: Post, body: dict[str, Any], field: str, code: str) -> None:
    refused(post(json.dumps(body).encode()), 400, field, code)


def test_every_bad_field_is_named_at_once(post: Post) -> None:
    body = {"user_id": True, "channel": "fax", "message": "", "scheduled_for": "soon"}
    errors = problem_of(post(json.dumps(body).encode()), 400)["errors"]
    assert {item["field"] for item in errors} == set(body)


BAD_USERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown field": ({"colour": "red"}, "colour", "unknown_field"),
    "a bad e-mail address": ({"email": "ann"}, "email", "invalid_email"),
    "an e-mail address with a line break": (
        {"email": "a@example.com\r\n"},
        "email",
        "control_characters",
    ),
    "an endless e-mail address": ({"email": "a" * 400 + "@example.com"}, "email", "max_length"),
    "an impossible phone": ({"phone": "0"}, "phone", "invalid_phone"),
    "a phone that is a number": ({"phone": 1236889367}, "phone", "invalid"),
    "a name that is a list": ({"name": ["Ann"]}, "name", "invalid"),
    "a name with a line break": ({"name": "Ann\nBob"}, "name", "control_characters"),
    "a long name": ({"name": "x" * 201}, "name", "max_length"),
    "no language": ({"locale": "de_AT!"}, "locale", "invalid"),
    "no time zone": ({"timezone": "Mars/Phobos"}, "timezone", "invalid"),
    "a time zone outside": ({"timezone": "../../etc/passwd"}, "timezone", "invalid"),
}


@pytest.mark.parametrize(("body", "field", "code"), BAD_USERS.values(), ids=BAD_USERS.keys())
@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_a_bad_field_of_a_user_is_named(
    client_of_alice: APIClient, method: str, body: dict[str, Any], field: str, code: str
) -> None:
    path = "/api/v1/users" if method == "post" else "/api/v1/users/ann"
    refused(getattr(client_of_alice, method)(path, body, format="json"), 400, field, code)
    assert rows() == NOTHING


@pytest.mark.parametrize("user_id", ["", "x" * 256, True, [1], "a\nb"])
def test_a_bad_user_id_of_a_new_user_is_named(post: Post, user_id: Any) -> None:
    document = problem_of(post(json.dumps({"user_id": user_id}).encode(), "/users"), 400)
    assert [item["field"] for item in document["errors"]] == ["user_id"]


@pytest.mark.parametrize("user_id", ["%00", "a%0Ab", "%20", "x" * 256, "%E2%80%A8"])
def test_a_bad_user_id_in_the_path_is_named_when_it_is_to_be_made(
    client_of_alice: APIClient, user_id: str
) -> None:
    response = client_of_alice.put(f"/api/v1/users/{user_id}", {}, format="json")
    assert [item["field"] for item in problem_of(response, 400)["errors"]] == ["user_id"]
    assert rows() == NOTHING


BROKEN_PATHS = ["%00", "%0a", "x" * 256, "%E2%80%A8", "%20"]


@pytest.mark.parametrize("user_id", BROKEN_PATHS)
@pytest.mark.parametrize("rest", ["", "/notifications", "/"])
def test_no_user_has_such_an_id(client_of_alice: APIClient, user_id: str, rest: str) -> None:
    problem_of(client_of_alice.get(f"/api/v1/users/{user_id}{rest}"), 404)


@pytest.mark.parametrize("garbage", ["%ff", "%ed%a0%80", "%c0%80", "%", "%zz", "%F0%9F%98%80"])
def test_percent_encoded_garbage_is_an_id_that_nobody_has(
    client_of_alice: APIClient, garbage: str
) -> None:
    problem_of(client_of_alice.get(f"/users/{garbage}"), 404)
    assert client_of_alice.get(f"/users/{garbage}/notifications").json()["results"] == []


@pytest.mark.parametrize(
    "path", ["/%00", "/%ff", "/api/v1/%00", "/api/v2/notifications", "/notifications/a/b/c"]
)
def test_a_path_that_leads_nowhere_is_a_problem_document(
    client_of_alice: APIClient, path: str
) -> None:
    problem_of(client_of_alice.get(path), 404)


@pytest.mark.parametrize("pk", ["1", "abc", "%00", "%ff", "0" * 33, "x" * 5000, "{", "%0a"])
@pytest.mark.parametrize(("method", "rest"), [("get", ""), ("patch", "/status")])
def test_a_bad_uuid_in_the_path_is_named(
    client_of_alice: APIClient, pk: str, method: str, rest: str
) -> None:
    call = getattr(client_of_alice, method)
    refused(call(f"/api/v1/notifications/{pk}{rest}", {"status": "read"}), 400, "id", "invalid")


# --- Sizes ----------------------------------------------------------------------------------------


#: The application as a server calls it closes its connections, and with them a test's transaction.
real_server = pytest.mark.django_db(transaction=True)


class CountedInput(io.RawIOBase):
    """A body of ten megabytes that remembers how much of it was asked for."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        self.left -= size
        self.taken += size
        return b"x" * size


def call_wsgi(client: APIClient, body: io.RawIOBase, **headers: Any) -> tuple[int, dict[str, Any]]:
    """Calls the application as a server does, with a body that is not in memory."""
    environ = RequestFactory().generic("POST", "/api/v1/notifications").environ
    environ |= client._credentials | {"CONTENT_TYPE": "application/json", "wsgi.input": body}
    environ.pop("CONTENT_LENGTH", None)
    environ |= headers
    started: list[str] = []
    chunks = application(environ, lambda status, headers: started.append(status))
    return int(started[0].split()[0]), json.loads(b"".join(chunks))


@real_server
def test_a_message_of_ten_megabytes_is_not_read_into_memory(client_of_alice: APIClient) -> None:
    body = CountedInput(10_000_000)
    status, document = call_wsgi(client_of_alice, body, CONTENT_LENGTH="10000000")
    assert (status, document["code"]) == (413, "body_too_large")
    assert body.taken < 1_100_000
    assert rows() == NOTHING


@real_server
@pytest.mark.parametrize("length", ["", "abc", "-1", "1e3", "١"])
def test_a_content_length_that_is_none_stores_nothing(
    client_of_alice: APIClient, length: str
) -> None:
    body = io.BytesIO(json.dumps(GOOD).encode())
    status, document = call_wsgi(client_of_alice, body, CONTENT_LENGTH=length)
    assert 400 <= status < 500, document
    assert rows() == NOTHING


@real_server
def test_a_body_in_chunks_is_refused_and_told_why(client_of_alice: APIClient) -> None:
    body = io.BytesIO(json.dumps(GOOD).encode())
    status, document = call_wsgi(client_of_alice, body, HTTP_TRANSFER_ENCODING="chunked")
    assert (status, document["code"]) == (411, "length_required")
    assert rows() == NOTHING


@real_server
def test_a_body_shorter_than_it_says_is_refused(client_of_alice: APIClient) -> None:
    body = io.BytesIO(json.dumps(GOOD).encode()[:20])
    status, document = call_wsgi(client_of_alice, body, CONTENT_LENGTH="100")
    assert (status, document["code"]) == (400, "invalid_json")


def test_many_names_of_which_the_last_comes_twice_are_refused_at_once(post: Post) -> None:
    names = [f'"{number:x}":0' for number in range(80_000)]
    refused(post(f"{{{','.join([*names, names[-1]])}}}".encode()), 400, "", "invalid_json")


# --- Query strings and headers ----------------------------------------------------------------------

BAD_QUERIES = {
    "an unknown filter": ("colour=red", "colour", "unknown_filter"),
    "an unknown status": ("status=lost", "status", "invalid_choice"),
    "an unknown channel": ("channel=fax", "channel", "invalid_choice"),
    "NUL in a reference": ("reference=%00", "reference", "null_characters_not_allowed"),
    "NUL in a category": ("category=a%00", "category", "null_characters_not_allowed"),
    "NUL in a user_id": ("user_id=%00", "user_id", "control_characters"),
    "NUL in a status": ("status=%00", "status", "invalid_choice"),
    "NUL in a name": ("a%00=1", "a\x00", "unknown_filter"),
    "a long reference": ("reference=" + "x" * 256, "reference", "max_length"),
    "no time": ("created_after=yesterday", "created_after", "invalid"),
    "NUL in a time": ("created_after=%00", "created_after", "invalid"),
    "a time without a zone": (
        "created_before=2030-01-01T00:00:00",
        "created_before",
        "no_time_zone",
    ),
    "a plus that became a blank": (
        "created_before=2030-01-01T00:00:00+01:00",
        "created_before",
        "invalid",
    ),
    "the end of time, to the west": (
        "created_before=9999-12-31T23:59:59-12:00",
        "created_before",
        "invalid",
    ),
    "a limit of 0": ("limit=0", "limit", "invalid"),
    "a limit of 251": ("limit=251", "limit", "invalid"),
    "a limit of -1": ("limit=-1", "limit", "invalid"),
    "a limit of none": ("limit=", "limit", "invalid"),
    "a limit in words": ("limit=ten", "limit", "invalid"),
    "a limit with 5,000 digits": ("limit=" + "9" * 5000, "limit", "invalid"),
    "a limit that is small after six digits": ("limit=0000011000000", "limit", "invalid"),
    "a limit in Arabic digits": ("limit=%D9%A1", "limit", "invalid"),
    "no cursor": ("cursor=hello", "cursor", "invalid_cursor"),
    "a cursor of bytes": ("cursor=%ff%00", "cursor", "invalid_cursor"),
    "a cursor of DRF's own": ("cursor=cD0x", "cursor", "invalid_cursor"),
    "an empty cursor": ("cursor=", "cursor", "invalid_cursor"),
    "format": ("format=xml", "format", "unknown_filter"),
}


@pytest.mark.parametrize(("query", "field", "code"), BAD_QUERIES.values(), ids=BAD_QUERIES.keys())
@pytest.mark.parametrize("path", ["/api/v1/notifications", "/users/ann/notifications"])
def test_a_bad_query_parameter_is_named(
    client_of_alice: APIClient, path: str, query: str, field: str, code: str
) -> None:
    refused(client_of_alice.get(f"{path}?{query}"), 400, field, code)


def test_a_query_of_ten_thousand_parameters_is_refused(client_of_alice: APIClient) -> None:
    problem_of(client_of_alice.get("/api/v1/notifications?" + "a=1&" * 10_000), 400)


@pytest.mark.parametrize("query", ["format=xml", "a=%00", "cursor=1", "%ff", "&&&=&"])
def test_a_query_string_does_not_disturb_a_post(client_of_alice: APIClient, query: str) -> None:
    response = client_of_alice.post(f"/api/v1/notifications?{query}", GOOD, format="json")
    assert response.status_code == 201


@pytest.mark.parametrize(
    "accept",
    ["text/csv", "application/xml", "application/json; indent=2; q=x, text/html", "x", "/"],
)
def test_an_answer_that_we_cannot_give_is_refused_before_anything_is_stored(
    client_of_alice: APIClient, accept: str
) -> None:
    response = client_of_alice.post(
        "/api/v1/notifications", GOOD, format="json", HTTP_ACCEPT=accept
    )
    if response.status_code != 201:
        assert problem_of(response, 406)["code"] == "not_acceptable"
        assert rows() == NOTHING


@pytest.mark.parametrize("charset", ["hex", "base64", "rot13", "idna", "undefined", "utf-16", "x"])
def test_a_charset_changes_nothing_since_json_is_always_utf_8(
    client_of_alice: APIClient, charset: str
) -> None:
    content_type = f"application/json; charset={charset}"
    body = json.dumps(GOOD | {"message": "Grüß Gott"}, ensure_ascii=False).encode()
    response = client_of_alice.generic("POST", "/notifications", body, content_type)
    assert response.json()["message"] == "Grüß Gott"


@real_server
@pytest.mark.parametrize("charset", ["hex", "idna", "undefined"])
def test_a_query_string_is_utf_8_whatever_the_charset(
    client_of_alice: APIClient, charset: str
) -> None:
    body = json.dumps(GOOD).encode()
    status, document = call_wsgi(
        client_of_alice,
        io.BytesIO(body),
        CONTENT_LENGTH=str(len(body)),
        CONTENT_TYPE=f"application/json; charset={charset}",
        QUERY_STRING="reference=%C3%BC",
    )
    assert (status, document["user_id"]) == (201, "ann")


@pytest.mark.parametrize(
    "key", ["", " ", '""', "a b", "x" * 256, "\x00", "a\x7f", "schlüssel", "\ud83d", '"open', 'a"b']
)
def test_a_bad_idempotency_key_is_named(client_of_alice: APIClient, key: str) -> None:
    response = client_of_alice.post(
        "/api/v1/notifications", GOOD, format="json", HTTP_IDEMPOTENCY_KEY=key
    )
    refused(response, 400, "Idempotency-Key", "invalid")
    assert rows() == NOTHING


@pytest.mark.parametrize("host", ["evil.example.com", "a b", "[::1", "\x00"])
def test_a_host_that_is_not_ours_is_a_problem_document(
    client_of_alice: APIClient, host: str
) -> None:
    problem_of(client_of_alice.get("/api/v1/notifications", HTTP_HOST=host), 400)


# --- Anything at all --------------------------------------------------------------------------------

FIELDS = {*NotificationInput().fields, *UserInput().fields, *ALIASES}
names = st.sampled_from(sorted(FIELDS))
telling = ("email", "sms", "in_app", "inapp", "high", "4", "de-AT", "UTC", "https://a.b")
addresses = ("ann@example.com", "+15005550006")
times = ("2030-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+01:00")
words = st.text(max_size=40) | st.sampled_from(telling + addresses + times)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(words, inside, max_size=4),
    max_leaves=12,
)
bodies = anything | st.dictionaries(names | words, anything, max_size=10)


@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies, call=st.sampled_from(["post /notifications", "post /users", "patch /users/a"]))
def test_whatever_json_is_thrown_at_it_is_never_our_fault(
    client_of_alice: APIClient, body: Any, call: str
) -> None:
    method, path = call.split()
    raw = json.dumps(body).encode()
    response = client_of_alice.generic(method.upper(), path, raw, "application/json")
    assert response.status_code in {200, 201, 400, 404, 409}
    if response.status_code >= 400:
        problem_of(response, response.status_code)


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(path=st.text(max_size=30), query=st.text(max_size=40))
def test_whatever_is_asked_for_is_never_our_fault(
    client_of_alice: APIClient, path: str, query: str
) -> None:
    for start in ("/users/", "/notifications/", "/api/v1/", "/"):
        response = client_of_alice.generic(
            "GET",
            "/",
            PATH_INFO=start + path.encode(errors="surrogatepass").decode("latin-1"),
            QUERY_STRING="user_id=" + query.encode(errors="surrogatepass").decode("latin-1"),
        )
        assert response.status_code < 500


# --- Said clearly ---------------------------------------------------------------------------------------


def test_a_wrong_choice_is_told_what_it_could_have_been(client_of_alice: APIClient) -> None:
    body = {"user_id": 1, "channel": "fax", "message": "Hello"}
    [error] = client_of_alice.post("/notifications", body, format="json").json()["errors"]
    assert "email, sms, in_app" in error["detail"]


@pytest.mark.parametrize("user_id", ["a/b", ".", ".."])
def test_a_user_id_that_no_path_reaches_is_refused(
    client_of_alice: APIClient, user_id: str
) -> None:
    for path, body in (
        ("/users", {"user_id": user_id}),
        ("/notifications", {"user_id": user_id, "channel": "in_app", "message": "Hello"}),
    ):
        answer = client_of_alice.post(path, body, format="json")
        assert answer.status_code == 400, path
        assert answer.json()["errors"][0]["field"] == "user_id"


def test_a_missing_scope_is_named(alice: Project, make_client: Callable[..., APIClient]) -> None:
    answer = make_client(alice, scopes=["read"]).post("/notifications", {}, format="json")
    assert "'send'" in answer.json()["detail"]


def test_a_host_that_is_not_ours_is_told_so(client_of_alice: APIClient, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["notify.example.com"]
    assert client_of_alice.get("/notifications").json()["code"] == "unknown_host"
