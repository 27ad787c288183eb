"""A notification's page: its resends, who has it now, what operators did and why, and where one goes on from it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications import bulk_actions
from notifications.acts import ACTS, carry_out
from notifications.admin import timeline
from notifications.carrying import Carrier, take
from notifications.models import Notification
from tests.factories import (  # fmt: skip
    AttemptFactory,
    NotificationFactory,
    ReceiptFactory,
    RecipientFactory,
    SuppressionFactory,
    UserFactory,
)
from tests.test_growth import pages_read
from users import groups
from users.models import Project, User

LIST = "/admin/notifications/notification/"

# Old ones of others, so that a plan which goes through the table is seen.
OTHERS = """
INSERT INTO notifications_notification
SELECT (jsonb_populate_record(n, jsonb_build_object(
    'resend_of_id', NULL, 'address', 'other' || i || '@example.com',
    'id', lpad(to_hex(i), 8, '0') || substr(gen_random_uuid()::text, 9)))).*
FROM notifications_notification n, generate_series(1, 8000) i WHERE n.id = %s
"""


@pytest.fixture
def olga(db: None) -> User:
    user: User = UserFactory(username="olga")
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    return user


@pytest.fixture
def operator(olga: User) -> Client:
    return client_of(olga)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def shown(client: Client, notification: Notification) -> str:
    response = client.get(f"{LIST}{notification.pk}/change/")
    assert response.status_code == 200
    return response.content.decode()


def failed(**fields: Any) -> Notification:
    failure = {"status": "failed", "failure_kind": "permanent", "failure_code": "550"}
    return NotificationFactory(**failure | fields)


def chain_on(text: str) -> list[str]:
    """The ids, or `this one`, in the order of the page."""
    listed = text.partition("ntf-numbered")[2].partition("</ol>")[0]
    return re.findall(r">(this one|[0-9a-f-]{36})</(?:b|a)>", listed)


# --- Resends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(4))
def test_all_generations_of_resends_are_linked_from_each(operator: Client, place: int) -> None:
    chain = [failed()]
    for _ in range(3):
        chain.append(failed(resend_of=chain[-1]))
    failed(resend_of=failed())  # Another chain.
    text = shown(operator, chain[place])
    expected = [str(each.pk) for each in chain]
    expected[place] = "this one"
    assert chain_on(text) == expected
    assert "The first one and its resends" in text


def test_what_was_never_resent_has_no_chain(operator: Client) -> None:
    assert "ntf-numbered" not in shown(operator, failed())


# --- The timeline --------------------------------------------------------------------------------------------


def test_who_has_it_now_is_told(operator: Client) -> None:
    claimed = NotificationFactory(leased_until=timezone.now() + timedelta(minutes=1), fence=3)
    assert "a worker has it until" in shown(operator, claimed)
    assert "claim 3" in shown(operator, claimed)
    assert "a worker has it until" not in shown(operator, NotificationFactory())


def test_an_act_is_told_with_name_and_reason(operator: Client, olga: User) -> None:
    waiting = NotificationFactory()
    carry_out(ACTS["cancel"], [waiting], olga, reason="He moved: new address")
    text = shown(operator, waiting)
    assert "<b>Cancelled: He moved: new address</b>" in text
    assert "by olga" in text


def test_an_act_on_many_is_told_on_each(operator: Client, olga: User) -> None:
    waiting = [NotificationFactory() for _ in range(2)]
    made = bulk_actions.make(ACTS["cancel"], {"status": "pending"}, None, False, "Sent by mistake", olga)  # fmt: skip
    taken = take(made.pk)
    assert taken
    Carrier(taken).carry_on()
    for each in waiting:
        text = shown(operator, each)
        assert "<b>Cancelled: Sent by mistake</b>" in text
        assert "by olga" in text


def test_of_very_many_acts_the_newest_are_told(
    operator: Client, olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MOST_ACTS", 2)
    waiting = NotificationFactory()
    for reason in ("first", "second", "third"):
        carry_out(ACTS["retry"], [waiting], olga, reason=reason)
    text = shown(operator, waiting)
    assert ": first" not in text
    assert text.index(": second") < text.index(": third")


# --- Where one goes on ---------------------------------------------------------------------------------------


def test_it_leads_to_what_is_like_it(operator: Client) -> None:
    like = failed(address="a+b@example.com", provider="smtp", reference="order&7")
    text = shown(operator, like)
    assert f'href="{LIST}?q=a%2Bb%40example.com"' in text
    assert f'href="{LIST}?q=order%267"' in text
    assert f'href="{LIST}?provider=smtp"' in text
    assert f'href="{LIST}?failure_code=550"' in text
    assert f"/admin/users/recipient/{like.recipient_id}/change/" in text


def test_no_link_leads_to_a_page_that_is_refused(db: None) -> None:
    user = UserFactory()
    user.user_permissions.add(Permission.objects.get(codename="view_notification"))
    assert "/admin/users/recipient/" not in shown(client_of(user), failed())


# --- What it costs -------------------------------------------------------------------------------------------


@pytest.fixture
def eventful(alice: Project, olga: User) -> Notification:
    """With everything that a page can tell."""
    who = RecipientFactory(project=alice)
    old = failed(recipient=who)
    middle = failed(recipient=who, resend_of=old)
    failed(recipient=who, resend_of=middle)
    for fence in range(5):
        AttemptFactory(notification=middle, outcome="temporary", fence=fence, finished_at=timezone.now())  # fmt: skip
        ReceiptFactory(notification=middle, event="deferred")
    SuppressionFactory(project=alice, address=middle.address.lower(), notification=middle)
    return middle


def test_the_page_asks_at_most_twelve_queries(
    operator: Client, eventful: Notification, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    shown(operator, eventful)
    with django_assert_max_num_queries(12):
        shown(operator, eventful)


def test_the_page_of_a_waiting_one_asks_at_most_twelve_queries(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    waiting = NotificationFactory(resend_of=failed())
    shown(operator, waiting)
    with django_assert_max_num_queries(12):
        shown(operator, waiting)


def test_the_page_reads_few_pages_of_a_big_table(operator: Client, eventful: Notification) -> None:
    with connection.cursor() as cursor:
        cursor.execute(OTHERS, [eventful.pk])
        cursor.execute("ANALYZE notifications_notification")
    assert pages_read(lambda: shown(operator, eventful)) < 60
