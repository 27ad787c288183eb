"""What a person's browser does with the inbox: list, count, mark; and that its numbers have no gap, whoever is at it."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.utils import timezone
from rest_framework.test import APIClient

from notifications import housekeeping, ids
from notifications.inbox import marking, numbering
from notifications.models import Inbox, InboxEvent, Notification
from tests.api.inboxes import (
    COUNT,
    LIST,
    READ_ALL,
    STREAM,
    assert_it_adds_up,
    browser_of,
    ids_in,
    item,
    numbers_of,
)
from tests.api.parallel import at_once
from tests.api.problems import problem_of, refused
from tests.factories import AttemptFactory, NotificationFactory, RecipientFactory, arrived
from users.models import Project, Recipient
from users.refusals import Conflict

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(alice: Project) -> Recipient:
    recipient: Recipient = RecipientFactory(project=alice, user_id="ann")
    return recipient


@pytest.fixture
def browser(ann: Recipient) -> APIClient:
    """Ann's."""
    return browser_of(ann)


def mark(browser: APIClient, notification: Notification, status: str) -> Any:
    return browser.patch(item(notification), {"status": status}, format="json")


def count(browser: APIClient) -> tuple[int, int]:
    """(unread, position)."""
    answer = browser.get(COUNT).json()
    return answer["unread"], answer["position"]


# --- The list ----------------------------------------------------------------------------------------


def test_an_inbox_in_which_nothing_ever_arrived_is_empty(browser: APIClient) -> None:
    answer = browser.get(LIST).json()
    assert answer["results"] == []
    assert (answer["unread"], answer["position"]) == (0, 0)
    assert (answer["next"], answer["previous"]) == (None, None)
    assert count(browser) == (0, 0)
    assert browser.post(READ_ALL, {"up_to": 0}, format="json").json() == {
        "unread": 0,
        "position": 0,
    }


def test_an_item_has_what_its_person_sees_and_nothing_of_the_backends(
    browser: APIClient, ann: Recipient
) -> None:
    told = arrived(
        ann,
        title="Your order",
        message="It is on its way.",
        url="https://shop.example/7",
        category="orders",
        metadata={"internal": "secret"},
        reference="order-7",
    )
    [shown] = browser.get(LIST).json()["results"]
    assert shown.pop("created_at")
    assert shown.pop("delivered_at")
    assert shown == {
        "id": str(told.pk),
        "position": 1,
        "title": "Your order",
        "message": "It is on its way.",
        "url": "https://shop.example/7",
        "category": "orders",
        "priority": "normal",
        "read_at": None,
        "archived_at": None,
    }


def test_it_has_what_arrived_the_last_first(browser: APIClient, ann: Recipient) -> None:
    made = [NotificationFactory(recipient=ann, channel="in_app") for _ in range(2)]
    NotificationFactory(recipient=ann, channel="email", status="delivered", sent_at=timezone.now())
    late = arrived(ann, created_at=timezone.now() - timedelta(days=3))
    first = arrived(ann)
    assert ids_in(browser.get(LIST)) == [str(first.pk), str(late.pk)]
    Notification.objects.filter(pk__in=[each.pk for each in made]).update(
        status="delivered", sent_at=timezone.now()
    )
    numbering.arrive([each.pk for each in made])
    assert len(ids_in(browser.get(LIST))) == 4


def test_the_inbox_has_a_name_of_its_own_that_stays(browser: APIClient, ann: Recipient) -> None:
    name = browser.get(LIST).json()["inbox"]
    arrived(ann)
    assert browser.get(LIST).json()["inbox"] == name
    others = [browser_of(ann, live=False), browser_of(RecipientFactory(project=ann.project))]
    assert len({name} | {other.get(LIST).json()["inbox"] for other in others}) == 3


def test_pages_miss_none_and_repeat_none_while_new_ones_arrive(
    browser: APIClient, ann: Recipient
) -> None:
    there = [str(arrived(ann).pk) for _ in range(7)]
    seen, url = [], f"{LIST}?limit=2"
    while url:
        page = browser.get(url)
        seen += ids_in(page)
        arrived(ann)
        url = page.json()["next"]
    assert seen == there[::-1]


def test_one_pages_back_to_where_one_was(browser: APIClient, ann: Recipient) -> None:
    for _ in range(4):
        arrived(ann)
    first = browser.get(f"{LIST}?limit=2")
    second = browser.get(first.json()["next"])
    assert ids_in(browser.get(second.json()["previous"])) == ids_in(first)


def test_filters_hold_together(browser: APIClient, ann: Recipient) -> None:
    plain, news = arrived(ann), arrived(ann, category="news")
    read_news, archived = arrived(ann, category="news"), arrived(ann, category="news")
    marking.mark_read(read_news.pk)
    marking.archive(archived.pk)
    found = {
        "": [read_news, news, plain],
        "?unread=true": [news, plain],
        "?unread=false": [read_news],
        "?category=news": [read_news, news],
        "?category=news&unread=true": [news],
        "?archived=true": [archived],
        "?archived=true&category=other": [],
    }
    for query, expected in found.items():
        assert ids_in(browser.get(LIST + query)) == [str(each.pk) for each in expected], query


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("unread=perhaps", "unread"),
        ("archived=2", "archived"),
        ("category=" + "x" * 101, "category"),
        ("category=%00", "category"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=100000", "limit"),
        ("cursor=nonsense", "cursor"),
        ("user_id=bob", "user_id"),
        ("live=false", "live"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(browser: APIClient, query: str, field: str) -> None:
    document = problem_of(browser.get(f"{LIST}?{query}"), 400)
    assert [error["field"] for error in document["errors"]] == [field]


# --- Marking one -------------------------------------------------------------------------------------


def test_each_mark_is_a_change_with_the_next_number_and_the_count_after_it(
    browser: APIClient, ann: Recipient
) -> None:
    one = arrived(ann)
    for status in ("read", "unread", "archived", "unarchived"):
        assert mark(browser, one, status).status_code == 200
    assert numbers_of(ann) == [
        (1, "created", 1),
        (2, "updated", 0),
        (3, "updated", 1),
        (4, "updated", 0),
        (5, "updated", 1),
    ]
    assert count(browser) == (1, 5)
    assert_it_adds_up(ann)


def test_a_mark_that_changes_nothing_gets_no_number(browser: APIClient, ann: Recipient) -> None:
    one = arrived(ann)
    for status in ("unread", "unarchived", "read", "read", "archived", "archived"):
        assert mark(browser, one, status).status_code == 200, status
    assert numbers_of(ann) == [(1, "created", 1), (2, "updated", 0), (3, "updated", 0)]


def test_reading_again_keeps_the_time(browser: APIClient, ann: Recipient) -> None:
    one = arrived(ann)
    first = mark(browser, one, "read").json()["read_at"]
    assert first is not None
    assert mark(browser, one, "read").json()["read_at"] == first


def test_what_is_archived_is_not_counted_whether_read_or_not(
    browser: APIClient, ann: Recipient
) -> None:
    read, unread = arrived(ann), arrived(ann)
    mark(browser, read, "read")
    for each in (read, unread):
        assert mark(browser, each, "archived").json()["archived_at"]
    assert count(browser)[0] == 0
    assert ids_in(browser.get(LIST)) == []
    mark(browser, read, "unread")
    assert count(browser)[0] == 0
    for each in (read, unread):
        assert mark(browser, each, "unarchived").json()["archived_at"] is None
    assert count(browser)[0] == 2
    assert_it_adds_up(ann)


def test_the_backends_mark_moves_the_persons_count_too(
    browser: APIClient, client_of_alice: APIClient, ann: Recipient
) -> None:
    one = arrived(ann)
    path = f"/api/v1/notifications/{one.pk}/status"
    assert client_of_alice.patch(path, {"status": "read"}, format="json").status_code == 200
    assert count(browser) == (0, 2)
    assert_it_adds_up(ann)


def test_what_was_read_before_it_arrived_is_not_counted(ann: Recipient) -> None:
    arrived(ann, read_at=timezone.now())
    assert numbers_of(ann) == [(1, "created", 0)]
    assert_it_adds_up(ann)


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({}, "status", "required"),
        ({"status": None}, "status", "required"),
        ({"status": "delivered"}, "status", "invalid_choice"),
        ({"status": ["read"]}, "status", "invalid_choice"),
        ({"status": "read", "read_at": "2026-01-01"}, "read_at", "unknown_field"),
        ([], "", "not_an_object"),
    ],
)
def test_a_mark_that_is_none_names_what_is_wrong(
    browser: APIClient, ann: Recipient, body: Any, field: str, code: str
) -> None:
    one = arrived(ann)
    refused(browser.patch(item(one), body, format="json"), 400, field, code)
    assert count(browser) == (1, 1)


def test_an_id_that_is_nowhere_is_not_found(browser: APIClient) -> None:
    problem_of(browser.patch(f"{LIST}/{uuid4()}", {"status": "read"}, format="json"), 404)


@pytest.mark.parametrize("id", ["x", "0", "%00", "a" * 300, "١"])
def test_an_id_that_is_none_is_named(browser: APIClient, id: str) -> None:
    refused(browser.patch(f"{LIST}/{id}", {"status": "read"}, format="json"), 400, "id", "invalid")


def test_what_has_not_arrived_is_not_in_the_inbox(browser: APIClient, ann: Recipient) -> None:
    waiting = NotificationFactory(recipient=ann, channel="in_app")
    mail = NotificationFactory(
        recipient=ann, channel="email", status="sent", sent_at=timezone.now()
    )
    for each in (waiting, mail):
        problem_of(mark(browser, each, "read"), 404)
    assert not Notification.objects.exclude(read_at=None).exists()


def test_a_mail_can_be_read_but_not_archived(ann: Recipient) -> None:
    mail = NotificationFactory(
        recipient=ann, channel="email", status="sent", sent_at=timezone.now()
    )
    marking.mark_read(mail.pk)
    with pytest.raises(Conflict):
        marking.archive(mail.pk)
    assert not InboxEvent.objects.exists()


# --- Reading all -------------------------------------------------------------------------------------


def test_what_arrived_after_the_position_stays_unread(browser: APIClient, ann: Recipient) -> None:
    first, second = arrived(ann), arrived(ann)
    position = count(browser)[1]
    late = arrived(ann)
    answer = browser.post(READ_ALL, {"up_to": position}, format="json")
    assert answer.json() == {"unread": 1, "position": 4}
    assert ids_in(browser.get(f"{LIST}?unread=true")) == [str(late.pk)]
    read = Notification.objects.filter(pk__in=[first.pk, second.pk])
    assert len({each.read_at for each in read}) == 1
    event = InboxEvent.objects.get(kind="read_all")
    assert (event.number, event.read_up_to, event.unread) == (4, 2, 1)
    assert event.at == read[0].read_at
    assert_it_adds_up(ann)


def test_reading_all_again_changes_nothing_and_gets_no_number(
    browser: APIClient, ann: Recipient
) -> None:
    arrived(ann)
    for _ in range(2):
        browser.post(READ_ALL, {"up_to": 1}, format="json")
    assert count(browser) == (0, 2)


def test_a_position_that_is_not_reached_yet_reads_what_is_there(
    browser: APIClient, ann: Recipient
) -> None:
    arrived(ann)
    answer = browser.post(READ_ALL, {"up_to": 2**63 - 1}, format="json")
    assert answer.json() == {"unread": 0, "position": 2}
    assert InboxEvent.objects.get(kind="read_all").read_up_to == 1


def test_reading_all_leaves_what_is_archived_as_it_is(browser: APIClient, ann: Recipient) -> None:
    put_away, other = arrived(ann), arrived(ann)
    mark(browser, put_away, "archived")
    browser.post(READ_ALL, {"up_to": 9}, format="json")
    put_away.refresh_from_db()
    other.refresh_from_db()
    assert (put_away.read_at, bool(other.read_at)) == (None, True)
    mark(browser, put_away, "unarchived")
    assert count(browser)[0] == 1
    assert_it_adds_up(ann)


def test_reading_all_reads_nobody_elses(browser: APIClient, ann: Recipient) -> None:
    other, test = arrived(RecipientFactory(project=ann.project)), arrived(ann, live=False)
    browser.post(READ_ALL, {"up_to": 9}, format="json")
    assert Notification.objects.filter(pk__in=[other.pk, test.pk], read_at=None).count() == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "up_to"),
        ({"up_to": -1}, "up_to"),
        ({"up_to": "all"}, "up_to"),
        ({"up_to": 2**63}, "up_to"),
        ({"up_to": 1.5}, "up_to"),
        ({"up_to": None}, "up_to"),
        ({"up_to": 1, "category": "x"}, "category"),
    ],
)
def test_a_position_that_is_none_is_named(browser: APIClient, body: Any, field: str) -> None:
    document = problem_of(browser.post(READ_ALL, body, format="json"), 400)
    assert [error["field"] for error in document["errors"]] == [field]


# --- The stream's address ----------------------------------------------------------------------------


def test_the_stream_is_found_through_the_web_process_and_keeps_the_query(
    settings: Any, browser: APIClient
) -> None:
    settings.STREAM_URL = "https://stream.example/api/v1/inbox/stream"
    answer = browser.get(f"{STREAM}?after=3")
    assert answer.status_code == 307
    assert answer["Location"] == "https://stream.example/api/v1/inbox/stream?after=3"
    assert answer["Cache-Control"] == "no-store"
    assert browser.get(LIST).json()["stream_url"] == settings.STREAM_URL


def test_in_development_it_is_beside_the_host_that_was_asked(
    settings: Any, browser: APIClient
) -> None:
    settings.STREAM_URL, settings.STREAM_PORT = "", 8010
    answer = browser.get(STREAM, headers={"host": "localhost:8000"})
    assert answer["Location"] == "http://localhost:8010/api/v1/inbox/stream"


def test_an_installation_without_a_stream_says_so(settings: Any, browser: APIClient) -> None:
    settings.STREAM_URL, settings.PRODUCTION = "", True
    assert problem_of(browser.get(STREAM), 503)["code"] == "stream_not_configured"
    assert browser.get(LIST).json()["stream_url"] is None
    settings.STREAM_URL = f"http://testserver{STREAM}"
    assert problem_of(browser.get(STREAM), 503)["code"] == "stream_not_configured"


# --- Making tokens -----------------------------------------------------------------------------------


def test_a_backend_makes_a_token_for_one_of_its_users(
    client_of_alice: APIClient, ann: Recipient
) -> None:
    before = timezone.now()
    answer = client_of_alice.post("/api/v1/users/ann/inbox-tokens", {}, format="json")
    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == {"token", "expires_at", "user_id", "live", "stream_url"}
    assert (told["user_id"], told["live"]) == ("ann", True)
    assert told["token"].startswith("ntf_inbox_")
    lifetime = timezone.datetime.fromisoformat(told["expires_at"]) - before
    assert timedelta(minutes=59) < lifetime <= timedelta(hours=1)


@pytest.mark.parametrize("seconds", [60, 86_400])
def test_it_says_for_how_long(client_of_alice: APIClient, ann: Recipient, seconds: int) -> None:
    body = {"expires_in": seconds}
    answer = client_of_alice.post("/api/v1/users/ann/inbox-tokens", body, format="json")
    expires_at = timezone.datetime.fromisoformat(answer.json()["expires_at"])
    assert abs((expires_at - timezone.now()).total_seconds() - seconds) < 30


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expires_in": 59}, "expires_in"),
        ({"expires_in": 86_401}, "expires_in"),
        ({"expires_in": "soon"}, "expires_in"),
        ({"live": False}, "live"),
        ({"user_id": "bob"}, "user_id"),
    ],
)
def test_what_a_token_cannot_be_is_named(client_of_alice: APIClient, body: Any, field: str) -> None:
    answer = client_of_alice.post("/api/v1/users/ann/inbox-tokens", body, format="json")
    document = problem_of(answer, 400)
    assert [error["field"] for error in document["errors"]] == [field]
    assert not Recipient.objects.exists()


def test_a_body_that_is_no_object_is_refused(client_of_alice: APIClient) -> None:
    answer = client_of_alice.post("/api/v1/users/ann/inbox-tokens", [1], format="json")
    problem_of(answer, 400)


def test_a_user_never_seen_is_made_once_and_may_still_be_registered(
    client_of_alice: APIClient,
) -> None:
    for _ in range(2):
        answer = client_of_alice.post("/api/v1/users/new/inbox-tokens", {}, format="json")
        assert answer.status_code == 201
    assert Recipient.objects.get().provisional
    body = {"user_id": "new", "email": "new@example.com"}
    assert client_of_alice.post("/api/v1/users", body, format="json").status_code == 201


def test_tokens_of_nobody_cannot_be_ended(client_of_alice: APIClient) -> None:
    problem_of(client_of_alice.delete("/api/v1/users/nobody/inbox-tokens"), 404)


# --- The numbers, when everybody is at it ------------------------------------------------------------


def test_taking_in_what_was_left_is_repeatable_and_goes_in_order(ann: Recipient) -> None:
    now = timezone.now()
    left = [
        NotificationFactory(recipient=ann, channel="in_app", status="delivered", sent_at=now)
        for _ in range(3)
    ]
    assert numbering.take_in_what_was_left() == 3
    assert numbering.take_in_what_was_left() == 0
    numbering.arrive([each.pk for each in left])
    positions = [Notification.objects.get(pk=each.pk).inbox_position for each in left]
    assert positions == [1, 2, 3]
    assert_it_adds_up(ann)


def test_what_retention_deletes_is_told_as_removed(ann: Recipient, settings: Any) -> None:
    settings.RETENTION_DAYS = 30
    long_ago = timezone.now() - timedelta(days=40)
    for read_at in (None, long_ago):
        old = UUID(int=ids.first_of(long_ago).int + 1 + bool(read_at))
        arrived(ann, id=old, created_at=long_ago, sent_at=long_ago, read_at=read_at)
    kept = arrived(ann)
    housekeeping.prune()
    assert [each.pk for each in Notification.objects.all()] == [kept.pk]
    assert [(kind, unread) for _, kind, unread in numbers_of(ann)][3:] == [
        ("removed", 1),
        ("removed", 1),
    ]
    assert_it_adds_up(ann)


def test_a_person_who_is_forgotten_leaves_no_inbox(
    client_of_alice: APIClient, ann: Recipient
) -> None:
    kept = arrived(RecipientFactory(project=ann.project))
    mine = [arrived(ann), arrived(ann, live=False)]
    marking.archive(mine[0].pk)
    assert client_of_alice.delete("/api/v1/users/ann").status_code == 204
    assert [inbox.recipient_id for inbox in Inbox.objects.all()] == [kept.recipient_id]
    assert [event.notification_id for event in InboxEvent.objects.all()] == [kept.pk]
    for each in mine:
        each.refresh_from_db()
        assert (each.inbox_position, each.recipient_id, each.title) == (None, None, "")


def test_changes_that_are_older_than_a_week_are_not_kept(ann: Recipient, settings: Any) -> None:
    arrived(ann)
    arrived(ann)
    old = timezone.now() - timedelta(days=settings.INBOX_EVENTS_KEPT, minutes=1)
    InboxEvent.objects.filter(number=1).update(at=old)
    housekeeping.prune()
    assert [number for number, _, _ in numbers_of(ann)] == [2]
    assert Inbox.objects.get().position == 2


@pytest.mark.django_db(transaction=True)
def test_eight_that_deliver_read_archive_and_prune_at_once_leave_no_gap(alice: Project) -> None:
    """Two people with two inboxes each; whoever comes second waits, and no two wait for each other."""
    people = [RecipientFactory(project=alice) for _ in range(2)]
    inboxes = [(person, live) for person in people for live in (True, False)]
    for person, live in inboxes * 3:
        arrived(person, live=live)

    def act(number: int) -> None:
        draw = random.Random(number)
        person, live = draw.choice(inboxes)
        _something(draw, person, live, inboxes)

    at_once(240, act, threads=8)
    for person, live in inboxes:
        assert_it_adds_up(person, live)


def _something(
    draw: random.Random, person: Recipient, live: bool, inboxes: list[tuple[Recipient, bool]]
) -> None:
    choice = draw.randrange(5)
    if choice == 0:
        return _deliver_to_all(draw, inboxes)
    if choice == 1:
        return marking.read_all(person.pk, live, draw.randrange(1, 60))
    if choice == 2:
        return _prune(draw)
    there = list(Notification.objects.of_inbox(person.pk, live).values_list("pk", flat=True))
    acts = (marking.mark_read, marking.mark_unread, marking.archive, marking.unarchive)
    with suppress(Notification.DoesNotExist):  # pruned meanwhile
        draw.choice(acts)(draw.choice(there or [uuid4()]))


def _deliver_to_all(draw: random.Random, inboxes: list[tuple[Recipient, bool]]) -> None:
    """As a worker does: one transaction for what goes to several, in the order in which it was claimed."""
    made = [
        NotificationFactory(recipient=person, live=live, channel="in_app")
        for person, live in inboxes * 2
    ]
    draw.shuffle(made)
    ids = [each.pk for each in made]
    with transaction.atomic():
        list(Notification.objects.select_for_update().filter(pk__in=ids).order_by("pk"))
        Notification.objects.filter(pk__in=ids).update(status="delivered", sent_at=timezone.now())
        numbering.arrive(ids)


def _prune(draw: random.Random) -> None:
    """As retention does: some are locked, whoever's they are, and deleted."""
    with transaction.atomic():
        rows = Notification.objects.exclude(inbox_position=None).order_by("pk")
        ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:3])
        housekeeping._delete(ids)


def test_deleting_through_the_ledgers_own_way_takes_attempts_along(ann: Recipient) -> None:
    one = arrived(ann)
    AttemptFactory(notification=one, provider="inbox")
    with transaction.atomic():
        assert housekeeping._delete([one.pk]) == 1
    assert_it_adds_up(ann)
