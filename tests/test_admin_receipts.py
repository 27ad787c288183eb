"""Receipts in the console: in a notification's timeline, in their list, and as they came."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from factory import SelfAttribute, SubFactory
from pytest_django import DjangoAssertNumQueries
from uuid_utils.compat import uuid7

from notifications.admin import listing, receipt, timeline
from notifications.models import Notification, Receipt
from tests.factories import (
    AttemptFactory,
    NotificationFactory,
    ReceiptFactory,
    SuppressionFactory,
    UserFactory,
)
from users import console, groups

LIST = "/admin/notifications/receipt/"
NOTIFICATIONS = "/admin/notifications/notification/"
VECTOR = "</pre></title>\"'><script>alert('xss')</script>"


class AppliedFactory(ReceiptFactory):
    """A receipt whose notification was found, as nearly all are."""

    notification = SubFactory(NotificationFactory)
    received_at = SelfAttribute("occurred_at")
    applied_at = SelfAttribute("occurred_at")


def client_of(group: str) -> Client:
    user = UserFactory(username=f"an {group}")
    user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return client_of(groups.OPERATOR)


def page(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, path
    return response.content.decode()


def page_of(told: Receipt) -> str:
    return f"{LIST}{told.pk}/change/"


def detail(notification: Notification) -> str:
    return f"{NOTIFICATIONS}{notification.pk}/change/"


def rows(text: str) -> set[int]:
    """The receipts that a list shows."""
    return {int(id) for id in re.findall(rf"{LIST}(\d+)/change/", text)}


def delivered(**fields: Any) -> Notification:
    now = timezone.now()
    return NotificationFactory(
        **{"status": "delivered", "provider": "mailgun", "sent_at": now, "delivered_at": now}
        | fields
    )


# --- In the timeline -----------------------------------------------------------------------------------------


def titles(text: str) -> list[str]:
    return re.findall(r"<b>([^<]+)</b>", text.partition('<ol class="ntf-timeline">')[2])


def test_receipts_stand_in_the_timeline_in_the_order_in_which_things_happened(
    operator: Client,
) -> None:
    start = timezone.now() - timedelta(minutes=9)
    notification = delivered(created_at=start, delivered_at=start + timedelta(minutes=3))
    AttemptFactory(
        notification=notification,
        started_at=start + timedelta(minutes=1),
        finished_at=start + timedelta(minutes=1),
        outcome="accepted",
    )
    for minutes, event in ((4, "opened"), (3, "delivered"), (2, "deferred")):
        AppliedFactory(
            notification=notification, event=event, occurred_at=start + timedelta(minutes=minutes)
        )
    shown = page(operator, detail(notification))
    assert titles(shown) == [
        "Accepted",
        "Call 1: accepted",
        "Receipt: deferred",
        "Receipt: delivered",
        "Receipt: opened",
    ]
    assert "Delivered: mailgun reported 6 min ago that it arrived." in shown


def test_what_happened_at_the_same_moment_stands_in_the_order_in_which_it_came(
    operator: Client,
) -> None:
    """A vendor may tell no time, or whole seconds only."""
    notification, moment = delivered(), timezone.now()
    for event in ("queued", "sent", "delivered"):
        AppliedFactory(notification=notification, event=event, occurred_at=moment)
    receipts = [title for title in titles(page(operator, detail(notification))) if ":" in title]
    assert receipts == ["Receipt: queued", "Receipt: sent", "Receipt: delivered"]


def test_a_receipt_tells_its_facts_its_words_and_leads_to_its_page(operator: Client) -> None:
    occurred = timezone.now() - timedelta(minutes=5)
    told = AppliedFactory(
        event="bounced",
        reject_reason="timed_out",
        code="mailgun_605",
        detail="452 4.2.2 mailbox full",
        occurred_at=occurred,
        received_at=occurred + timedelta(seconds=90),
    )
    shown = page(operator, detail(told.notification))
    assert "mailgun · reason timed out · code mailgun_605 · came 90 s later" in shown
    assert "<blockquote>452 4.2.2 mailbox full</blockquote>" in shown
    assert f'href="{page_of(told)}"' in shown


def test_one_that_came_at_once_does_not_tell_how_late_it_was(operator: Client) -> None:
    told = AppliedFactory()
    assert "later</p>" not in page(operator, detail(told.notification))


@pytest.mark.parametrize(
    ("event", "tone"),
    [
        ("delivered", "good"),
        ("opened", "good"),
        ("deferred", "warning"),
        ("unsubscribed", "warning"),
        ("complained", "bad"),
        ("bounced", "bad"),
        ("rejected", "bad"),
        ("queued", "plain"),
        ("unknown", "plain"),
        ("a word of tomorrow", "plain"),
    ],
)
def test_each_event_has_its_tone(event: str, tone: str) -> None:
    assert timeline.tone_of(Receipt(event=event)) == tone


def test_delivered_is_not_told_twice_but_told_where_no_receipt_says_so(operator: Client) -> None:
    by_receipt, otherwise = delivered(), delivered()
    AppliedFactory(notification=by_receipt, event="delivered")
    AppliedFactory(notification=otherwise, event="opened")
    assert "Delivered" not in titles(page(operator, detail(by_receipt)))
    assert "Delivered" in titles(page(operator, detail(otherwise)))


def test_a_suppression_stands_in_the_timeline_of_the_notification_it_came_of(
    operator: Client,
) -> None:
    bounced = AppliedFactory(event="bounced", notification__address="Ada@example.com")
    listed = SuppressionFactory(
        project=bounced.notification.project,
        address="ada@example.com",
        notification=bounced.notification,
        receipt=bounced,
        created_at=timezone.now(),
    )
    another = NotificationFactory(
        recipient=bounced.notification.recipient, address="ada@example.com"
    )
    shown = page(operator, detail(bounced.notification))
    assert titles(shown)[-2] == "Address suppressed: hard bounce"
    assert f"/admin/notifications/suppression/{listed.pk}/change/" in shown
    shown = page(operator, detail(another))
    assert "Address suppressed" not in shown
    assert "But its address is suppressed (hard_bounce)" in shown


def test_the_page_asks_the_same_few_queries_however_many_receipts_there_are(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    notification = delivered()
    for _ in range(30):
        AppliedFactory(notification=notification, event="opened", raw="x" * 1000)
    with django_assert_max_num_queries(13) as asked:
        assert page(operator, detail(notification)).count("Receipt: opened") == 30
    assert not any('"raw"' in query["sql"] for query in asked.captured_queries)


def test_of_very_many_receipts_the_newest_are_shown_and_the_page_says_so(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("notifications.circumstances", "notifications.admin.notification"):
        monkeypatch.setattr(f"{module}.MOST_RECEIPTS", 2)
    notification = delivered()
    for minutes, event in ((3, "delivered"), (2, "opened"), (1, "complained")):
        occurred = timezone.now() - timedelta(minutes=minutes)
        AppliedFactory(notification=notification, event=event, occurred_at=occurred)
    shown = page(operator, detail(notification))
    assert "The newest 2 receipts" in shown
    assert "Receipt: complained" in shown
    assert "Receipt: delivered" not in shown
    assert len(rows(page(operator, f"{LIST}?q={notification.pk}"))) == 3


# --- Who sees what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [groups.OPERATOR, groups.ADMINISTRATOR])
def test_staff_read_receipts_and_nobody_adds_changes_or_removes_one(db: None, group: str) -> None:
    client, told = client_of(group), AppliedFactory()
    assert f'href="{LIST}"' in page(client, "/admin/")
    assert rows(page(client, LIST)) == {told.pk}
    page(client, page_of(told))
    page(client, f"{LIST}add/", 403)
    page(client, f"{LIST}{told.pk}/delete/", 403)
    assert client.post(page_of(told), {"event": "bounced"}).status_code == 403
    assert "delete_selected" not in page(client, LIST)


def test_not_even_a_superuser_removes_one(db: None) -> None:
    client, told = Client(), AppliedFactory()
    client.force_login(UserFactory(is_superuser=True))
    assert client.post(f"{LIST}{told.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(page_of(told), {"event": "bounced"}).status_code == 403
    told.refresh_from_db()
    assert told.event == "delivered"


def test_others_see_none(db: None) -> None:
    told, client = AppliedFactory(), Client()
    assert client.get(LIST).status_code == 302
    client.force_login(UserFactory())
    for path in (LIST, page_of(told)):
        page(client, path, 403)
    assert f'href="{LIST}"' not in page(client, "/admin/")


# --- The list ------------------------------------------------------------------------------------------------


@pytest.fixture
def unmatched(db: None) -> Receipt:
    return AppliedFactory(
        notification=None, applied_at=None, provider="twilio", event="bounced", named_id=uuid7()
    )


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"both"}),
        ("?provider=twilio", {"unmatched"}),
        ("?event=delivered", {"matched"}),
        ("?matched=0", {"unmatched"}),
        ("?matched=1", {"matched"}),
        ("?matched=0&event=bounced&provider=twilio", {"unmatched"}),
        ("?matched=0&event=delivered", set()),
        ("?event=nonsense&provider=nobody&matched=x&p=x", {"both"}),
    ],
)
def test_filters_narrow_the_list(
    operator: Client, unmatched: Receipt, query: str, shown: set[str]
) -> None:
    matched = AppliedFactory()
    ids = {"unmatched": {unmatched.pk}, "matched": {matched.pk}, "both": {unmatched.pk, matched.pk}}
    response = operator.get(LIST + query, follow=True)
    wanted = ids[shown.pop()] if shown else set()
    assert rows(response.content.decode()) == wanted


def test_the_newest_stand_first_and_link_to_their_notifications(
    operator: Client, unmatched: Receipt
) -> None:
    newer = AppliedFactory()
    text = page(operator, LIST)
    assert re.findall(rf"{LIST}(\d+)/change/", text) == [str(newer.pk), str(unmatched.pk)]
    assert detail(newer.notification) in text
    assert "not matched" in text


def test_the_search_goes_by_the_notifications_id_and_by_the_providers(operator: Client) -> None:
    told = AppliedFactory(notification__provider_message_id="<20260504.1@mg.example>")
    AppliedFactory()
    for term in (told.notification_id, "<20260504.1@mg.example>"):
        response = operator.get(LIST, {"q": f" {term} "})
        assert rows(response.content.decode()) == {told.pk}
    for term in ("nobody", "x" * 5000, str(uuid7())):
        response = operator.get(LIST, {"q": term}, follow=True)
        assert not rows(response.content.decode())


def test_the_list_neither_counts_nor_fetches_without_bound(operator: Client) -> None:
    for _ in range(3):
        AppliedFactory(raw="x" * 1000)
    with CaptureQueriesContext(connection) as asked:
        page(operator, f"{LIST}?_facets=True")
    statements = [query["sql"] for query in asked.captured_queries]
    ours = [sql for sql in statements if "notifications_receipt" in sql]
    counts = [sql for sql in ours if "COUNT(" in sql]
    assert all(f"LIMIT {console.MOST_COUNTED + 1}" in sql for sql in counts)
    assert counts
    assert not any('"raw"' in sql for sql in ours)


def test_a_filter_without_an_index_says_how_far_it_looked(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = AppliedFactory(event="bounced")
    for _ in range(3):
        AppliedFactory()
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 3)
    text = page(operator, f"{LIST}?event=bounced")
    assert old.pk not in rows(text)
    assert "Only the newest 3 were looked through" in text


@pytest.fixture
def many(db: None) -> None:
    """5,000 receipts of 1,000 notifications, one in a hundred not matched, and statistics that say so."""
    first = NotificationFactory()
    of_first = {"recipient": first.recipient, "provider": "mailgun"}
    built = NotificationFactory.build_batch(999, flow_id=first.flow_id, **of_first)
    for number, notification in enumerate(built):
        notification.provider_message_id = f"<{number}@mg.example>"
    notifications = [first, *Notification.objects.bulk_create(built)]
    Receipt.objects.bulk_create(
        AppliedFactory.build(notification=None if n % 100 == 0 else notifications[n % 1000])
        for n in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification, notifications_receipt")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("", "notifications_receipt_pkey"),
        ("?event=delivered", "notifications_receipt_pkey"),
        ("?matched=1", "notifications_receipt_pkey"),
        ("?matched=0", "receipt_unmatched"),
    ],
)
def test_the_list_reads_through_an_index(
    many: None, operator: Client, monkeypatch: pytest.MonkeyPatch, query: str, index: str
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 500)
    plan = operator.get(LIST + query).context["cl"].queryset[:50].explain()
    assert index in plan
    assert "Seq Scan" not in plan


def test_the_search_goes_through_indexes(many: None) -> None:
    notification = Notification.objects.exclude(provider_message_id="").first()
    assert notification is not None
    for term in (str(notification.pk), notification.provider_message_id):
        assert "receipt_notification" in receipt.found(term)[: console.MOST_COUNTED].explain()
    with CaptureQueriesContext(connection) as asked:
        receipt.found(notification.provider_message_id)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {asked.captured_queries[0]['sql']}")
        assert "notification_provider_id" in str(cursor.fetchall())


# --- One as it came ------------------------------------------------------------------------------------------


def test_the_page_shows_everything_and_breaks_the_lines_of_json(operator: Client) -> None:
    told = AppliedFactory(
        event="bounced",
        reject_reason="bounced",
        code="mailgun_605",
        detail="550 no such user",
        provider_message_id="<1@mg.example>",
        named_id=uuid7(),
        raw=json.dumps({"event": "failed", "who": "Ada Łovelace"}),
    )
    listed = SuppressionFactory(receipt=told, notification=told.notification)
    shown = page(operator, page_of(told))
    for words in (
        "mailgun: bounced",
        "mailgun_605",
        "550 no such user",
        "&lt;1@mg.example&gt;",
        str(told.named_id),
        told.event_id,
        detail(told.notification),
        f"/admin/notifications/suppression/{listed.pk}/change/",
        "Applied to its notification just now.",
        "{\n  &quot;event&quot;: &quot;failed&quot;,\n  &quot;who&quot;: &quot;Ada Łovelace&quot;\n}",
    ):
        assert words in shown


def test_one_that_is_not_matched_tells_when_its_notification_is_looked_for_again(
    operator: Client, unmatched: Receipt
) -> None:
    assert "a worker is to look for its notification" in page(operator, page_of(unmatched))
    Receipt.objects.update(due_at=timezone.now() + timedelta(hours=3, seconds=30))
    shown = page(operator, page_of(unmatched))
    assert "not found yet; that is tried again in 3 h" in shown
    assert str(unmatched.named_id) in shown


@pytest.mark.parametrize("raw", ['{"cut": "of', "plain words", "[" * 60_000, "9" * 5000, ""])
def test_what_cannot_be_read_as_json_is_shown_as_it_came(raw: str) -> None:
    assert receipt.readable(raw) == raw


def test_text_of_others_is_shown_and_never_obeyed(operator: Client) -> None:
    told = AppliedFactory(
        provider=VECTOR[:50],
        event_id=VECTOR,
        event=VECTOR[:13],
        reject_reason=VECTOR[:12],
        code=VECTOR,
        detail=VECTOR,
        provider_message_id=VECTOR,
        raw=json.dumps({VECTOR: VECTOR}),
    )
    for path in (LIST, page_of(told), detail(told.notification)):
        shown = page(operator, path)
        assert "<script>alert(" not in shown
        assert VECTOR[:12] not in shown


def test_an_unknown_id_leads_back_and_a_wrong_one_is_no_fault(operator: Client) -> None:
    for id in ("4711", "no-number", "9" * 40):
        assert operator.get(f"{LIST}{id}/change/").status_code == 302
