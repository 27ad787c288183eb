"""/batches: one message to many, from an uploaded file."""

import json
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from notifications.bulk import staged_loading
from notifications.models import Batch, Notification
from tests.factories import BatchFactory, row_of

pytestmark = pytest.mark.django_db

URL = "/api/v1/batches"
FILE = b"email,First Name\nada@example.com,Ada\ngrace@example.com,Grace\n"
MESSAGE = {"name": "Spring", "channel": "email", "message": "Hello {{ first_name }}!"}


@pytest.fixture(autouse=True)
def _sandbox(settings):
    settings.SANDBOX = True


@pytest.fixture
def client(alice, make_client):
    return make_client(alice)


def upload(client, content=FILE, **fields):
    """As curl -F does."""
    form = MESSAGE | fields | {"file": SimpleUploadedFile("rows.csv", content)}
    return client.post(URL, {k: v for k, v in form.items() if v is not None}, format="multipart")


def post_body(client, content=FILE, content_type="text/csv", **fields):
    query = "&".join(f"{name}={value}" for name, value in (MESSAGE | fields).items())
    return client.generic("POST", f"{URL}?{query}", content, content_type=content_type)


# -- Making one -------------------------------------------------------------------------------------------


def test_an_upload_is_accepted_at_once_and_loaded_by_a_worker(client):
    answer = upload(client)
    assert answer.status_code == 202
    batch = answer.json()
    assert (batch["status"], batch["loaded"], batch["priority"]) == ("loading", 0, "low")
    assert answer["Location"] == f"{URL}/{batch['id']}"
    staged_loading.load_next()
    found = client.get(answer["Location"]).json()
    assert (found["status"], found["loaded"]) == ("running", 2)
    assert found["progress"]["waiting"] == 2
    assert found["report"]["valid"] == 2
    assert [example["message"] for example in found["report"]["examples"]] == [
        "Hello Ada!",
        "Hello Grace!",
    ]
    assert Notification.objects.filter(message="Hello Ada!").exists()


@pytest.mark.parametrize("content_type", ["text/csv", "text/csv; charset=utf-8"])
def test_the_file_may_be_the_body(client, content_type):
    answer = post_body(client, content_type=content_type)
    assert answer.status_code == 202, answer.json()
    staged_loading.load_next()
    assert Batch.objects.get().loaded == 2


def test_the_body_may_be_ndjson(client):
    lines = b'{"email": "ada@example.com", "first_name": "Ada"}\n{"email": "g@example.com", "first_name": "G"}\n'
    assert post_body(client, lines, "application/x-ndjson").status_code == 202
    staged_loading.load_next()
    assert Batch.objects.get().loaded == 2


def test_the_same_again_is_the_same_batch(client):
    first, second = upload(client), upload(client)
    assert (second.status_code, first.json()["id"]) == (202, second.json()["id"])
    staged_loading.load_next()
    assert upload(client).json()["id"] == first.json()["id"]
    assert Notification.objects.count() == 2


def test_the_same_name_with_another_file_is_a_conflict(client):
    upload(client)
    answer = upload(client, FILE + b"x@example.com,X\n")
    assert (answer.status_code, answer.json()["code"]) == (409, "batch_exists")
    assert "differs in the file" in answer.json()["detail"]


def test_a_test_keys_batch_goes_to_the_sandbox(alice, make_client):
    answer = upload(make_client(alice, kind="test"))
    assert answer.json()["live"] is False
    assert Batch.objects.get().flow.lane == "sandbox"


def test_a_batch_may_wait_for_a_word(client):
    batch = upload(client, start="false").json()
    staged_loading.load_next()
    url = f"{URL}/{batch['id']}"
    assert client.get(url).json()["status"] == "ready"
    answer = client.patch(f"{url}/status", {"status": "running"}, format="json")
    assert (answer.status_code, answer.json()["status"]) == (200, "running")


def test_rate_time_and_category_are_kept(client):
    answer = upload(
        client,
        rate="12.5",
        category="news",
        scheduled_for="2099-01-01T00:00:00Z",
        expires_at="2099-01-02T00:00:00Z",
    )
    batch = answer.json()
    assert (batch["rate"], batch["category"]) == (12.5, "news")
    assert batch["scheduled_for"] == "2099-01-01T00:00:00Z"


# -- What is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"name": None}, "name", "required"),
        ({"channel": "pigeon"}, "channel", "invalid_choice"),
        ({"message": ""}, "message", "blank"),
        ({"message": "{{ first_name"}, "message", "template_syntax"),
        ({"message": "{{ last_name }}"}, "message", "missing_variable"),
        ({"title": "{{ x | nosuch }}"}, "title", "template_syntax"),
        ({"rate": "0"}, "rate", "min_value"),
        ({"rate": "nan"}, "rate", "invalid"),
        ({"failure_limit": "2"}, "failure_limit", "max_value"),
        ({"scheduled_for": "tomorrow"}, "scheduled_for", "invalid"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at", "before_start"),
        ({"encoding": "klingon"}, "file", "unreadable"),
        ({"url": "https://example.com"}, "url", "not_for_channel"),
        ({"channel": "sms", "html": "<p>x</p>"}, "html", "not_for_channel"),
        ({"start": "perhaps"}, "start", "invalid"),
        ({"colour": "red"}, "colour", "unknown_field"),
    ],
)
def test_bad_input_is_named_and_nothing_is_stored(client, fields, field, code):
    answer = upload(client, **fields)
    assert answer.status_code == 400, answer.json()
    assert [(each["field"], each["code"]) for each in answer.json()["errors"]] == [(field, code)]
    assert not Batch.objects.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n", "It is empty."),
        (b"email\n", "It has a header and no rows."),
        (b"PK\x03\x04", "Excel"),
        (b"first name\nAda\n", "no column user_id"),
        ("email,First Name\nada@example.com,Zoë\n".encode("cp1252"), "not UTF-8"),
    ],
)
def test_a_file_of_no_use_is_named_at_once(client, content, words):
    answer = upload(client, content)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "file")
    assert words in answer.json()["errors"][0]["detail"]


def test_bad_rows_are_told_by_line_and_nothing_is_sent(client):
    answer = upload(client, FILE + b"nobody,N\n")
    staged_loading.load_next()
    found = client.get(answer["Location"]).json()
    assert (found["status"], found["reason"]) == (
        "cancelled",
        "1 row of 3 cannot be sent, so none was.",
    )
    assert found["report"]["errors"] == [
        {
            "line": 4,
            "field": "email",
            "code": "invalid_email",
            "detail": "This is not an e-mail address.",
        }
    ]


def test_without_a_file_it_says_so(client):
    answer = client.post(URL, MESSAGE, format="multipart")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "file")


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(client, settings):
    settings.MAX_BATCH_BYTES = 100
    assert upload(client).status_code == 413


def test_json_is_no_file(client):
    answer = client.post(URL, MESSAGE, format="json")
    assert answer.status_code == 415


def test_a_channel_without_a_vendor_is_refused(client, settings):
    settings.SANDBOX = False
    answer = upload(client, channel="sms", message="Hi")
    assert (answer.status_code, answer.json()["code"]) == (400, "channel_not_configured")


@pytest.mark.parametrize("scopes", [["read"], ["manage"]])
def test_sending_needs_its_scope(alice, make_client, scopes):
    assert upload(make_client(alice, scopes=scopes)).status_code == 403


# -- Looking and moving -----------------------------------------------------------------------------------


def test_batches_are_listed_newest_first(client, alice):
    first, second = BatchFactory(project=alice), BatchFactory(project=alice)
    found = client.get(URL).json()["results"]
    assert [each["id"] for each in found] == [str(second.pk), str(first.pk)]
    assert "progress" not in found[0]


def test_pause_resume_and_cancel(client, alice):
    batch = BatchFactory(project=alice)
    row_of(batch, 1)
    url = f"{URL}/{batch.pk}/status"
    for wanted in ("paused", "running", "cancelled"):
        answer = client.patch(url, {"status": wanted}, format="json")
        assert (answer.status_code, answer.json()["status"]) == (200, wanted)
    assert answer.json()["progress"]["cancelled"] == 1
    answer = client.patch(url, {"status": "running"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_status")


def test_the_result_is_a_line_for_each_row(client, alice):
    batch = BatchFactory(project=alice)
    row_of(
        batch,
        2,
        status="failed",
        failure_kind="permanent",
        failure_code="550",
        failure_detail="=no",
    )
    row_of(batch, 1, status="sent", sent_at=timezone.now(), address="ada@example.com")
    answer = client.get(f"{URL}/{batch.pk}/results")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
    header, first, second = b"".join(answer.streaming_content).decode().splitlines()
    assert header.startswith("row_number,user_id,address,status")
    assert first.startswith("1,")
    assert ",ada@example.com,sent," in first
    assert ",failed,550,'=no," in second


def test_the_rows_are_found_by_their_batch(client, alice):
    batch = BatchFactory(project=alice)
    rows = [row_of(batch, number) for number in (1, 2)]
    row_of(BatchFactory(project=alice), 1)
    found = client.get(f"/api/v1/notifications?batch={batch.pk}").json()["results"]
    assert {each["id"] for each in found} == {str(row.pk) for row in rows}
    one = client.get(f"/api/v1/notifications/{rows[0].pk}").json()
    assert (one["batch_id"], one["row_number"]) == (str(batch.pk), 1)


def test_a_batch_of_another_project_is_not_there(client, stranger):
    batch = BatchFactory(project=stranger)
    row_of(batch, 1)
    for answer in (
        client.get(f"{URL}/{batch.pk}"),
        client.get(f"{URL}/{batch.pk}/results"),
        client.patch(f"{URL}/{batch.pk}/status", {"status": "paused"}, format="json"),
    ):
        assert answer.status_code == 404
    assert client.get(f"/api/v1/notifications?batch={batch.pk}").json()["results"] == []
    assert client.get(URL).json()["results"] == []


def test_an_id_that_is_none_is_named(client):
    assert client.get(f"{URL}/7").json()["errors"][0]["field"] == "id"
    assert client.get(f"{URL}/{uuid4()}").status_code == 404
    assert client.get("/api/v1/notifications?batch=7").json()["errors"][0]["field"] == "batch"


def test_the_schema_describes_what_is_answered(client, alice):
    batch = BatchFactory(project=alice)
    schema = client.get("/api/schema", headers={"Accept": "application/json"})
    described = json.loads(schema.content)["components"]["schemas"]["BatchDetail"]["properties"]
    assert set(client.get(f"{URL}/{batch.pk}").json()) == set(described)
