"""A filtered list of the console as CSV: all of it, by right and reach, harmless to a spreadsheet, and logged."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from notifications.admin import export
from notifications.models import Notification
from tests.factories import NotificationFactory, ProjectFactory, RecipientFactory, UserFactory
from users import groups
from users.models import Project, User

EXPORT = "/admin/notifications/notification/export.csv"


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def operator_of(*projects: Project) -> Client:
    user = UserFactory(username="olga")
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    user.projects.add(*projects)
    return client_of(user)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client, query: str = "") -> str:
    response = client.post(f"{EXPORT}?{query}")
    assert response.status_code == 200
    assert response.streaming
    return b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]


def exported(client: Client, query: str = "") -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text_of(client, query), newline="")))


def failed(**fields: Any) -> Notification:
    failure = {"status": "failed", "failure_kind": "permanent", "failure_code": "550"}
    return NotificationFactory(**failure | fields)


def test_the_file_has_a_line_for_each_that_the_filters_mean_newest_first(db: None) -> None:
    older, newer = failed(), failed()
    NotificationFactory()
    lines = exported(operator_of(), "status=failed")
    assert [line["id"] for line in lines] == [str(newer.pk), str(older.pk)]


def test_a_line_says_what_became_of_it(db: None) -> None:
    now = timezone.now()
    first = failed(failure_detail="No such user", provider="smtp", reference="order-7", address="ada@example.com")  # fmt: skip
    second = NotificationFactory(
        resend_of=first, status="delivered", sent_at=now, delivered_at=now, category="bill"
    )
    newer, older = exported(operator_of())
    assert (older["failure_code"], older["failure_detail"]) == ("550", "No such user")
    assert (older["address"], older["provider"], older["reference"]) == ("ada@example.com", "smtp", "order-7")  # fmt: skip
    assert older["project"] == first.project.name
    assert older["resend_of"] == older["sent_at"] == older["batch"] == ""
    assert (newer["resend_of"], newer["category"]) == (str(first.pk), "bill")
    assert newer["delivered_at"] == second.delivered_at.isoformat()


@pytest.mark.parametrize("query", ["", "status=failed", "channel=email&provider=smtp", "q=ada@example.com", "held=1",
                                   "resent=0", "created_from=2020-01-01"])  # fmt: skip
def test_many_are_read_in_chunks_and_none_is_lost_or_told_twice(
    db: None, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    monkeypatch.setattr(export, "CHUNK", 2)
    kind: dict[str, Any] = {"status": "unknown"} if query == "held=1" else {"status": "failed", "failure_kind": "permanent"}  # fmt: skip
    meant = []
    for number in range(7):
        meant.append(NotificationFactory(**kind, provider="smtp", address="ada@example.com"))
        if number % 3 == 0 and query:
            NotificationFactory(status="pending", channel="sms", address="+15005550006")
    if query in {"resent=0", "created_from=2020-01-01"}:
        meant = list(Notification.objects.order_by("id"))
    lines = exported(operator_of(), query)
    assert [line["id"] for line in lines] == [str(each.pk) for each in reversed(meant)]


def test_a_spreadsheet_computes_nothing_of_it(db: None) -> None:
    failed(failure_detail="=HYPERLINK(1)", reference="@SUM(1)", category="-2+3", user_id="\tx", address="+15005550006")  # fmt: skip
    (line,) = exported(operator_of())
    assert (line["failure_detail"], line["reference"]) == ("'=HYPERLINK(1)", "'@SUM(1)")
    assert (line["category"], line["user_id"]) == ("'-2+3", "'\tx")
    assert line["address"] == "+15005550006"


def test_who_is_limited_to_a_project_gets_no_line_of_another(
    alice: Project, stranger: Project
) -> None:
    mine = failed(recipient=RecipientFactory(project=alice))
    theirs = failed(recipient=RecipientFactory(project=stranger))
    client = operator_of(alice)
    assert [line["id"] for line in exported(client)] == [str(mine.pk)]
    assert exported(client, f"project={stranger.pk}") == []
    assert exported(client, f"q={theirs.pk}") == []


def test_who_is_limited_to_two_projects_gets_the_lines_of_both(
    alice: Project, stranger: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CHUNK", 1)
    for project in (alice, ProjectFactory(), stranger):
        failed(recipient=RecipientFactory(project=project))
    names = [line["project"] for line in exported(operator_of(alice, stranger), "status=failed")]
    assert names == [stranger.name, alice.name]


def test_without_the_right_nothing_is_exported_and_no_button_shown(db: None) -> None:
    user = UserFactory()
    user.user_permissions.add(Permission.objects.get(codename="view_notification"))
    client = client_of(user)
    assert client.post(EXPORT).status_code == 403
    assert "export.csv" not in client.get("/admin/notifications/notification/").content.decode()
    assert LogEntry.objects.count() == 0


def test_looking_exports_nothing(db: None) -> None:
    client = operator_of()
    assert client.get(EXPORT).status_code == 405
    assert LogEntry.objects.count() == 0


def test_the_log_says_who_took_what(db: None) -> None:
    text_of(operator_of(), "status=failed&q=ada%40example.com&p=2")
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "olga"
    assert entry.get_change_message() == "Exported as CSV: status=failed, q=ada@example.com"


def test_the_list_leads_to_the_export_of_what_it_shows(db: None) -> None:
    failed()
    shown = operator_of().get("/admin/notifications/notification/?status=failed").content.decode()
    assert f'action="{EXPORT}?status=failed"' in shown


@pytest.mark.parametrize(
    ("query", "named"),
    [("status=lost", "status"), ("batch=7", "batch"), ("created_from=May", "created_from"), ("statu=failed", "statu")],
)  # fmt: skip
def test_a_filter_that_is_wrong_is_named_and_nothing_is_exported(
    db: None, query: str, named: str
) -> None:
    failed()
    response = operator_of().post(f"{EXPORT}?{query}", follow=True)
    assert not response.streaming
    assert "Not exported." in response.content.decode()
    assert named in response.content.decode()
    assert LogEntry.objects.count() == 0


def test_a_file_that_could_not_be_read_to_its_end_does_not_look_complete(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed()
    response = operator_of().post(EXPORT)

    def gone(*args: Any) -> None:
        raise OperationalError("the connection is gone")

    monkeypatch.setattr(export, "_next", gone)
    with pytest.raises(OperationalError):
        b"".join(response.streaming_content)  # type: ignore[attr-defined]
