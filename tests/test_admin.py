"""The console, through its pages: who sees what, finding, acting, keys, and other people's text."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from notifications import finding
from notifications.admin import listing, notification_list
from notifications.admin.notification import NotificationAdmin
from notifications.admin.preview import sms_length
from notifications.ids import first_of
from notifications.models import Circuit, Flow, Notification, Pace
from tests.factories import (
    AddressFactory,
    ApiKeyFactory,
    AttemptFactory,
    NotificationFactory,
    ProjectFactory,
    RecipientFactory,
    SuppressionFactory,
    UserFactory,
)
from users import groups
from users.models import ApiKey, Project, Recipient, User

LIST = "/admin/notifications/notification/"
PASSWORD = "a-long-passphrase"
REASON = "asked for by phone"

#: Each page that opens without an object, and whether an operator may see it.
PAGES = {
    "/admin/": True,
    LIST: True,
    "/admin/users/recipient/": True,
    "/admin/users/project/": True,
    "/admin/notifications/circuit/": True,
    "/admin/notifications/flow/": True,
    "/admin/users/project/add/": False,
    "/admin/users/apikey/": False,
    "/admin/users/apikey/add/": False,
    "/admin/users/user/": False,
    "/admin/users/user/add/": False,
    "/admin/auth/group/": False,
    "/admin/axes/accesslog/": False,
    "/admin/axes/accessattempt/": False,
}


def _client_of(group: str) -> Client:
    user = UserFactory(username=f"an {group}")
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return _client_of(groups.OPERATOR)


@pytest.fixture
def administrator(db: None) -> Client:
    return _client_of(groups.ADMINISTRATOR)


def page(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, path
    return response.content.decode()


def detail(notification: Notification) -> str:
    return f"{LIST}{notification.pk}/change/"


def confirm(notification: Notification, act: str) -> str:
    return f"{LIST}{notification.pk}/{act}/confirm/"


def act(client: Client, name: str, *notifications: Notification, **data: Any) -> str:
    """Press the confirmation's button; the text of the page one comes to."""
    ids = [str(notification.pk) for notification in notifications]
    reasoned = {"id": ids, "reason": REASON, **data}
    response = client.post(f"{LIST}act/{name}/", reasoned, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def choose(client: Client, name: str, *notifications: Notification, **data: Any) -> str:
    """Select rows in the list and run an action of its menu; the text of the page one comes to."""
    chosen = [str(notification.pk) for notification in notifications]
    response = client.post(LIST, {"action": name, "_selected_action": chosen, **data}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def rows(text: str) -> set[UUID]:
    """The notifications that a list shows."""
    return {UUID(id) for id in re.findall(rf"{LIST}([0-9a-f-]{{36}})/change/", text)}


def _link(text: str, shown: str) -> str:
    """The query of the page's link with this text; empty where there is none."""
    found = re.findall(rf'<a [^>]*href="([^"]*)">{text}</a>', shown)
    return unescape(found[0]) if found else ""


def failed(**fields: Any) -> Notification:
    failure = {"status": "failed", "failure_kind": "permanent", "failure_code": "550"}
    return NotificationFactory(**failure | fields)


def sent(**fields: Any) -> Notification:
    return NotificationFactory(**{"status": "sent", "sent_at": timezone.now()} | fields)


# --- Who sees what -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_visitor_is_asked_to_sign_in(db: None, path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


@pytest.mark.parametrize(("path", "allowed"), PAGES.items())
def test_an_operator_sees_the_ledger_and_neither_keys_nor_staff(
    operator: Client, path: str, allowed: bool
) -> None:
    page(operator, path, 200 if allowed else 403)


@pytest.mark.parametrize("path", PAGES)
def test_an_administrator_sees_every_page(administrator: Client, path: str) -> None:
    page(administrator, path)


def test_the_menu_offers_only_what_may_be_opened(operator: Client, administrator: Client) -> None:
    assert "/admin/users/apikey/" not in page(operator, "/admin/")
    assert "/admin/users/apikey/" in page(administrator, "/admin/")


def test_nothing_of_the_ledger_is_added_changed_or_deleted_by_hand(db: None) -> None:
    client = Client()
    client.force_login(UserFactory(is_superuser=True))
    notification = NotificationFactory()
    page(client, f"{LIST}add/", 403)
    page(client, f"{LIST}{notification.pk}/delete/", 403)
    assert client.post(detail(notification), {"status": "sent"}).status_code == 403
    assert "delete_selected" not in page(client, LIST)
    for noun, row in (
        ("users/recipient", notification.recipient),
        ("users/project", notification.project),
        ("users/apikey", ApiKeyFactory()),
        ("users/user", UserFactory()),
        ("notifications/flow", notification.flow),
    ):
        page(client, f"/admin/{noun}/{row.pk}/delete/", 403)


def test_a_fifth_failure_closes_the_account_even_to_the_right_password(db: None) -> None:
    UserFactory(username="ada")
    client = Client()

    def sign_in(password: str) -> Any:
        return client.post("/admin/login/", {"username": "ada", "password": password})

    assert [sign_in("wrong").status_code for _ in range(4)] == [200] * 4
    assert sign_in("wrong").status_code == 429
    refused = sign_in(PASSWORD)
    assert refused.status_code == 429
    assert "closed to your address for 15 minutes" in refused.content.decode()
    assert refused["Retry-After"] == "900"


def test_deleting_the_failed_sign_in_opens_the_account_again(administrator: Client) -> None:
    UserFactory(username="ada")
    client = Client()
    for _ in range(6):
        client.post("/admin/login/", {"username": "ada", "password": "wrong"})
    attempts = page(administrator, "/admin/axes/accessattempt/")
    path = re.findall(r"/admin/axes/accessattempt/\d+/", attempts)[0]
    administrator.post(f"{path}delete/", {"post": "yes"})
    signed_in = client.post("/admin/login/", {"username": "ada", "password": PASSWORD})
    assert signed_in.status_code == 302


def test_an_administrator_cannot_become_or_take_over_a_superuser(administrator: Client) -> None:
    root = UserFactory(username="root", is_superuser=True)
    own = User.objects.get(username="an administrator")
    administrator.post(
        f"/admin/users/user/{own.pk}/change/",
        {"username": own.username, "is_active": "on", "is_staff": "on", "is_superuser": "on"},
    )
    own.refresh_from_db()
    assert not own.is_superuser
    changed = {"username": "root", "is_active": "", "password1": "mine", "password2": "mine"}
    assert administrator.post(f"/admin/users/user/{root.pk}/change/", changed).status_code == 403
    assert administrator.post(f"/admin/users/user/{root.pk}/password/", changed).status_code == 403


def test_an_administrator_makes_an_operator(administrator: Client) -> None:
    made = {
        "username": "olga",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    administrator.post("/admin/users/user/add/", made)
    olga = User.objects.get(username="olga")
    group = Group.objects.get(name=groups.OPERATOR)
    administrator.post(
        f"/admin/users/user/{olga.pk}/change/",
        {"username": "olga", "is_active": "on", "is_staff": "on", "groups": [group.pk]},
    )
    client = Client()
    client.force_login(User.objects.get(username="olga"))
    page(client, LIST)


def test_migrating_restores_what_the_groups_need_and_keeps_what_was_added(db: None) -> None:
    group = Group.objects.get(name=groups.OPERATOR)
    extra = Permission.objects.get(codename="view_apikey")
    group.permissions.add(extra)
    group.permissions.remove(Permission.objects.get(codename="resend_notification"))
    groups.bring_up_to_date(apps=apps, using="default")
    codenames = set(group.permissions.values_list("codename", flat=True))
    assert {"view_apikey", "resend_notification"} <= codenames


def test_every_permission_of_the_groups_exists(db: None) -> None:
    for name, wanted in groups.PERMISSIONS.items():
        given = Permission.objects.filter(group__name=name).select_related("content_type")
        assert {f"{p.content_type.app_label}.{p.codename}" for p in given} == wanted


# --- On every page -------------------------------------------------------------------------------------------


def test_a_banner_tells_which_channels_only_the_sandbox_carries(
    operator: Client, settings: Any
) -> None:
    settings.SANDBOX = True
    for path in ("/admin/", LIST, "/admin/password_change/"):
        assert "The sandbox carries e-mail and SMS" in page(operator, path)
    settings.EMAIL_URL = "smtp://mail.example.com"
    assert "The sandbox carries SMS:" in page(operator, LIST)
    settings.SANDBOX = False
    assert "The sandbox carries" not in page(operator, LIST)


def test_a_banner_tells_where_messages_without_an_address_go(
    operator: Client, settings: Any
) -> None:
    assert "FALLBACK_EMAIL" not in page(operator, LIST)
    settings.FALLBACK_EMAIL = "me@example.com"
    assert "without an address go to me@example.com" in page(operator, LIST)


def test_the_badge_names_the_environment(operator: Client, settings: Any) -> None:
    assert "Development" in page(operator, LIST)
    settings.PRODUCTION = True
    assert "Production" in page(operator, LIST)


# --- The list ------------------------------------------------------------------------------------------------


def test_the_list_asks_the_same_few_queries_however_many_rows_it_shows(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(12):
        sent()
    with django_assert_max_num_queries(8):
        assert len(rows(page(operator, LIST))) == 12


def test_the_list_and_a_confirmation_fetch_no_long_texts(operator: Client) -> None:
    untitled = failed(title="", message="Once upon a time " * 1000)
    with _statements() as statements:
        assert "Once upon a time" in page(operator, LIST)
        assert "Once upon a time" in choose(operator, "resend", untitled)
    assert not any('"notifications_notification"."html"' in sql for sql in statements)


def test_counting_stops_at_a_bound(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notification_list, "MOST_COUNTED", 3)
    monkeypatch.setattr(NotificationAdmin, "list_per_page", 2)
    for _ in range(5):
        sent()
    with _statements() as statements:
        assert "more than 3 notifications" in page(operator, LIST)
    counts = [sql for sql in statements if "COUNT(" in sql and "notifications_notification" in sql]
    assert len(counts) == 1
    assert "LIMIT 4" in counts[0]


def test_nothing_is_counted_on_the_later_pages_nor_where_rows_are_looked_through(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotificationAdmin, "list_per_page", 2)
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 3)
    made = [sent(provider="smtp") for _ in range(5)]
    for query in (f"before={made[4].pk}", f"after={made[0].pk}", "provider=smtp"):
        with _statements() as statements:
            assert len(rows(page(operator, f"{LIST}?{query}&_facets=True"))) == 2
        assert not any(
            "COUNT(" in sql and "notifications_notification" in sql for sql in statements
        )


@pytest.mark.parametrize(
    ("query", "field", "value"),
    [
        ("status=failed", "status", "failed"),
        ("status=sent", "status", "sent"),
        ("channel=sms", "channel", "sms"),
        ("priority=high", "priority", "high"),
        ("live=0", "live", False),
    ],
)
def test_filters_narrow_the_list(operator: Client, query: str, field: str, value: Any) -> None:
    failed(channel="sms", priority="high", live=False)
    sent()
    shown = Notification.objects.filter(pk__in=rows(page(operator, f"{LIST}?{query}")))
    assert [getattr(notification, field) for notification in shown] == [value]


def test_filters_and_project_work_together(operator: Client, alice: Project) -> None:
    mine = failed(recipient=RecipientFactory(project=alice))
    failed()
    sent(recipient=RecipientFactory(project=alice))
    assert rows(page(operator, f"{LIST}?project={alice.pk}&status=failed")) == {mine.pk}


def test_a_period_is_a_range_of_ids(operator: Client) -> None:
    """Both days count; ids are time-ordered, and these were made on the last second and the first."""
    last_second = first_of(datetime(2026, 3, 2, tzinfo=UTC)).int - 1
    inside = [
        NotificationFactory(id=UUID(int=last_second)),
        NotificationFactory(id=first_of(datetime(2026, 3, 1, tzinfo=UTC))),
    ]
    NotificationFactory(id=UUID(int=last_second + 1))
    shown = rows(page(operator, f"{LIST}?created_from=2026-03-01&created_to=2026-03-01"))
    assert shown == {notification.pk for notification in inside}


def test_the_first_id_of_a_moment_is_below_every_id_made_after_it() -> None:
    now = timezone.now()
    assert first_of(now) <= uuid7() < first_of(now + timedelta(days=1))


@pytest.mark.parametrize(
    "query",
    [
        "status=nonsense",
        "project=x",
        "project=99999999999999999999999",
        "recipient=%00",
        "created_from=31.12.2026",
        "created_from=9999-12-31&created_to=9999-12-31",
        "created_to=0001-01-01",
        "q=%00",
        "q=" + "x" * 5000,
        "p=7",
        "p=x",
        "o=1.2.3",
        "all=",
        "e=1",
    ],
)
def test_a_nonsensical_query_is_no_fault(operator: Client, query: str) -> None:
    sent()
    assert operator.get(f"{LIST}?{query}").status_code in {200, 302}


def test_a_filter_without_an_index_looks_at_a_bounded_number_of_rows_and_says_so(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = failed(provider="acme", reference="acme-1")
    newer = [sent() for _ in range(3)]
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 3)
    shown = page(operator, f"{LIST}?provider=acme")
    assert old.pk not in rows(shown)
    assert "Only 3 were looked through" in shown
    assert old.pk in rows(page(operator, LIST + _link("Older", shown)))
    for query in ("status=failed", "failure_code=550", f"project={old.project_id}", "q=acme-1"):
        assert old.pk in rows(page(operator, f"{LIST}?{query}&provider=acme"))
    assert "looked through" not in page(operator, LIST)
    assert rows(page(operator, f"{LIST}?status=sent")) == {
        notification.pk for notification in newer
    }


def test_pages_go_on_by_key_and_back_with_all_filters_kept(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotificationAdmin, "list_per_page", 2)
    made = [sent(reference="r", channel="in_app") for _ in range(5)]
    sent(reference="r")
    first = page(operator, f"{LIST}?q=r&channel=in_app")
    assert rows(first) == {made[4].pk, made[3].pk}
    assert not _link("Newer", first)
    # Somebody sends another one meanwhile: the next page shows what came before the first one's last, all the same.
    sent(reference="r", channel="in_app")
    second = page(operator, LIST + _link("Older", first))
    assert rows(second) == {made[2].pk, made[1].pk}
    third = page(operator, LIST + _link("Older", second))
    assert rows(third) == {made[0].pk}
    assert not _link("Older", third)
    back = page(operator, LIST + _link("Newer", third))
    assert rows(back) == rows(second)
    assert "channel=in_app" in _link("Newest", third)
    assert "before" not in _link("Newest", third)


def test_a_filter_that_makes_no_sense_is_named_and_shows_nothing(operator: Client) -> None:
    sent()
    shown = page(operator, f"{LIST}?status=nonsense")
    assert "The filter status must be one of pending, sending" in shown
    assert not rows(shown)


@pytest.mark.parametrize(
    "query",
    ["", "status=failed&provider=smtp&channel=email", "failure_code=550&resent=0", "held=1"],
)
def test_the_list_asks_at_most_eight_queries(
    operator: Client, query: str, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(52):
        failed(provider="smtp")
    with django_assert_max_num_queries(8):
        page(operator, f"{LIST}?{query}")


# --- Searching -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "fields"),
    [
        ("ada@example.com", {"address": "ada@example.com"}),
        ("  ADA@Example.COM ", {"address": "ada@example.com"}),
        ("Ada@EXAMPLE.com", {"address": "Ada@example.com"}),
        ("+1 500 555 0006", {"address": "+15005550006", "channel": "sms"}),
        ("(500) 555-0006", {"address": "+15005550006", "channel": "sms"}),
        ("ada@example.com", {"address": "Ada@example.com"}),
        ("ada.lovelace@example.com", {"address": "Ada.Lovelace@example.com"}),
        ("Ada <ada@example.com>,", {"address": "ada@example.com"}),
        ("ada @ example . com", {"address": "ada@example.com"}),
        ("0049 170 123-45 67", {"address": "+491701234567", "channel": "sms"}),
        ("49 170 1234567", {"address": "+491701234567", "channel": "sms"}),
        ("order-4711", {"reference": "order-4711"}),
        ("SM123", {"provider_message_id": "SM123"}),
        ("<1@mail.example>", {"provider_message_id": "1@mail.example"}),
        ("1@mail.example", {"provider_message_id": "<1@mail.example>"}),
    ],
)
def test_the_search_recognises_what_is_typed(
    operator: Client, term: str, fields: dict[str, Any]
) -> None:
    wanted = NotificationFactory(**fields)
    NotificationFactory()
    response = operator.get(LIST, {"q": term})
    assert rows(response.content.decode()) == {wanted.pk}


def test_the_search_finds_an_id_a_user_id_and_a_reference_of_any_project(operator: Client) -> None:
    by_user = [NotificationFactory(recipient__user_id="4") for _ in range(2)]
    by_reference = NotificationFactory(reference="4")
    assert rows(page(operator, f"{LIST}?q=4")) == {by_reference.pk, *(n.pk for n in by_user)}
    assert rows(page(operator, f"{LIST}?q={by_reference.pk}")) == {by_reference.pk}


def test_an_id_that_is_a_reference_of_the_callers_is_found_too(operator: Client) -> None:
    reference = str(uuid7())
    wanted = NotificationFactory(reference=reference)
    assert rows(page(operator, f"{LIST}?q={reference}")) == {wanted.pk}


def test_search_and_filter_work_together(operator: Client) -> None:
    wanted = failed(address="ada@example.com")
    sent(address="ada@example.com")
    assert rows(page(operator, f"{LIST}?q=ada@example.com&status=failed")) == {wanted.pk}


def test_what_is_not_there_is_not_found(operator: Client) -> None:
    sent()
    found = page(operator, f"{LIST}?q=nobody@EXAMPLE.com")
    assert not rows(found)
    looked_for = "an e-mail address (nobody@example.com), a reference, a user id or a provider"
    assert f"Nothing found. It was looked for as {looked_for}" in found


def test_the_search_says_what_it_took_the_term_for(operator: Client) -> None:
    sent(address="+15005550006", channel="sms")
    sent(reference="(500) 555-0006")
    shown = operator.get(LIST, {"q": "(500) 555-0006"}).content.decode()
    assert "Found as a phone number (+15005550006) or a reference." in shown


@pytest.fixture
def many(alice: Project) -> None:
    """5,000 notifications, most of them sent, and statistics that say so."""
    people = [RecipientFactory(project=alice) for _ in range(50)]
    pattern = NotificationFactory.build(recipient=people[0], lane="email.normal")
    flow = NotificationFactory(recipient=people[0]).flow
    Notification.objects.bulk_create(
        Notification(
            id=uuid7(),
            project=alice,
            flow=flow,
            recipient=people[n % 50],
            user_id=people[n % 50].user_id,
            channel="email",
            priority="normal",
            live=True,
            address=f"person{n % 500}@example.com",
            reference=f"order-{n}",
            title=pattern.title,
            message="Hello there! " * 20,
            status="failed" if n % 500 == 0 else "sent",
            failure_kind="permanent" if n % 500 == 0 else "",
            sent_at=timezone.now(),
        )
        for n in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification")


def test_each_search_goes_through_its_index(many: None) -> None:
    searches = {
        "person7@example.com": "notification_address",
        "+15005550006": "notification_address",
        "order-4711": "notification_reference",
        "0190e3c8-0000-7000-8000-000000000000": "notifications_notification_pkey",
        Recipient.objects.first().user_id: "notification_recipient",  # type: ignore[union-attr]
    }
    for term, index in searches.items():
        plans = [lookup[: finding.MOST_FOUND].explain() for lookup in finding.lookups(term)]
        assert any(index in plan for plan in plans), term
        scans = [plan for plan in plans if "Seq Scan on notifications" in plan]
        assert not scans, term


def test_the_list_reads_through_an_index(many: None, operator: Client, alice: Project) -> None:
    recipient = Recipient.objects.first()
    assert recipient
    queries = {
        "": "notifications_notification_pkey",
        "?created_from=2026-01-01": "notifications_notification_pkey",
        # More than one index has the few that failed.
        f"?project={alice.pk}&status=failed": "Index",
        "?status=failed": "Index",
        f"?recipient={recipient.pk}": "notification_recipient",
        "?held=1": "notification_held",
        "?q=person7@example.com": "notifications_notification_pkey",
    }
    for query, index in queries.items():
        plan = operator.get(LIST + query).context["cl"].queryset[:50].explain()
        assert index in plan, query
        assert "Seq Scan on notifications_notification" not in plan, query


# --- One in detail -----------------------------------------------------------------------------------------------


def test_the_detail_page_tells_the_whole_story(operator: Client, alice: Project) -> None:
    alice.from_name, alice.from_email = "The shop", "orders@shop.example"
    alice.save()
    notification = NotificationFactory(
        recipient__project=alice,
        title="Your order has shipped",
        message="Follow it at https://shop.example/1",
        api_key=ApiKeyFactory(project=alice, name="shop backend"),
        attempt_count=1,
        due_at=timezone.now() + timedelta(minutes=5),
        provider="smtp",
    )
    started = timezone.now() - timedelta(seconds=9)
    AttemptFactory(
        notification=notification,
        started_at=started,
        finished_at=started + timedelta(milliseconds=1234),
        outcome="temporary",
        code="451",
        detail="4.3.2 try later",
    )
    shown = page(operator, detail(notification))
    for words in (
        "Your order has shipped",
        "The shop &lt;orders@shop.example&gt;",
        f"by the API key {notification.api_key}",
        "Call 1: refused for now",
        "1,234 ms",
        "code 451",
        "4.3.2 try later",
        "Waiting: next attempt in 5 min (attempt 2; smtp said 4.3.2 try later).",
    ):
        assert words in shown


def test_the_html_part_can_neither_run_nor_load_anything(operator: Client) -> None:
    html = "<script>alert(1)</script><img src='https://spy.example/pixel.gif'>"
    response = operator.get(detail(sent(html=html)))
    shown = response.content.decode()
    frame = re.findall(r"<iframe[^>]*>", shown)[0]
    assert 'sandbox=""' in frame
    assert 'srcdoc="&lt;meta http-equiv=&quot;Content-Security-Policy&quot;' in frame
    assert "default-src &#x27;none&#x27;" in frame
    assert "<script>alert(1)" not in shown
    assert "frame-src 'none'" in response["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Your code is 123456", "19 characters, 1 segment"),
        ("a" * 160, "160 characters, 1 segment"),
        ("a" * 161, "161 characters, 2 segments"),
        ("€" * 81, "81 characters, 2 segments"),
        ("й" * 70, "70 characters, 1 segment"),
        ("й" * 71, "71 characters, 2 segments"),
        ("😀" * 36, "36 characters, 2 segments"),
        ("x", "1 character, 1 segment"),
    ],
)
def test_an_sms_shows_its_length_and_its_segments(text: str, words: str) -> None:
    assert sms_length(text) == words


def test_an_sms_is_shown_with_its_length(operator: Client) -> None:
    sms = sent(channel="sms", address="+15005550006", message="Your code is 123456")
    assert "19 characters, 1 segment" in page(operator, detail(sms))


def test_an_erased_one_shows_no_content_and_offers_nothing(operator: Client) -> None:
    erased = sent(erased_at=timezone.now(), title="", message="", address="", recipient=None, user_id="4",
                  project=ProjectFactory())  # fmt: skip
    shown = page(operator, detail(erased))
    assert "the content was erased" in shown
    assert "/confirm/" not in shown
    assert "erased" in page(operator, LIST)


def test_what_cannot_be_rendered_is_still_shown(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise ValueError

    monkeypatch.setattr("notifications.admin.preview.message_of", fail)
    assert "It cannot be rendered" in page(operator, detail(sent(message="Hello there!")))


def test_the_buttons_offer_what_is_possible(operator: Client) -> None:
    def offered(notification: Notification) -> set[str]:
        return set(re.findall(r"/(\w+)/confirm/", page(operator, detail(notification))))

    assert offered(NotificationFactory()) == {"retry", "cancel"}
    assert offered(failed()) == {"resend"}


def test_an_unknown_id_leads_back_and_a_wrong_one_is_no_fault(operator: Client) -> None:
    for id in (str(uuid7()), "no-uuid"):
        assert operator.get(f"{LIST}{id}/change/").status_code == 302
    page(operator, f"{LIST}{uuid7()}/resend/confirm/", 404)
    page(operator, f"{LIST}{sent().pk}/nonsense/confirm/", 404)


# --- Acting ------------------------------------------------------------------------------------------------------


def test_a_resend_makes_a_new_notification_and_writes_down_who_did_it(
    operator: Client, woken: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    old = failed()
    with django_capture_on_commit_callbacks(execute=True):
        shown = act(operator, "resend", old)
    new = Notification.objects.get(resend_of=old)
    assert "1 notification resent, as" in shown
    assert detail(new) in shown
    assert woken
    entries = LogEntry.objects.filter(object_id__in=[str(old.pk), str(new.pk)])
    assert {(entry.user.username, entry.change_message) for entry in entries} == {
        ("an operator", f"Resent: {REASON}")
    }
    of_old, of_new = page(operator, detail(old)), page(operator, detail(new))
    assert detail(new) in of_old
    assert "by an operator" in of_old
    assert detail(old) in of_new
    assert "by an operator" in of_new


def test_that_an_address_is_suppressed_is_told_before_a_resend_is_confirmed(
    operator: Client, alice: Project
) -> None:
    first, second = failed(), failed()
    SuppressionFactory(project=first.project, address=first.address)
    data = {"action": "resend", "_selected_action": [str(first.pk), str(second.pk)]}
    text = operator.post(LIST, data).content.decode()
    assert "the address is suppressed" in text
    assert text.count('name="id"') == 1


def test_a_filter_by_a_recipient_who_is_not_there_finds_nobody(operator: Client) -> None:
    sent()
    assert not rows(page(operator, f"{LIST}?recipient=999999999"))


def test_a_retry_makes_a_waiting_one_due_now(
    operator: Client, woken: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    waiting = NotificationFactory(due_at=timezone.now() + timedelta(hours=1))
    with django_capture_on_commit_callbacks(execute=True):
        assert "1 notification due now." in act(operator, "retry", waiting)
    assert woken == ["email.normal"]
    waiting.refresh_from_db()
    assert waiting.due_at <= timezone.now()
    assert (
        LogEntry.objects.get(object_id=str(waiting.pk)).change_message
        == f"Made due at once: {REASON}"
    )


def test_a_cancel_stops_a_waiting_one(operator: Client) -> None:
    waiting = NotificationFactory()
    assert "1 notification cancelled." in act(operator, "cancel", waiting)
    waiting.refresh_from_db()
    assert waiting.status == "cancelled"
    assert f"Cancelled: {REASON}" in page(operator, detail(waiting))


@pytest.mark.parametrize(
    ("name", "question", "done", "status", "logged"),
    [
        ("arrived", "Did it arrive?", "settled as sent", "sent", "Settled as sent, it arrived: "),
        ("give_up", "Give up 1 notification?", "given up", "failed", "Given up: "),
    ],
)
def test_an_operator_says_what_became_of_an_unknown_one(
    operator: Client, name: str, question: str, done: str, status: str, logged: str
) -> None:
    unknown = NotificationFactory(status="unknown")
    assert question in page(operator, confirm(unknown, name))
    assert f"1 notification {done}." in act(operator, name, unknown)
    unknown.refresh_from_db()
    assert unknown.status == status
    assert logged + REASON in page(operator, detail(unknown))
    assert LogEntry.objects.get().user.username == "an operator"


def test_the_three_answers_are_offered_for_an_unknown_one_and_for_no_other(
    operator: Client,
) -> None:
    def offered(notification: Notification) -> list[str]:
        return re.findall(r"/([a-z_]+)/confirm/", page(operator, detail(notification)))

    assert offered(NotificationFactory(status="unknown")) == ["arrived", "resend", "give_up"]
    assert offered(sent()) == ["resend"]
    assert offered(NotificationFactory()) == ["retry", "cancel"]


def test_many_unknown_ones_are_settled_at_once(operator: Client) -> None:
    unknown = [NotificationFactory(status="unknown") for _ in range(3)]
    text = choose(operator, "arrived", *unknown, sent())
    assert "Did these 3 notifications arrive?" in text
    assert "1: sent, not unknown" in text
    assert "3 notifications settled as sent." in act(operator, "arrived", *unknown)


def test_an_answer_that_came_while_the_operator_was_asked_is_not_followed_by_a_second_copy(
    operator: Client,
) -> None:
    unknown = NotificationFactory(status="unknown")
    text = page(operator, confirm(unknown, "resend"))
    assert "may have arrived already" in text
    hidden = dict(re.findall(r'<input type="hidden" name="(id|unknown)" value="([^"]+)"', text))
    Notification.objects.update(status="sent", sent_at=timezone.now())
    given = hidden | {"reason": REASON, "include_arrived": "on"}
    answer = operator.post(f"{LIST}act/resend/", given, follow=True).content.decode()
    assert "1 notification not resent." in answer
    assert "is sent now, no longer unknown" in answer
    assert Notification.objects.count() == 1


def test_what_waits_for_an_operator_is_counted_on_the_first_page_and_listed(
    operator: Client,
) -> None:
    assert "operator's word" not in page(operator, "/admin/")
    held = NotificationFactory(status="unknown")
    NotificationFactory(status="unknown", review_at=timezone.now())
    sent()
    assert "1 notification waits for an operator's word" in page(operator, "/admin/")
    assert rows(page(operator, f"{LIST}?held=1")) == {held.pk}


def test_the_first_page_counts_no_further_than_the_lists_do(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.admin.overview.MOST_COUNTED", 2)
    for _ in range(3):
        NotificationFactory(status="unknown")
    assert "More than 2 notifications wait for an operator's word" in page(operator, "/admin/")


@pytest.mark.parametrize("name", ["resend", "retry", "cancel"])
def test_looking_changes_nothing(operator: Client, name: str) -> None:
    waiting, over = NotificationFactory(), failed()
    page(operator, confirm(waiting, name))
    page(operator, confirm(over, name))
    choose(operator, name, waiting, over)
    page(operator, f"{LIST}act/{name}/", 405)
    assert Notification.objects.count() == 2
    assert {*Notification.objects.values_list("status", flat=True)} == {"pending", "failed"}
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("name", ["resend", "retry", "cancel", "arrived", "give_up"])
def test_an_act_needs_its_own_permission(db: None, name: str) -> None:
    user = UserFactory()
    user.user_permissions.add(Permission.objects.get(codename="view_notification"))
    client = Client()
    client.force_login(user)
    waiting = NotificationFactory()
    assert "/confirm/" not in page(client, detail(waiting))
    page(client, confirm(waiting, name), 403)
    assert client.post(f"{LIST}act/{name}/", {"id": str(waiting.pk)}).status_code == 403
    choose(client, name, waiting)
    waiting.refresh_from_db()
    assert waiting.status == "pending"


def test_the_permission_to_act_is_none_to_look(db: None) -> None:
    user = UserFactory()
    user.user_permissions.add(Permission.objects.get(codename="cancel_notification"))
    client = Client()
    client.force_login(user)
    page(client, confirm(NotificationFactory(), "cancel"), 403)


def test_an_act_needs_the_csrf_token(operator: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    waiting = NotificationFactory()
    assert strict.post(f"{LIST}act/cancel/", {"id": str(waiting.pk)}).status_code == 403
    waiting.refresh_from_db()
    assert waiting.status == "pending"


def test_the_confirmation_counts_names_what_arrived_and_tells_why_others_are_left_out(
    operator: Client,
) -> None:
    arrived = sent(title="Had it already")
    chosen = [failed(), failed(), arrived, NotificationFactory(), sent(erased_at=timezone.now())]
    resent = failed()
    act(operator, "resend", resent)
    text = choose(operator, "resend", *chosen, resent)
    assert "Resend 2 notifications?" in text
    assert "2 E-mail" in text
    assert "1 more went out already." in text
    assert text.count("Had it already") == 1
    for reason in ("1: still pending", "1: the person was forgotten", "1: resent already"):
        assert reason in text


def test_what_went_out_already_is_resent_only_where_that_is_ticked(operator: Client) -> None:
    arrived, over = sent(), failed()
    text = act(operator, "resend", arrived, over)
    assert "1 notification resent" in text
    assert "its person has it already" in text
    assert "1 notification resent" in act(operator, "resend", arrived, include_arrived="on")
    assert Notification.objects.filter(resend_of=arrived).count() == 1


@pytest.mark.parametrize("name", ["resend", "retry", "cancel", "arrived", "give_up"])
@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_without_a_reason_nothing_is_done_and_the_field_says_so(
    operator: Client, name: str, reason: str
) -> None:
    states = {"resend": "cancelled", "retry": "pending", "cancel": "pending"}
    notification = NotificationFactory(status=states.get(name, "unknown"))
    text = act(operator, name, notification, reason=reason)
    assert "This field is required" in text or "at most 500 characters" in text
    assert f'name="id" value="{notification.pk}"' in text
    assert not LogEntry.objects.exists()
    assert {*Notification.objects.values_list("status", flat=True)} == {notification.status}


def test_one_that_is_refused_does_not_hold_up_the_others(operator: Client) -> None:
    """All were waiting when the page was shown; one was sent before the button was pressed."""
    waiting, gone = NotificationFactory(), sent()
    text = act(operator, "cancel", gone, waiting)
    assert "1 notification cancelled." in text
    assert "1 notification not cancelled." in text
    assert f"{gone.pk}</a>: This notification is sent; only a pending one can be cancelled." in text
    assert [entry.object_id for entry in LogEntry.objects.all()] == [str(waiting.pk)]


def test_an_act_and_its_log_entry_are_one(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError

    waiting = NotificationFactory()
    monkeypatch.setattr("notifications.acts._log", fail)
    with pytest.raises(RuntimeError):
        act(operator, "cancel", waiting)
    waiting.refresh_from_db()
    assert waiting.status == "pending"


def test_pressing_twice_sends_once(operator: Client) -> None:
    old = failed()
    act(operator, "resend", old)
    assert "This was resent already" in act(operator, "resend", old)
    assert Notification.objects.filter(resend_of=old).count() == 1


def test_too_many_at_once_are_refused_with_a_sentence(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.admin.acting.MOST_AT_ONCE", 2)
    chosen = [NotificationFactory() for _ in range(3)]
    assert "These are more than 2" in choose(operator, "cancel", *chosen)
    across = choose(operator, "cancel", chosen[0], select_across="1")
    assert "Choose by at least one filter" in across
    assert "Cancel 2 notifications?" in choose(operator, "cancel", *chosen[:2])


def test_an_act_leads_back_to_the_list_it_came_from_and_nowhere_else(operator: Client) -> None:
    def led_to(back: str) -> str:
        data = {"id": str(NotificationFactory().pk), "back": back, "reason": REASON}
        return str(operator.post(f"{LIST}act/cancel/", data)["Location"])

    assert led_to(f"{LIST}?status=pending") == f"{LIST}?status=pending"
    for elsewhere in ("https://evil.example/", "//evil.example/", "/admin/logout/", ""):
        assert led_to(elsewhere) == LIST


@pytest.mark.parametrize("ids", [[], ["nonsense"], [str(uuid7())]])
def test_acting_on_nothing_does_nothing(operator: Client, ids: list[str]) -> None:
    response = operator.post(f"{LIST}act/cancel/", {"id": ids}, follow=True)
    assert "Nothing was chosen" in response.content.decode()


# --- Other people's text -----------------------------------------------------------------------------------------

VECTORS = [
    "<script>alert('xss')</script>",
    "\"><img src=x onerror=alert('xss')>",
    "'><svg onload=alert('xss')>",
    "</textarea></pre></title><script>alert('xss')</script>",
    "javascript:alert('xss')",
    "{{ 7|add:7 }}{% load admin %}",
    "<iframe srcdoc=\"<script>alert('xss')</script>\">",
]


@pytest.mark.parametrize("vector", VECTORS)
@pytest.mark.parametrize("channel", ["email", "sms", "in_app"])
def test_text_of_others_is_shown_and_never_obeyed(
    operator: Client, alice: Project, vector: str, channel: str
) -> None:
    """In the list, the detail, the confirmation, the messages and the recipient's pages."""
    notification = NotificationFactory(
        recipient__project=alice,
        recipient__user_id=vector,
        recipient__name=vector,
        channel=channel,
        address=vector,
        title=vector,
        message=vector,
        html=vector if channel == "email" else "",
        url=vector,
        category=vector,
        reference=vector,
        metadata={vector: vector},
        api_key=ApiKeyFactory(project=alice, name=vector),
        status="failed",
        failure_kind="permanent",
        failure_code=vector[:100],
        failure_detail=vector,
        provider=vector[:50],
        provider_message_id=vector,
    )
    AddressFactory(recipient=notification.recipient, value=vector)
    AttemptFactory(
        notification=notification,
        outcome="permanent",
        finished_at=timezone.now(),
        provider=vector[:50],
        code=vector[:100],
        detail=vector,
        provider_message_id=vector,
    )
    recipient = notification.recipient
    texts = [
        page(operator, LIST),
        page(operator, f"{LIST}?recipient={recipient.pk}"),
        operator.get(LIST, {"q": vector, "created_from": vector}).content.decode(),
        page(operator, detail(notification)),
        page(operator, confirm(notification, "resend")),
        choose(operator, "resend", notification),
        act(operator, "cancel", notification),
        page(operator, f"/admin/users/recipient/{recipient.pk}/change/"),
        page(operator, "/admin/users/recipient/"),
    ]
    for text in texts:
        _assert_harmless(text, vector)


def _assert_harmless(text: str, vector: str) -> None:
    if "<" in vector:
        assert vector not in text
        assert "<script>alert" not in text
        assert not re.search(r"<(img|svg)[^>]*onerror|<svg onload", text)
    assert not re.search(r"""(href|src|action)\s*=\s*["']?\s*javascript:""", text)


@pytest.mark.parametrize("vector", VECTORS)
def test_names_given_by_staff_are_shown_and_never_obeyed(
    administrator: Client, vector: str
) -> None:
    key = ApiKeyFactory(name=vector, project=ProjectFactory(name=vector))
    for path in (
        "/admin/users/apikey/",
        f"/admin/users/apikey/{key.pk}/change/",
        f"/admin/users/apikey/{key.pk}/revoke/",
        "/admin/users/project/",
        LIST,
    ):
        _assert_harmless(page(administrator, path), vector)
    revoked = administrator.post(f"/admin/users/apikey/{key.pk}/revoke/", follow=True)
    _assert_harmless(revoked.content.decode(), vector)


# --- API keys -----------------------------------------------------------------------------------------------------


def _make_key(client: Client, project: Project, **fields: Any) -> str:
    data = {
        "project": project.pk,
        "name": "shop backend",
        "kind": "live",
        "scopes": ["send", "read"],
    }
    response = client.post("/admin/users/apikey/add/", data | fields)
    assert response.status_code == 200
    return response.content.decode()


def test_a_key_is_shown_whole_once_and_kept_nowhere(administrator: Client, alice: Project) -> None:
    shown = _make_key(administrator, alice)
    key = ApiKey.objects.get()
    token = re.findall(rf"ntf_live_{key.prefix}_[\w-]{{43}}", shown)[0]
    assert key.matches(token)
    assert (key.scopes, key.created_by) == (["send", "read"], User.objects.get())
    for path in ("/admin/users/apikey/", f"/admin/users/apikey/{key.pk}/change/", LIST):
        assert token not in page(administrator, path)
    assert not any(token in str(session.get_decoded()) for session in Session.objects.all())
    assert token not in str(administrator.cookies)
    assert not LogEntry.objects.filter(change_message__contains=token).exists()
    assert not LogEntry.objects.filter(object_repr__contains=token).exists()


def test_a_new_key_works(administrator: Client, alice: Project) -> None:
    token = re.findall(r"ntf_live_[\w-]{52}", _make_key(administrator, alice))[0]
    answer = Client().get("/api/v1/notifications", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200


def test_the_form_of_a_key_refuses_what_would_make_no_sense(
    administrator: Client, alice: Project
) -> None:
    _make_key(administrator, alice, scopes=[])
    _make_key(administrator, alice, scopes=["everything"])
    past = {"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    assert "This is in the past." in _make_key(administrator, alice, **past)
    assert not ApiKey.objects.exists()


def test_a_key_can_be_renamed_but_neither_moved_nor_given_another_secret(
    administrator: Client, alice: Project, stranger: Project
) -> None:
    key = ApiKeyFactory(project=alice)
    administrator.post(
        f"/admin/users/apikey/{key.pk}/change/",
        {
            "name": "renamed",
            "scopes": ["read"],
            "project": stranger.pk,
            "kind": "test",
            "digest": "x",
        },
    )
    changed = ApiKey.objects.get()
    assert (changed.name, changed.scopes) == ("renamed", ["read"])
    assert (changed.project, changed.kind) == (alice, "live")
    assert changed.matches(key.token)


def test_revoking_asks_first_and_writes_down_who_did_it(administrator: Client) -> None:
    key = ApiKeyFactory()
    path = f"/admin/users/apikey/{key.pk}/revoke/"
    assert "Revoke a backend?" in page(administrator, path)
    key.refresh_from_db()
    assert key.revoked_at is None
    assert "is revoked" in administrator.post(path, follow=True).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert LogEntry.objects.get().change_message == "Revoked."
    assert "was revoked before" in administrator.post(path, follow=True).content.decode()
    assert LogEntry.objects.count() == 1
    assert "Revoked" in page(administrator, "/admin/users/apikey/")


def test_an_operator_cannot_revoke_a_key(operator: Client) -> None:
    key = ApiKeyFactory()
    assert operator.post(f"/admin/users/apikey/{key.pk}/revoke/").status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is None


# --- Recipients, projects, flows ----------------------------------------------------------------------------------


def _change(client: Client, recipient: Recipient, **fields: str) -> str:
    blank = {"name": "", "email": "", "phone": "", "locale": "", "timezone": ""}
    path = f"/admin/users/recipient/{recipient.pk}/change/"
    response = client.post(path, blank | fields, follow=True)
    return response.content.decode()


def test_an_administrator_corrects_an_address_in_any_spelling(
    administrator: Client, alice: Project
) -> None:
    recipient = RecipientFactory(project=alice)
    _change(administrator, recipient, name="Ada", email="ada@EXAMPLE.com", phone="(500) 555-0006")
    recipient.refresh_from_db()
    assert recipient.name == "Ada"
    assert {*recipient.addresses.values_list("value", flat=True)} == {
        "ada@example.com",
        "+15005550006",
    }
    _change(administrator, recipient, name="Ada", email="ada@example.com")
    assert recipient.addresses.get().channel == "email"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"email": "nobody"}, "This is not an e-mail address."),
        ({"phone": "12"}, "This cannot be a phone number."),
        ({"email": "taken@example.com"}, "Another person of this project has this email."),
    ],
)
def test_a_wrong_or_taken_address_is_refused_at_its_field(
    administrator: Client, alice: Project, fields: dict[str, str], words: str
) -> None:
    AddressFactory(recipient__project=alice, value="taken@example.com")
    AddressFactory(value="elsewhere@example.com")
    recipient = RecipientFactory(project=alice)
    assert words in _change(administrator, recipient, **fields)
    assert not recipient.addresses.exists()
    _change(administrator, recipient, email="elsewhere@example.com")
    assert recipient.addresses.exists()


def test_an_operator_sees_a_person_but_changes_nothing(operator: Client, alice: Project) -> None:
    address = AddressFactory(recipient__project=alice)
    path = f"/admin/users/recipient/{address.recipient_id}/change/"
    shown = page(operator, path)
    assert address.value in shown
    assert f"{LIST}?recipient={address.recipient_id}" in shown
    assert operator.post(path, {"name": "Mallory"}).status_code == 403


@pytest.mark.parametrize("term", ["ADA@example.com", "ada", "(500) 555-0006"])
def test_people_are_found_by_id_and_by_address(operator: Client, alice: Project, term: str) -> None:
    ada = RecipientFactory(project=alice, user_id="ada")
    AddressFactory(recipient=ada, value="ada@example.com")
    AddressFactory(recipient=ada, channel="sms", value="+15005550006")
    RecipientFactory(project=alice, user_id="grace")
    found = operator.get("/admin/users/recipient/", {"q": term}).content.decode()
    assert re.findall(r"/admin/users/recipient/(\d+)/change/", found) == [str(ada.pk)]


def test_the_list_of_people_asks_the_same_few_queries_however_many_it_shows(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(10):
        AddressFactory()
    with django_assert_max_num_queries(10):
        page(operator, "/admin/users/recipient/")


def test_a_flows_page_says_how_fast_it_goes_and_why(administrator: Client, settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    settings.PROVIDER_RATES = ["smtp=100"]
    flow = NotificationFactory().flow
    page = f"/admin/notifications/flow/{flow.pk}/change/"
    administrator.post(page, {"rate": "12.5"})
    assert Flow.objects.get(pk=flow.pk).rate == 12.5
    Pace.objects.create(provider="smtp", lowered_to=4, lowered_at=timezone.now())
    text = administrator.get(page).content.decode()
    assert "At most 12.5 a second" in text
    assert "at most 100 calls a second" in text
    assert "4.0 calls a second at present" in text


@pytest.mark.parametrize("rate", ["0", "-1", "nan"])
def test_a_rate_that_makes_no_sense_is_refused_on_the_flows_page(
    administrator: Client, rate: str
) -> None:
    flow = NotificationFactory().flow
    answer = administrator.post(f"/admin/notifications/flow/{flow.pk}/change/", {"rate": rate})
    assert answer.status_code == 200
    assert Flow.objects.get(pk=flow.pk).rate is None


def test_an_administrator_makes_a_project(administrator: Client) -> None:
    administrator.post("/admin/users/project/add/", {"name": "Clinic"})
    assert Project.objects.get().name == "Clinic"


def test_a_projects_policy_for_unknown_ones_is_chosen_on_its_page_and_the_choice_is_logged(
    administrator: Client, alice: Project
) -> None:
    page_of_alice = f"/admin/users/project/{alice.pk}/change/"
    assert "By priority: high and normal are sent once more" in page(administrator, page_of_alice)
    administrator.post(page_of_alice, {"name": alice.name, "unknown_policy": "hold"})
    assert Project.objects.get().unknown_policy == "hold"
    assert LogEntry.objects.get().user.username == "an administrator"


def test_an_older_release_goes_on_making_projects(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users_project (name, from_email, from_name, reply_to) VALUES ('Old', '', '', '')"
        )
    assert Project.objects.get().unknown_policy == ""


# --- Circuits ----------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(settings: Any) -> Circuit:
    """The provider of e-mails has refused our log-in for a minute."""
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    now = timezone.now()
    return Circuit.objects.create(
        provider="smtp",
        cause="refused",
        code="smtp_535",
        detail="535 <b>log-in</b> failed",
        opened_at=now - timedelta(minutes=5),
        open_until=now + timedelta(minutes=2),
        trips=3,
    )


CIRCUITS = "/admin/notifications/circuit/"
TROUBLE = "smtp refuses our account, for 5 min now (535 &lt;b&gt;log-in&lt;/b&gt; failed)"


def test_an_open_circuit_is_said_on_the_first_page_and_on_what_waits_for_it(
    db: None, refused: Circuit, operator: Client
) -> None:
    first_page = page(operator, "/admin/")
    assert TROUBLE in first_page
    assert f"{CIRCUITS}{refused.pk}/change/" in first_page
    assert f"Held: {TROUBLE}" in page(operator, detail(NotificationFactory()))
    for other in (
        sent(),
        NotificationFactory(channel="in_app"),
        NotificationFactory(lane="sandbox"),
        NotificationFactory(recipient__project__from_email="own@example.com"),
    ):
        assert "refuses our account" not in page(operator, detail(other))


def test_a_closed_circuit_is_no_news(db: None, refused: Circuit, operator: Client) -> None:
    Circuit.objects.update(open_until=None, trips=0)
    assert "refuses our account" not in page(operator, "/admin/")
    assert "last time: it refuses our account" in page(operator, CIRCUITS)
    assert "Try it now" not in page(operator, f"{CIRCUITS}{refused.pk}/change/")


def test_who_sees_some_projects_only_looks_at_everybodys_circuit(
    db: None, refused: Circuit, operator: Client
) -> None:
    User.objects.get().projects.add(ProjectFactory())
    assert "Try it now" not in page(operator, f"{CIRCUITS}{refused.pk}/change/")
    assert operator.post(f"{CIRCUITS}{refused.pk}/probe/").status_code == 403


def test_an_operator_has_an_open_circuit_tried_at_once(
    db: None, refused: Circuit, operator: Client
) -> None:
    assert "Try it now" in page(operator, f"{CIRCUITS}{refused.pk}/change/")
    page(operator, f"{CIRCUITS}{refused.pk}/probe/", 405)
    answer = operator.post(f"{CIRCUITS}{refused.pk}/probe/", follow=True).content.decode()
    assert "tries it, within seconds" in answer
    assert "with the next one due" in answer
    assert Circuit.objects.get().open_until <= timezone.now()
    assert LogEntry.objects.get().change_message == "Tried at once."


def test_a_circuit_that_closed_meanwhile_is_not_tried(
    db: None, refused: Circuit, operator: Client
) -> None:
    Circuit.objects.update(open_until=None)
    answer = operator.post(f"{CIRCUITS}{refused.pk}/probe/", follow=True).content.decode()
    assert "This circuit is closed" in answer
    assert Circuit.objects.get().open_until is None
    assert not LogEntry.objects.exists()


def test_looking_at_a_circuit_is_no_permission_to_try_it(db: None, refused: Circuit) -> None:
    user = UserFactory()
    user.user_permissions.add(Permission.objects.get(codename="view_circuit"))
    client = Client()
    client.force_login(user)
    assert "Try it now" not in page(client, f"{CIRCUITS}{refused.pk}/change/")
    assert client.post(f"{CIRCUITS}{refused.pk}/probe/").status_code == 403


def test_the_page_addresses_that_templates_name_exist() -> None:
    assert reverse("admin:notifications_notification_act", args=["cancel"]) == f"{LIST}act/cancel/"


class _statements:
    """The SQL of a block."""

    def __enter__(self) -> list[str]:
        self.sql: list[str] = []
        self.wrapper = connection.execute_wrapper(self._note)
        self.wrapper.__enter__()
        return self.sql

    def __exit__(self, *error: Any) -> None:
        self.wrapper.__exit__(*error)

    def _note(self, execute: Callable[..., Any], sql: str, params: Any, *rest: Any) -> Any:
        values = params if isinstance(params, dict) else tuple(params or ())
        self.sql.append(sql % values if values else sql)
        return execute(sql, params, *rest)


def test_the_list_says_what_it_was_narrowed_by(operator: Client) -> None:
    notification = NotificationFactory(status="failed", failure_kind="permanent")
    query = f"?status=failed&failure_code=550&project={notification.project_id}&held=1"
    page = operator.get(LIST + query).content.decode()
    shown = page[page.index("Shown:") : page.index("Show everything")]
    for words in (
        "Status: Failed",
        "Failure code: 550",
        f"Project: {notification.project}",
        "Held",
    ):
        assert words in unescape(shown)
    assert "Shown:" not in operator.get(LIST).content.decode()


def test_who_sees_some_projects_looks_through_a_bounded_part_of_the_ledger(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 3)
    own = [NotificationFactory() for _ in range(2)]
    for _ in range(3):
        NotificationFactory()
    User.objects.get().projects.set([each.project for each in own])
    page = operator.get(LIST)
    assert "looked through" in page.content.decode()
    assert not page.context["cl"].result_list
    older = operator.get(LIST + page.context["cl"].older)
    assert [row.pk for row in older.context["cl"].result_list] == [own[1].pk, own[0].pk]
