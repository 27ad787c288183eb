"""Batches in the console: uploading a file, seeing what it would send, starting it, and watching it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications import batches, delivery
from notifications.bulk import staged_loading
from notifications.models import Batch, Flow, Notification
from tests.factories import BatchFactory, SuppressionFactory, UserFactory, row_of
from users import groups
from users.models import Project

LIST = "/admin/notifications/batch/"
ADD = f"{LIST}add/"
NOTIFICATIONS = "/admin/notifications/notification/"
VECTOR = "</pre></title></textarea>\"'><script>alert('xss')</script>"
ROWS = b"email,First Name\nada@example.com,Ada\nbob@example.com,Bob\n"
ACTS = ("start", "schedule", "pause", "resume", "rate", "cancel", "test")


@pytest.fixture(autouse=True)
def _sandbox(settings: Any) -> None:
    settings.SANDBOX = True


def client_of(*permissions: str, **fields: Any) -> Client:
    user, client = UserFactory(**fields), Client()
    user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    user, client = UserFactory(username="olga", email="olga@example.com"), Client()
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    client.force_login(user)
    return client


def page(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, path
    return response.content.decode()


def page_of(batch: Batch) -> str:
    return f"{LIST}{batch.pk}/change/"


def state_of(batch: Batch) -> str:
    return f"{LIST}{batch.pk}/state/"


def results_of(batch: Batch) -> str:
    return f"{LIST}{batch.pk}/results.csv"


def act(batch: Batch, name: str) -> str:
    return f"{LIST}{batch.pk}/{name}/confirm/"


def upload(client: Client, owner: Project, content: bytes = ROWS, **fields: Any) -> HttpResponse:
    data = {
        "project": str(owner.pk),
        "name": "Spring",
        "channel": "email",
        "title": "Hello",
        "message": "Hello {{ first_name }}!",
        "priority": "low",
        "live": "live",
        "file": SimpleUploadedFile("rows.csv", content),
    } | fields
    response: Any = client.post(ADD, data)
    return response


def errors_at(response: Any, field: str) -> str:
    assert response.status_code == 200
    return " ".join(response.context["form"].errors.get(field, []))


def ready(client: Client, project: Project, content: bytes = ROWS, **fields: Any) -> Batch:
    """Uploaded, and loaded by a worker."""
    upload(client, project, content, **fields)
    staged_loading.load_next()
    return Batch.objects.get()


# --- Who may do what -----------------------------------------------------------------------------------------


def test_without_a_permission_every_url_is_closed(db: None, alice: Project) -> None:
    batch, client = BatchFactory(), Client()
    row_of(batch, 1)
    paths = [LIST, ADD, page_of(batch), state_of(batch), results_of(batch)]
    paths += [act(batch, name) for name in ACTS]
    for path in paths:
        page(client, path, 302)
    client.force_login(UserFactory())
    for path in paths:
        page(client, path, 403)
        assert client.post(path, {}).status_code == 403
    assert upload(client, alice).status_code == 403
    assert Batch.objects.get() == batch
    assert f'href="{LIST}"' not in page(client, "/admin/")


def test_looking_is_neither_sending_nor_downloading(db: None, alice: Project) -> None:
    batch, client = BatchFactory(), client_of("view_batch")
    row_of(batch, 1)
    text = page(client, page_of(batch))
    assert "/confirm/" not in text
    assert "results.csv" not in text
    assert ADD not in page(client, LIST)
    for name in ACTS:
        page(client, act(batch, name), 403)
        assert client.post(act(batch, name)).status_code == 403
    page(client, results_of(batch), 403)
    page(client, ADD, 403)
    assert upload(client, alice).status_code == 403
    batch.refresh_from_db()
    assert batch.status == "running"


def test_sending_without_looking_is_nothing(db: None, alice: Project) -> None:
    batch, client = BatchFactory(), client_of("send_batch", "download_batch")
    for path in (ADD, page_of(batch), results_of(batch), act(batch, "cancel")):
        page(client, path, 403)
    assert upload(client, alice).status_code == 403


def test_a_get_changes_nothing_and_a_post_needs_the_token(operator: Client, alice: Project) -> None:
    batch = BatchFactory(report={"examples": []})
    for path in (LIST, ADD, page_of(batch), state_of(batch), *(act(batch, n) for n in ACTS)):
        page(operator, path)
    assert not LogEntry.objects.exists()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.post(act(batch, "cancel")).status_code == 403
    assert upload(strict, alice).status_code == 403
    batch.refresh_from_db()
    assert batch.status == "running"


def test_nothing_can_be_edited_or_deleted(operator: Client) -> None:
    batch = BatchFactory(name="As it was")
    assert operator.post(page_of(batch), {"name": "x"}).status_code == 403
    assert operator.post(f"{LIST}{batch.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Batch.objects.get().name == "As it was"


def test_what_is_not_there_is_not_found(operator: Client) -> None:
    nowhere = UUID(int=1)
    for path in ("state/", "results.csv", "cancel/confirm/"):
        page(operator, f"{LIST}{nowhere}/{path}", 404)
    page(operator, act(BatchFactory(), "explode"), 404)


# --- The list ------------------------------------------------------------------------------------------------


def test_the_list_says_how_far_each_is_and_costs_the_same_for_many(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    BatchFactory(name="Alpha", status="loading", cursor=2000, loaded=1990, rejected=10)
    BatchFactory(name="Beta", status="ready", starts_by_itself=False)
    BatchFactory(name="Gamma", status="paused", reason="30 of its last 100 calls failed")
    for _ in range(10):
        BatchFactory()
    with django_assert_max_num_queries(8):
        text = page(operator, LIST)
    for words in ("2,000", "1,990 stored", "waits for somebody", "30 of its last 100", ADD):
        assert words in text
    assert f'href="{LIST}"' in page(operator, "/admin/")


@pytest.mark.parametrize(
    ("query", "name"), [("status=paused", "Held"), ("channel=sms", "Short"), ("live=0", "Trial")]
)
def test_filters_narrow_the_list(operator: Client, query: str, name: str) -> None:
    BatchFactory(name="Held", status="paused")
    BatchFactory(name="Short", channel="sms")
    BatchFactory(name="Trial", live=False)
    shown = set(re.findall(rf"{LIST}([0-9a-f-]{{36}})/change/", page(operator, f"{LIST}?{query}")))
    assert shown == {str(Batch.objects.get(name=name).pk)}


def test_the_list_of_a_project_has_its_own(operator: Client) -> None:
    mine, _ = BatchFactory(), BatchFactory()
    text = page(operator, f"{LIST}?project={mine.project_id}")
    assert set(re.findall(rf"{LIST}([0-9a-f-]{{36}})/change/", text)) == {str(mine.pk)}


# --- Uploading -----------------------------------------------------------------------------------------------


def test_an_upload_waits_for_a_word_and_has_sent_nothing(operator: Client, alice: Project) -> None:
    response = upload(operator, alice, rate="5", skip_invalid="on")
    batch = Batch.objects.get()
    assert response["Location"] == page_of(batch)
    assert (batch.status, batch.starts_by_itself, batch.skip_invalid) == ("loading", False, True)
    assert (batch.flow.rate, batch.live, batch.file_name) == (5, True, "rows.csv")
    assert batch.created_by is not None
    assert LogEntry.objects.get().action_flag == ADDITION
    staged_loading.load_next()
    batches.tend()
    batch.refresh_from_db()
    assert (batch.status, batch.loaded) == ("ready", 2)
    assert set(Notification.objects.values_list("status", flat=True)) == {"pending"}
    assert Flow.objects.get(batch=batch).paused


def test_an_upload_with_a_time_starts_by_itself_then(operator: Client, alice: Project) -> None:
    moment = (timezone.now() + timedelta(days=1)).replace(second=0, microsecond=0)
    batch = ready(operator, alice, scheduled_for=f"{moment:%Y-%m-%dT%H:%M}")
    assert (batch.starts_by_itself, batch.scheduled_for, batch.status) == (True, moment, "ready")
    assert act(batch, "schedule") not in page(operator, page_of(batch))


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"message": "{% if %}"}, "message", ""),
        ({"message": "{{ x | explode }}"}, "message", "no filter"),
        ({"title": "{{ last_name }}"}, "title", "last_name"),
        ({"content": b""}, "file", ""),
        ({"content": b"PK\x03\x04rest"}, "file", "Excel"),
        ({"content": b"name\nAda\n"}, "file", "user_id"),
        ({"encoding": "klingon"}, "file", "klingon"),
        ({"channel": "sms", "html": "<b>x</b>"}, "html", "Only an e-mail"),
        ({"url": "https://example.com"}, "url", "in-app"),
        ({"rate": "0"}, "rate", ""),
        ({"rate": "nan"}, "rate", ""),
        ({"name": "two\nlines"}, "name", ""),
        ({"priority": "urgent"}, "priority", ""),
        ({"project": "0"}, "project", ""),
        ({"message": ""}, "message", ""),
        ({"scheduled_for": "tomorrow"}, "scheduled_for", ""),
    ],
)
def test_wrong_input_is_told_at_its_field(
    operator: Client, alice: Project, fields: dict[str, Any], field: str, words: str
) -> None:
    told = errors_at(upload(operator, alice, **fields), field)
    assert told
    assert words in told
    assert not Batch.objects.exists()


def test_another_batch_of_the_same_name_is_told_at_the_name(
    operator: Client, alice: Project
) -> None:
    upload(operator, alice)
    told = errors_at(upload(operator, alice, message="Another {{ first_name }}"), "name")
    assert "it differs in the message" in told
    upload(operator, alice)
    assert Batch.objects.count() == 1


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(
    operator: Client, alice: Project, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.MAX_BATCH_BYTES = 20
    assert "more than 20" in errors_at(upload(operator, alice), "file")
    monkeypatch.setattr("notifications.admin.batch.AROUND_THE_FILE", 0)
    response = upload(operator, alice)
    assert response.status_code == 413
    assert "more than 20" in response.content.decode()
    assert not Batch.objects.exists()


def test_the_same_upload_again_leads_to_the_batch_that_is_there(
    operator: Client, alice: Project
) -> None:
    batch = ready(operator, alice)
    again = upload(operator, alice)
    assert again["Location"] == page_of(batch)
    assert "there already" in page(operator, page_of(batch))
    assert LogEntry.objects.count() == 1
    assert batches.progress(batch).total == 2


# --- One batch -----------------------------------------------------------------------------------------------


def test_a_ready_batch_shows_three_examples_counts_and_what_was_left_out(
    operator: Client, alice: Project
) -> None:
    SuppressionFactory(project=alice, address="bob@example.com")
    content = ROWS + b"cy@example.com,Cy\ndi@example.com,Di\nnowhere,Ed\n"
    batch = ready(operator, alice, content, skip_invalid="on", html="<p>Dear {{ first_name }}</p>")
    text = page(operator, page_of(batch))
    for words in ("Hello Ada!", "Hello Bob!", "Hello Cy!", "to ada@example.com", "Dear Ada"):
        assert words in text
    assert "Hello Di!" not in text
    assert text.count("<iframe") == text.count('sandbox=""') == 3
    assert "<td>6</td><td>email</td>" in text
    assert re.search(r"Suppressed</dt><dd>1,", text)
    assert re.search(r"Cannot be sent</dt><dd>1, left out", text)
    for name in ("start", "schedule", "test", "cancel"):
        assert act(batch, name) in text
    assert act(batch, "pause") not in text


def test_sms_segments_are_counted(operator: Client, alice: Project) -> None:
    rows = b"phone,name\n+15005550006,Ada\n"
    batch = ready(operator, alice, rows, channel="sms", title="", message="{{ name }}" + "x" * 200)
    assert "SMS segments</dt><dd>2<" in page(operator, page_of(batch))


def test_a_refused_batch_says_why_and_shows_all_errors(operator: Client, alice: Project) -> None:
    batch = ready(operator, alice, ROWS + b"nowhere,Ed\n")
    text = page(operator, page_of(batch))
    assert "1 row of 3 cannot be sent, so none was" in text
    assert "<td>4</td><td>email</td>" in text
    assert "/confirm/" not in text
    assert "data-state" not in text
    assert operator.get(state_of(batch)).json()["finished"] is True


def test_more_errors_than_are_kept_are_counted_by_reason(operator: Client) -> None:
    report = {
        "rows": 5000,
        "valid": 0,
        "invalid": 5000,
        "suppressed": 0,
        "segments": 0,
        "new_recipients": 0,
        "codes": {"duplicate": 5000},
        "errors": [{"line": 2, "field": "email", "code": "duplicate", "detail": "Twice."}],
        "examples": [],
    }
    text = page(operator, page_of(BatchFactory(status="cancelled", reason="x", report=report)))
    assert "5,000 duplicate" in text


def test_a_running_batch_shows_what_is_done_and_failed_by_reason(operator: Client) -> None:
    batch = BatchFactory(loaded=5)
    for number, (status, code) in enumerate(
        [("sent", ""), ("delivered", ""), ("failed", "bad"), ("failed", "bad"), ("pending", "")]
    ):
        row_of(
            batch,
            number,
            status=status,
            sent_at=None if status == "pending" else timezone.now(),
            failure_code=code,
            failure_kind=code and "permanent",
        )
    text = page(operator, page_of(batch))
    assert "<b>4</b> of 5 done" in text
    assert "<code>bad</code></td><td>2<" in text
    failed = f"{NOTIFICATIONS}?batch={batch.pk}&amp;project={batch.project_id}&amp;status=failed"
    assert failed in text
    assert act(batch, "pause") in text
    assert act(batch, "start") not in text


def test_the_state_is_sent_again_only_when_it_has_changed(operator: Client) -> None:
    batch = BatchFactory(loaded=1)
    row = row_of(batch, 1)
    first = operator.get(state_of(batch))
    assert first.json()["status"] == "running"
    again = {"HTTP_IF_NONE_MATCH": first["ETag"]}
    assert operator.get(state_of(batch), **again).status_code == 304
    Notification.objects.filter(pk=row.pk).update(status="sent", sent_at=timezone.now())
    changed = operator.get(state_of(batch), **again)
    assert "<b>1</b> of 1 done" in changed.json()["html"]


def test_a_check_under_way_says_how_many_rows_it_has_read(operator: Client) -> None:
    batch = BatchFactory(status="loading", report={"checked": 4000})
    assert "4,000 rows so far" in page(operator, page_of(batch))
    batch.report, batch.cursor = {"rows": 8000, "valid": 8000}, 2000
    batch.save()
    assert "2,000 of 8,000 rows, 25.0 %" in page(operator, page_of(batch))


# --- Acts ----------------------------------------------------------------------------------------------------


def test_a_batch_is_started_and_completes(operator: Client, alice: Project) -> None:
    batch = ready(operator, alice, live="test")
    assert "2 messages</b>" in page(operator, act(batch, "start"))
    operator.post(act(batch, "start"))
    # Inside a test's transaction the database's now() stands still.
    Notification.objects.update(due_at=timezone.now() - timedelta(minutes=1))
    delivery.drain("sandbox")
    batches.tend()
    batch.refresh_from_db()
    assert batch.status == "completed"
    assert "Started." in LogEntry.objects.first().change_message
    text = page(operator, page_of(batch))
    assert "<b>2</b> of 2 done" in text
    assert "data-state" not in text


@pytest.mark.parametrize(
    ("before", "name", "after"),
    [
        ("running", "pause", "paused"),
        ("ready", "pause", "paused"),
        ("paused", "resume", "running"),
        ("ready", "cancel", "cancelled"),
        ("running", "cancel", "cancelled"),
    ],
)
def test_an_act_moves_the_batch_and_is_logged(
    operator: Client, before: str, name: str, after: str
) -> None:
    batch = BatchFactory(status=before)
    page(operator, act(batch, name))
    assert operator.post(act(batch, name))["Location"] == page_of(batch)
    batch.refresh_from_db()
    assert batch.status == after
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.action_flag) == (str(batch.pk), CHANGE)


def test_what_the_state_does_not_allow_is_told_and_not_logged(operator: Client) -> None:
    batch = BatchFactory(status="completed", finished_at=timezone.now())
    for name in ("start", "pause", "resume", "cancel"):
        assert "There is nothing to do" in page(operator, act(batch, name))
        text = operator.post(act(batch, name), follow=True).content.decode()
        assert "This batch is completed" in text
    assert not LogEntry.objects.exists()


def test_a_ready_batch_can_be_given_a_time_and_still_be_sent_now(
    operator: Client, alice: Project
) -> None:
    batch = ready(operator, alice)
    moment = (timezone.now() + timedelta(hours=3)).replace(second=0, microsecond=0)
    operator.post(act(batch, "schedule"), {"at": f"{moment:%Y-%m-%dT%H:%M}"})
    batch.refresh_from_db()
    assert (batch.status, batch.scheduled_for) == ("ready", moment)
    assert f"starts at {moment:%-d %b %Y, %H:%M}" in page(operator, page_of(batch))
    operator.post(act(batch, "start"))
    batch.refresh_from_db()
    assert batch.status == "running"


@pytest.mark.parametrize("at", ["2020-01-01T10:00", "soon", ""])
def test_a_time_that_is_past_or_none_is_told_at_its_field(
    operator: Client, alice: Project, at: str
) -> None:
    batch = ready(operator, alice)
    assert errors_at(operator.post(act(batch, "schedule"), {"at": at}), "at")
    batch.refresh_from_db()
    assert batch.scheduled_for is None


def test_the_rate_is_changed_and_taken_away(operator: Client) -> None:
    batch = BatchFactory()
    operator.post(act(batch, "rate"), {"rate": "12.5"})
    assert Flow.objects.get(batch=batch).rate == 12.5
    assert 'value="12.5"' in page(operator, act(batch, "rate"))
    assert errors_at(operator.post(act(batch, "rate"), {"rate": "-1"}), "rate")
    assert errors_at(operator.post(act(batch, "rate"), {"rate": "nan"}), "rate")
    operator.post(act(batch, "rate"), {"rate": ""})
    assert Flow.objects.get(batch=batch).rate is None


def test_a_test_goes_to_oneself_and_is_no_row(operator: Client, alice: Project) -> None:
    batch = ready(operator, alice)
    assert "olga@example.com" in page(operator, act(batch, "test"))
    operator.post(act(batch, "test"), {"recipient": "somebody@example.com"})
    sent = Notification.objects.get(row_number=None)
    assert (sent.address, sent.message) == ("olga@example.com", "Hello Ada!")
    assert (sent.reference, sent.priority) == ("[Test] Spring", "normal")
    assert sent.flow.batch is None
    batch.refresh_from_db()
    assert (batch.status, batches.progress(batch).total) == ("ready", 2)


def test_a_test_by_sms_goes_to_the_number_typed_in(operator: Client, alice: Project) -> None:
    rows = b"phone,name\n+15005550006,Ada\n"
    batch = ready(operator, alice, rows, channel="sms", title="", message="Hi {{ name }}")
    answer = operator.post(act(batch, "test"), {"recipient": "no number"})
    assert errors_at(answer, "recipient")
    operator.post(act(batch, "test"), {"recipient": "+1 500 555 0009"})
    assert Notification.objects.get(row_number=None).address == "+15005550009"


def test_who_has_no_address_is_told_so(db: None, alice: Project) -> None:
    client = client_of("view_batch", "send_batch", email="")
    batch = ready(client, alice)
    assert "has no e-mail address" in page(client, act(batch, "test"))
    client.post(act(batch, "test"))
    assert not Notification.objects.filter(row_number=None).exists()


# --- Its rows ------------------------------------------------------------------------------------------------


def test_who_got_it_is_downloaded_and_the_download_logged(operator: Client, alice: Project) -> None:
    batch = ready(operator, alice)
    response: Any = operator.get(results_of(batch))
    assert response.streaming
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert lines[1].split(",")[:1] == ["1"]
    assert "ada@example.com" in lines[1]
    assert "Downloaded" in LogEntry.objects.first().change_message


def test_the_notifications_of_a_batch_are_listed_by_themselves(operator: Client) -> None:
    batch = BatchFactory(name="Spring")
    first, second = row_of(batch, 1, status="failed", failure_kind="permanent"), row_of(batch, 2)
    row_of(BatchFactory(), 1)

    def shown(query: str) -> list[str]:
        text = page(operator, f"{NOTIFICATIONS}?{query}")
        return list(dict.fromkeys(re.findall(rf"{NOTIFICATIONS}([0-9a-f-]{{36}})/change/", text)))

    of_batch = f"batch={batch.pk}"
    assert shown(of_batch) == [str(second.pk), str(first.pk)]
    assert shown(f"{of_batch}&status=failed") == [str(first.pk)]
    assert shown(f"{of_batch}&project={batch.project_id}&status=failed") == [str(first.pk)]
    assert shown("batch=nonsense") == shown(f"batch={UUID(int=1)}") == []


def test_a_notification_names_its_batch_and_why_it_waits(operator: Client) -> None:
    batch = BatchFactory(name="Spring", status="paused")
    text = page(operator, f"{NOTIFICATIONS}{row_of(batch, 17).pk}/change/")
    assert f'href="{page_of(batch)}">Spring</a>, row 17' in text
    assert "It waits: its batch &#x27;Spring&#x27; is paused." in text


def test_the_flow_of_a_batch_has_its_name_and_is_paused_with_the_batch_only(db: None) -> None:
    client, batch = client_of("view_flow", "change_flow"), BatchFactory(name="Spring")
    flows = "/admin/notifications/flow/"
    assert "Spring" in page(client, flows)
    client.post(f"{flows}{batch.flow.pk}/change/", {"paused": "on"})
    assert not Flow.objects.get(batch=batch).paused


# --- Hostile content -----------------------------------------------------------------------------------------


def test_hostile_names_templates_rows_and_errors_are_shown_as_text(
    operator: Client, alice: Project
) -> None:
    rows = f'email,x\nada@example.com,"{VECTOR.replace(chr(34), chr(34) * 2)}"\n{VECTOR}@,y\n'
    batch = ready(
        operator,
        alice,
        rows.encode(),
        name=VECTOR,
        title=VECTOR,
        message=VECTOR + "{{ x }}",
        html="{{ x }}" + VECTOR,
        category=VECTOR,
        skip_invalid="on",
    )
    assert batch.status == "ready"
    assert batch.report["errors"]
    Batch.objects.update(reason=VECTOR, file_name=VECTOR)
    row = Notification.objects.filter(row_number=1).get()
    Notification.objects.update(
        failure_code="<script>alert", failure_kind="permanent", status="failed"
    )
    paths = [
        LIST,
        page_of(batch),
        f"{NOTIFICATIONS}{row.pk}/change/",
        f"{NOTIFICATIONS}?batch={batch.pk}",
    ]
    paths += [act(batch, name) for name in ACTS]
    for status in ("ready", "paused", "cancelled"):
        Batch.objects.update(status=status)
        for path in paths:
            assert "<script>alert" not in page(operator, path), path
        assert "<script>alert" not in operator.get(state_of(batch)).json()["html"]
    failed = upload(operator, alice, name=VECTOR, message="{{" + VECTOR)
    assert "<script>alert" not in failed.content.decode()
