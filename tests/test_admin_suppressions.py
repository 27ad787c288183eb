"""Suppressed addresses in the console: finding one, why it is there, putting one on the list, taking one off."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from notifications import suppressions
from notifications.admin import listing, suppression
from notifications.models import Suppression
from tests.factories import (
    NotificationFactory,
    SuppressionFactory,
    UserFactory,
)
from tests.test_admin_receipts import AppliedFactory
from users import console, groups
from users.models import Project

LIST = "/admin/notifications/suppression/"
VECTOR = "</pre></title>\"'><script>alert('xss')</script>"


def client_of(group: str) -> Client:
    user = UserFactory(username=f"an {group}")
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return client_of(groups.OPERATOR)


@pytest.fixture
def administrator(db: None) -> Client:
    return client_of(groups.ADMINISTRATOR)


def page(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, path
    return response.content.decode()


def page_of(listed: Suppression) -> str:
    return f"{LIST}{listed.pk}/change/"


def take_off(listed: Suppression) -> str:
    return f"{LIST}{listed.pk}/delete/"


def rows(text: str) -> set[UUID]:
    """The entries that a list shows."""
    return {UUID(id) for id in re.findall(rf"{LIST}([0-9a-f-]{{36}})/change/", text)}


def put_on(client: Client, project: Project, **fields: str) -> str:
    """Fill in the form and save it; the text of the page one comes to."""
    given = {"channel": "email", "address": "ada@example.com", "reason": "manual", "detail": ""}
    data = {"project": str(project.pk)} | given | fields
    response = client.post(f"{LIST}add/", data, follow=True)
    assert response.status_code == 200
    return response.content.decode()


# --- Who may do what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [groups.OPERATOR, groups.ADMINISTRATOR])
def test_staff_look_put_on_and_take_off_and_change_nothing(
    db: None, alice: Project, group: str
) -> None:
    client, listed = client_of(group), SuppressionFactory()
    assert f'href="{LIST}"' in page(client, "/admin/")
    assert rows(page(client, LIST)) == {listed.pk}
    assert take_off(listed) in page(client, page_of(listed))
    page(client, f"{LIST}add/")
    page(client, take_off(listed))
    assert client.post(page_of(listed), {"reason": "manual"}).status_code == 403
    assert "delete_selected" not in page(client, LIST)
    put_on(client, alice)
    client.post(take_off(listed), {"post": "yes"})
    assert [left.address for left in Suppression.objects.all()] == ["ada@example.com"]


def test_others_see_and_change_nothing(db: None, alice: Project) -> None:
    listed, client = SuppressionFactory(), Client()
    assert client.get(LIST).status_code == 302
    client.force_login(UserFactory())
    for path in (LIST, page_of(listed), f"{LIST}add/", take_off(listed)):
        page(client, path, 403)
    assert client.post(f"{LIST}add/", {"project": alice.pk}).status_code == 403
    assert client.post(take_off(listed), {"post": "yes"}).status_code == 403
    assert Suppression.objects.get() == listed
    assert f'href="{LIST}"' not in page(client, "/admin/")


def test_the_permission_to_look_is_none_to_put_on_or_take_off(db: None) -> None:
    user, listed, client = UserFactory(), SuppressionFactory(), Client()
    user.user_permissions.add(Permission.objects.get(codename="view_suppression"))
    client.force_login(user)
    assert "/delete/" not in page(client, page_of(listed))
    page(client, f"{LIST}add/", 403)
    assert client.post(take_off(listed), {"post": "yes"}).status_code == 403
    assert Suppression.objects.exists()


def test_looking_changes_nothing_and_an_act_needs_the_csrf_token(operator: Client) -> None:
    listed = SuppressionFactory()
    for path in (LIST, page_of(listed), f"{LIST}add/", take_off(listed)):
        page(operator, path)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert strict.post(take_off(listed), {"post": "yes"}).status_code == 403
    assert strict.post(f"{LIST}add/", {}).status_code == 403
    assert Suppression.objects.get() == listed
    assert not LogEntry.objects.exists()


# --- The list ------------------------------------------------------------------------------------------------


def test_the_newest_stand_first_each_with_its_reason_and_source(operator: Client) -> None:
    older = SuppressionFactory(
        reason="stop", source="receipt", channel="sms", address="+15005550008"
    )
    newer = SuppressionFactory(reason="complaint", source="import")
    text = page(operator, LIST)
    assert re.findall(rf'{LIST}([0-9a-f-]{{36}})/change/"', text) == [str(newer.pk), str(older.pk)]
    for words in ("+15005550008", ">STOP<", ">Complaint<", "A receipt", "An import"):
        assert words in text


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("channel=sms", "channel", "sms"),
        ("reason=stop", "reason", "stop"),
        ("source=receipt", "source", "receipt"),
        ("reason=stop&source=receipt&channel=sms", "reason", "stop"),
    ],
)
def test_filters_narrow_the_list(operator: Client, query: str, field: str, value: str) -> None:
    SuppressionFactory(channel="sms", address="+15005550008", reason="stop", source="receipt")
    SuppressionFactory(source="api")
    shown = Suppression.objects.filter(pk__in=rows(page(operator, f"{LIST}?{query}")))
    assert [getattr(listed, field) for listed in shown] == [value]


def test_the_list_of_a_project_has_its_own(operator: Client, alice: Project) -> None:
    mine = SuppressionFactory(project=alice, reason="manual")
    SuppressionFactory(project=alice)
    SuppressionFactory(reason="manual")
    assert rows(page(operator, f"{LIST}?project={alice.pk}&reason=manual")) == {mine.pk}


@pytest.mark.parametrize(
    "query", ["channel=in_app", "reason=x", "project=x", "q=%00", "p=x", "o=1"]
)
def test_a_nonsensical_query_is_no_fault(operator: Client, query: str) -> None:
    SuppressionFactory()
    assert operator.get(f"{LIST}?{query}").status_code in {200, 302}


@pytest.mark.parametrize(
    ("term", "fields"),
    [
        ("ada@example.com", {"address": "ada@example.com"}),
        ("  ADA@Example.COM ", {"address": "ada@example.com"}),
        ("+1 500 555 0006", {"address": "+15005550006", "channel": "sms"}),
        ("(500) 555-0006", {"address": "+15005550006", "channel": "sms"}),
    ],
)
def test_the_search_finds_an_address_of_any_project_in_any_spelling(
    operator: Client, term: str, fields: dict[str, str]
) -> None:
    wanted = [SuppressionFactory(**fields) for _ in range(2)]
    SuppressionFactory()
    response = operator.get(LIST, {"q": term})
    assert rows(response.content.decode()) == {listed.pk for listed in wanted}


def test_what_is_no_address_is_not_found(operator: Client) -> None:
    SuppressionFactory()
    assert not rows(page(operator, f"{LIST}?q=gone"))


def test_the_list_asks_few_queries_counts_to_a_bound_and_fetches_no_long_texts(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(12):
        SuppressionFactory(detail="word " * 1000)
    with django_assert_max_num_queries(9) as asked:
        assert len(rows(page(operator, f"{LIST}?_facets=True"))) == 12
    ours = [query["sql"] for query in asked.captured_queries]
    counts = [sql for sql in ours if "COUNT(" in sql and "notifications_suppression" in sql]
    assert all(f"LIMIT {console.MOST_COUNTED + 1}" in sql for sql in counts)
    assert counts
    assert not any('"detail"' in sql for sql in ours)


def test_a_filter_without_an_index_says_how_far_it_looked(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = SuppressionFactory(reason="stop")
    for _ in range(3):
        SuppressionFactory()
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 3)
    text = page(operator, f"{LIST}?reason=stop")
    assert old.pk not in rows(text)
    assert "Only the newest 3 were looked through" in text


@pytest.fixture
def many(alice: Project) -> None:
    """5,000 addresses, and statistics that say so."""
    Suppression.objects.bulk_create(SuppressionFactory.build_batch(5000, project=alice))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_suppression")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "notifications_suppression_pkey"),
        ("?reason=stop", "notifications_suppression_pkey"),
        ("?project={project}", "suppression_project"),
        ("?q={address}", "notifications_suppression_pkey"),
    ],
)
def test_the_list_reads_through_an_index(
    many: None,
    operator: Client,
    alice: Project,
    monkeypatch: pytest.MonkeyPatch,
    query: str,
    index: str,
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 500)
    address = Suppression.objects.values_list("address", flat=True)[0]
    path = LIST + query.format(project=alice.pk, address=address)
    plan = operator.get(path).context["cl"].queryset[:50].explain()
    assert index in plan
    assert "Seq Scan on notifications_suppression" not in plan


@pytest.mark.parametrize("term", ["Gone7@Example.com", "+15005550006"])
def test_the_search_goes_through_the_index_of_addresses(many: None, term: str) -> None:
    plan = suppression.found(term)[: console.MOST_COUNTED].explain()
    assert "suppression_address" in plan
    assert "Seq Scan" not in plan


# --- One of them ---------------------------------------------------------------------------------------------


def test_the_page_tells_why_with_the_receipts_words_and_the_notification(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    told = AppliedFactory(
        event="bounced", detail="550 5.1.1 no such user", notification__title="Your order"
    )
    listed = SuppressionFactory(
        project=told.notification.project,
        source="receipt",
        receipt=told,
        notification=told.notification,
    )
    with django_assert_max_num_queries(8):
        shown = page(operator, page_of(listed))
    for words in (
        listed.address,
        "Hard bounce: there is no such mailbox or phone",
        "mailgun: bounced",
        f"/admin/notifications/receipt/{told.pk}/change/",
        "<blockquote>550 5.1.1 no such user</blockquote>",
        f"/admin/notifications/notification/{told.notification_id}/change/",
        "Your order",
    ):
        assert words in shown


def test_the_page_tells_what_still_goes_out(operator: Client, alice: Project) -> None:
    complaint = SuppressionFactory(project=alice, reason="complaint", source="import")
    absolute = SuppressionFactory(project=alice, reason="hard_bounce", source="api")
    assert "has named no mandatory categories" in page(operator, page_of(complaint))
    assert "mandatory" not in page(operator, page_of(absolute))
    Project.objects.update(mandatory_categories=["receipts", "security"])
    shown = page(operator, page_of(complaint))
    assert "but its mandatory categories: receipts, security." in shown
    assert "not even its mandatory categories: receipts" in page(operator, page_of(absolute))
    assert "somebody put it on the list" in shown
    Suppression.objects.update(source="receipt")
    assert "What it came of is gone by now." in page(operator, page_of(complaint))


def test_an_unknown_id_leads_back_and_a_wrong_one_is_no_fault(operator: Client) -> None:
    for id in (str(uuid7()), "no-uuid"):
        for name in ("change", "delete"):
            assert operator.get(f"{LIST}{id}/{name}/").status_code == 302


def test_text_of_others_is_shown_and_never_obeyed(operator: Client, alice: Project) -> None:
    Project.objects.update(name=VECTOR, mandatory_categories=[VECTOR])
    told = AppliedFactory(provider=VECTOR[:50], detail=VECTOR, notification__title=VECTOR)
    listed = SuppressionFactory(
        project=alice,
        address=VECTOR,
        detail=f"our own: {VECTOR}",
        reason="complaint",
        receipt=told,
        notification=told.notification,
    )
    assert "our own: &lt;/pre&gt;" in page(operator, page_of(listed))
    for path in (LIST, page_of(listed), take_off(listed)):
        shown = page(operator, path)
        assert "<script>alert(" not in shown
        assert "&lt;script&gt;alert(" in shown
    response = operator.post(take_off(listed), {"post": "yes"}, follow=True)
    assert "<script>alert(" not in response.content.decode()


# --- Putting one on ------------------------------------------------------------------------------------------


def test_an_operator_puts_an_address_on_the_list_and_the_log_says_who(
    operator: Client, alice: Project
) -> None:
    text = put_on(
        operator, alice, address=" Ada@Example.com ", reason="complaint", detail="by phone"
    )
    listed = Suppression.objects.get()
    assert rows(text) == {listed.pk}
    assert (listed.project, listed.channel, listed.address) == (alice, "email", "ada@example.com")
    assert (listed.reason, listed.source, listed.detail) == ("complaint", "console", "by phone")
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.action_flag) == ("an operator", ADDITION)
    assert entry.object_id == str(listed.pk)


def test_a_phone_is_taken_in_any_spelling(operator: Client, alice: Project) -> None:
    put_on(operator, alice, channel="sms", address="(500) 555-0006")
    assert Suppression.objects.get().address == "+15005550006"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"address": "nobody"}, "This is not an e-mail address."),
        ({"channel": "sms", "address": "12"}, "This cannot be a phone number."),
        ({"address": ""}, "This field is required."),
        ({"address": f"{'x' * 400}@example.com"}, "at most 320 characters"),
        ({"address": "\x00@example.com"}, "Null characters are not allowed."),
        ({"channel": "in_app"}, "Select a valid choice."),
        ({"reason": "nonsense"}, "Select a valid choice."),
    ],
)
def test_what_cannot_be_right_is_said_at_its_field_and_nothing_is_stored(
    operator: Client, alice: Project, fields: dict[str, str], words: str
) -> None:
    assert words in put_on(operator, alice, **fields)
    assert not Suppression.objects.exists()
    assert not LogEntry.objects.exists()


def test_an_address_that_is_there_already_is_said_so_and_stays_as_it_was(
    operator: Client, alice: Project
) -> None:
    listed = SuppressionFactory(project=alice, address="ada@example.com", reason="complaint")
    text = put_on(operator, alice, address="ADA@example.com", reason="hard_bounce")
    assert "This address is on the list already: complaint, since" in text
    listed.refresh_from_db()
    assert listed.reason == "complaint"
    assert not LogEntry.objects.exists()


def test_the_same_address_of_another_project_is_another_entry(
    operator: Client, alice: Project, stranger: Project
) -> None:
    SuppressionFactory(project=stranger, address="ada@example.com")
    put_on(operator, alice, address="ada@example.com")
    assert Suppression.objects.count() == 2


def test_one_that_somebody_else_has_just_put_on_is_no_fault(
    operator: Client, alice: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the form's look and the insert; the address is on the list, as was asked."""
    theirs = SuppressionFactory(project=alice, address="ada@example.com", source="api")
    looks = iter([None])
    found = suppressions.find
    monkeypatch.setattr(suppressions, "find", lambda *args: next(looks, found(*args)))
    put_on(operator, alice, address="ada@example.com")
    assert Suppression.objects.get() == theirs
    assert Suppression.objects.get().source == "api"


def test_what_is_put_on_stops_a_notification(operator: Client, alice: Project) -> None:
    put_on(operator, alice, address="Ada@example.com")
    waiting = NotificationFactory(recipient__project=alice, address="ada@example.com")
    shown = page(operator, f"/admin/notifications/notification/{waiting.pk}/change/")
    assert "But its address is suppressed (manual): it is cancelled instead of sent." in shown


def test_an_operators_resend_to_it_is_refused_with_the_reason(
    operator: Client, alice: Project
) -> None:
    over = NotificationFactory(
        recipient__project=alice,
        address="ada@example.com",
        status="failed",
        failure_kind="permanent",
    )
    put_on(operator, alice, address="ada@example.com")
    path = "/admin/notifications/notification/act/resend/"
    answer = {"id": [str(over.pk)], "reason": "Asked for"}
    response = operator.post(path, answer, follow=True)
    text = response.content.decode()
    assert "1 notification not resent." in text
    assert "This address is suppressed: manual" in text


# --- Taking one off ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "source", "words", "not_words"),
    [
        (
            "hard_bounce",
            "receipt",
            "Another hard bounce puts it on the list again",
            "wants no more",
        ),
        ("stop", "receipt", "The person wants no more (STOP:", "Another hard bounce"),
        ("complaint", "refusal", "The person wants no more (Complaint:", "Another hard bounce"),
        ("manual", "console", "may be written to again", "a list of its own"),
        ("hard_bounce", "refusal", "The provider may keep a list of its own", "wants no more"),
    ],
)
def test_the_confirmation_says_what_it_means(
    operator: Client, reason: str, source: str, words: str, not_words: str
) -> None:
    listed = SuppressionFactory(reason=reason, source=source)
    shown = page(operator, take_off(listed))
    assert f"Take {listed.address} off the list of {listed.project}?" in shown
    assert words in shown
    assert not_words not in shown


def test_an_operator_takes_an_address_off_and_the_log_says_who(operator: Client) -> None:
    listed, other = SuppressionFactory(), SuppressionFactory()
    response = operator.post(take_off(listed), {"post": "yes"}, follow=True)
    text = response.content.decode()
    assert f"{listed.address} is off the list, and may be written to again." in text
    assert rows(text) == {other.pk}
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.action_flag) == ("an operator", DELETION)
    assert (entry.object_id, entry.object_repr) == (str(listed.pk), listed.address)


def test_taking_off_what_is_off_already_is_no_fault(operator: Client) -> None:
    listed = SuppressionFactory()
    operator.post(take_off(listed), {"post": "yes"})
    response = operator.post(take_off(listed), {"post": "yes"}, follow=True)
    assert "Perhaps it was deleted?" in response.content.decode()
    assert LogEntry.objects.count() == 1


def test_removing_asks_for_the_project_as_well(alice: Project, stranger: Project) -> None:
    listed = SuppressionFactory(project=alice)
    assert not suppressions.remove(stranger.pk, listed.pk)
    assert suppressions.remove(alice.pk, listed.pk)
    assert not suppressions.remove(alice.pk, listed.pk)


def test_an_act_and_its_log_entry_are_one(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError

    listed = SuppressionFactory()
    monkeypatch.setattr(suppressions, "remove", fail)
    with pytest.raises(RuntimeError):
        operator.post(take_off(listed), {"post": "yes"})
    assert not LogEntry.objects.exists()


# --- The project's mandatory categories ----------------------------------------------------------------------


def save_categories(client: Client, project: Project, typed: str) -> str:
    data = {"name": project.name, "unknown_policy": "", "mandatory_categories": typed}
    path = f"/admin/users/project/{project.pk}/change/"
    response = client.post(path, data, follow=True)
    project.refresh_from_db()
    return response.content.decode()


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("receipts, security", ["receipts", "security"]),
        (" receipts ,, security , ", ["receipts", "security"]),
        ("", []),
        (" , ", []),
    ],
)
def test_a_projects_mandatory_categories_are_typed_between_commas(
    administrator: Client, alice: Project, typed: str, stored: list[str]
) -> None:
    save_categories(administrator, alice, typed)
    assert alice.mandatory_categories == stored
    text = page(administrator, f"/admin/users/project/{alice.pk}/change/")
    assert "Separated by commas" in text
    if stored:
        assert 'value="receipts, security"' in text


def test_a_category_that_is_too_long_is_an_error_at_the_field(
    administrator: Client, alice: Project
) -> None:
    text = save_categories(administrator, alice, f"receipts, {'x' * 101}")
    assert "at most 100 characters" in text
    assert alice.mandatory_categories == []


def test_an_operator_reads_a_projects_categories_and_does_not_change_them(
    operator: Client, alice: Project
) -> None:
    path = f"/admin/users/project/{alice.pk}/change/"
    page(operator, path)
    assert operator.post(path, {"mandatory_categories": "news"}).status_code == 403
