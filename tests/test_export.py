"""The list of notifications as a CSV file."""

from __future__ import annotations

import csv
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from notifications import exporting
from tests.factories import NotificationFactory, ProjectFactory, RecipientFactory, UserFactory
from users.models import Project, User

pytestmark = pytest.mark.django_db
URL = "/admin/notifications/notification/export/"


@pytest.fixture
def olga(db: None) -> User:
    user: User = UserFactory(username="olga")
    user.groups.add(Group.objects.get(name="operator"))
    return user


@pytest.fixture
def operator(olga: User) -> Client:
    client = Client()
    client.force_login(olga)
    return client


def exported(client: Client, **query: str) -> list[dict[str, str]]:
    response: Any = client.post(f"{URL}?{urlencode(query)}")
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in response["Content-Disposition"]
    return list(csv.DictReader(response.getvalue().decode().splitlines()))


def test_a_line_has_what_the_ledger_knows(operator: Client) -> None:
    failed = NotificationFactory(
        status="failed",
        failure_kind="permanent",
        failure_code="550",
        failure_detail="No such user",
        provider="smtp",
        reference="order 7",
    )
    (line,) = exported(operator)
    assert list(line) == list(exporting.COLUMNS)
    assert line["id"] == str(failed.pk)
    assert line["project"] == failed.project.name
    assert line["address"] == failed.address
    assert (line["status"], line["failure_code"]) == ("failed", "550")
    assert line["created_at"] == failed.created_at.isoformat()
    assert line["sent_at"] == ""
    assert failed.message not in line.values()


def test_all_that_the_filters_mean_is_in_it_newest_first(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 3)
    meant = [NotificationFactory(status="failed", failure_kind="permanent") for _ in range(10)]
    NotificationFactory()
    lines = exported(operator, status="failed", before=str(meant[5].pk))
    assert [line["id"] for line in lines] == [str(each.pk) for each in reversed(meant)]


def test_each_query_looks_at_one_chunk_also_where_few_match(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 4)
    first = NotificationFactory(category="bill")
    NotificationFactory.create_batch(9)
    with CaptureQueriesContext(connection) as queries:
        lines = exported(operator, category="bill")
    assert [line["id"] for line in lines] == [str(first.pk)]
    asked = [q["sql"] for q in queries if 'FROM "notifications_notification"' in q["sql"]]
    where_it_begins, read = asked[::2], asked[1::2]
    assert len(read) == 3
    assert all(sql.endswith("LIMIT 1 OFFSET 3") for sql in where_it_begins)
    assert all('"id" >= ' in sql and '"id" < ' in sql for sql in read)


@pytest.mark.parametrize(
    "query",
    [{}, {"channel": "email", "provider": "smtp"}, {"q": "ada@example.com"}, {"resent": "0"},
     {"created_from": "2020-01-01"}, {"failure_code": "550"}, {"held": "1"}],
    ids=str,
)  # fmt: skip
def test_no_line_is_lost_or_told_twice_between_chunks(
    operator: Client, monkeypatch: pytest.MonkeyPatch, query: dict[str, str]
) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 2)
    meant = []
    for number in range(7):
        like = NotificationFactory(
            provider="smtp", address="ada@example.com", failure_code="550", status="unknown"
        )
        meant.append(like)
        if number % 3 == 0 and query and not {"resent", "created_from"} & query.keys():
            NotificationFactory(channel="sms", address="+15005550006")
    lines = exported(operator, **query)
    assert [line["id"] for line in lines] == [str(each.pk) for each in reversed(meant)]


def test_who_sees_two_projects_gets_the_lines_of_both(
    operator: Client,
    olga: User,
    alice: Project,
    stranger: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 1)
    for project in (alice, ProjectFactory(), stranger):
        NotificationFactory(recipient=RecipientFactory(project=project))
    olga.projects.add(alice, stranger)
    assert [line["project"] for line in exported(operator)] == [stranger.name, alice.name]


def test_what_a_spreadsheet_would_compute_is_defused(operator: Client) -> None:
    NotificationFactory(
        status="failed",
        failure_kind="permanent",
        failure_detail="=HYPERLINK(1)",
        reference="@x",
        address="+15005550006",
    )
    (line,) = exported(operator)
    assert line["failure_detail"] == "'=HYPERLINK(1)"
    assert line["reference"] == "'@x"
    assert line["address"] == "+15005550006"


def test_who_took_what_is_logged(operator: Client, olga: User) -> None:
    NotificationFactory()
    exported(operator, status="pending", channel="email")
    entry = LogEntry.objects.get()
    assert entry.user == olga
    assert entry.get_change_message() == "Exported as CSV: status=pending, channel=email"


def test_looking_at_the_address_takes_nothing(operator: Client) -> None:
    assert operator.get(URL).status_code == 405
    assert not LogEntry.objects.exists()


def test_without_the_right_nothing_is_taken(operator: Client) -> None:
    Group.objects.get(name="operator").permissions.filter(codename="export_notification").delete()
    assert operator.post(URL).status_code == 403
    assert (
        "Export as CSV" not in operator.get("/admin/notifications/notification/").content.decode()
    )


def test_other_projects_stay_out_of_it(
    operator: Client, olga: User, alice: Project, stranger: Project
) -> None:
    own = NotificationFactory(recipient=RecipientFactory(project=alice))
    NotificationFactory(recipient=RecipientFactory(project=stranger))
    olga.projects.add(alice)
    assert [line["id"] for line in exported(operator)] == [str(own.pk)]
    assert exported(operator, project=str(stranger.pk)) == []


@pytest.mark.parametrize("query", ["status=lost", "colour=red", "created_from=yesterday"])
def test_a_filter_that_means_nothing_takes_nothing(operator: Client, query: str) -> None:
    response = operator.post(f"{URL}?{query}", follow=True)
    assert query.partition("=")[0] in response.content.decode()
    assert response["Content-Type"].startswith("text/html")
    assert not LogEntry.objects.exists()


def test_a_search_is_exported_too(operator: Client) -> None:
    found = NotificationFactory(reference="order-7")
    NotificationFactory(reference="order-8")
    assert [line["id"] for line in exported(operator, q="order-7")] == [str(found.pk)]


def test_a_database_that_goes_away_breaks_the_file_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 1)
    NotificationFactory.create_batch(2)
    lines = exporting.lines({}, None)
    next(lines), next(lines)
    monkeypatch.setattr(exporting, "_chunk", _fail)
    with pytest.raises(ConnectionError):
        next(lines)


def _fail(rows: Any) -> Any:
    raise ConnectionError
