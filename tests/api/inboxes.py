"""What tests of the inbox share: a person's browser, and what the database says about an inbox."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from notifications.inbox.entry import entry_for
from notifications.models import Inbox, InboxEvent, Notification
from users.models import Recipient

LIST = "/api/v1/inbox"
COUNT = "/api/v1/inbox/count"
READ_ALL = "/api/v1/inbox/read-all"
STREAM = "/api/v1/inbox/stream"


def item(notification: Notification) -> str:
    """Where one message is changed."""
    return f"{LIST}/{notification.pk}"


def token_of(recipient: Recipient, live: bool = True, **kwargs: Any) -> str:
    return entry_for(recipient.project_id, recipient.user_id, live=live, **kwargs).token


def browser_with(token: str) -> APIClient:
    """A browser in which a page of ours holds this token."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def browser_of(recipient: Recipient, live: bool = True) -> APIClient:
    return browser_with(token_of(recipient, live))


def ids_in(answer: Any) -> list[str]:
    """The messages of a page, in its order."""
    assert answer.status_code == 200, answer.content
    return [each["id"] for each in answer.json()["results"]]


def numbers_of(recipient: Recipient, live: bool = True) -> list[tuple[int, str, int]]:
    """The changes of the inbox that are kept, as (number, kind, unread)."""
    events = InboxEvent.objects.filter(inbox__recipient=recipient, inbox__live=live)
    return list(events.order_by("number").values_list("number", "kind", "unread"))


def assert_it_adds_up(recipient: Recipient, live: bool = True) -> None:
    """The counter is the number of unread ones, and the events lead up to it without a gap."""
    inbox = Inbox.objects.get(recipient=recipient, live=live)
    unread = Notification.objects.of_inbox(recipient.pk, live).filter(
        read_at=None, archived_at=None
    )
    assert inbox.unread == unread.count()
    numbers = [number for number, _, _ in numbers_of(recipient, live)]
    assert numbers == list(range(1, inbox.position + 1))
