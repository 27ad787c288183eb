"""A recipient's page: may the person be written to, what was sent, what did not arrive and why."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications.admin import recipient as page
from tests.factories import (
    AddressFactory,
    NotificationFactory,
    RecipientFactory,
    SuppressionFactory,
    UserFactory,
)
from tests.test_growth import pages_read
from users import groups
from users.models import Project, Recipient, User

# A person who gets a newsletter each minute.
MANY = """
INSERT INTO notifications_notification
SELECT (jsonb_populate_record(n, jsonb_build_object('id', lpad(to_hex(i), 8, '0') || substr(gen_random_uuid()::text, 9)))).*
FROM notifications_notification n, generate_series(1, 8000) i WHERE n.id = %s
"""


@pytest.fixture
def operator(db: None) -> Client:
    user = UserFactory()
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    return client_of(user)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def ada(alice: Project) -> Recipient:
    recipient: Recipient = RecipientFactory(project=alice, user_id="ada")
    AddressFactory(recipient=recipient, value="Ada@example.com")
    AddressFactory(recipient=recipient, channel="sms", value="+15005550006")
    return recipient


def url_of(recipient: Recipient) -> str:
    return f"/admin/users/recipient/{recipient.pk}/change/"


def shown(client: Client, recipient: Recipient) -> str:
    response = client.get(url_of(recipient))
    assert response.status_code == 200
    return response.content.decode()


def test_it_says_which_address_is_suppressed_and_why(operator: Client, ada: Recipient) -> None:
    listed = SuppressionFactory(project=ada.project, address="ada@example.com", reason="complaint")
    SuppressionFactory(address="ada@example.com", reason="stop")  # Of another project.
    text = shown(operator, ada)
    assert "suppressed: complaint" in text
    assert reverse("admin:notifications_suppression_change", args=[listed.pk]) in text
    assert text.count(">not suppressed<") == 1
    assert "suppressed: STOP" not in text


def test_it_leads_to_all_that_went_to_an_address(operator: Client, ada: Recipient) -> None:
    assert f"?q={quote('+15005550006', safe='')}" in shown(operator, ada)


def test_the_history_is_over_all_channels_newest_first(operator: Client, ada: Recipient) -> None:
    titles = ["By mail", "By phone", "In the app"]
    for channel, title in zip(("email", "sms", "in_app"), titles, strict=True):
        NotificationFactory(recipient=ada, channel=channel, title=title)
    NotificationFactory(recipient=RecipientFactory(project=ada.project), title="Somebody else's")
    text = shown(operator, ada)
    places = [text.index(title) for title in titles]
    assert places == sorted(places, reverse=True)
    assert "Somebody else" not in text


def test_what_did_not_arrive_is_listed_with_the_words_however_much_was_sent_since(
    operator: Client, ada: Recipient
) -> None:
    NotificationFactory(recipient=ada, title="The bill", status="failed", failure_kind="permanent", failure_code="550",
                        failure_detail="No such user here")  # fmt: skip
    for _ in range(page.MOST_LISTED):
        NotificationFactory(recipient=ada, status="sent", sent_at=timezone.now())
    text = shown(operator, ada)
    assert "The bill" in text
    assert "code 550" in text
    assert "No such user here" in text
    assert f"Sent {page.MOST_LISTED}" in text
    assert "Failed 1" in text
    assert "all of it" in text


def test_only_the_newest_are_counted_and_the_page_says_so(
    operator: Client, ada: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_LOOKED_AT", 3)
    for _ in range(4):
        NotificationFactory(recipient=ada)
    text = shown(operator, ada)
    assert "Pending 3" in text
    assert "Of the newest 3." in text


def test_without_the_right_to_see_notifications_none_is_shown(ada: Recipient) -> None:
    NotificationFactory(recipient=ada, title="Private")
    SuppressionFactory(project=ada.project, address="ada@example.com", reason="complaint")
    user = UserFactory()
    user.user_permissions.add(Permission.objects.get(codename="view_recipient"))
    text = shown(client_of(user), ada)
    assert "Ada@example.com" in text
    assert "Private" not in text
    assert "What was sent" not in text
    assert "complaint" not in text


def test_the_page_asks_a_bounded_number_of_queries(
    operator: Client, ada: Recipient, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        NotificationFactory(recipient=ada, status="failed", failure_kind="permanent")
    shown(operator, ada)
    with django_assert_max_num_queries(12):
        shown(operator, ada)


def test_the_page_of_who_gets_very_many_reads_few_pages(operator: Client, ada: Recipient) -> None:
    like = NotificationFactory(recipient=ada)
    with connection.cursor() as cursor:
        cursor.execute(MANY, [like.pk])
        cursor.execute("ANALYZE notifications_notification")
    assert pages_read(lambda: shown(operator, ada)) < 600
