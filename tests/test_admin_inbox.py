"""The inbox in the console: the person's card, the end of their tokens, and which pages a project lets in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from notifications.inbox import marking
from tests.api.inboxes import COUNT, browser_of
from tests.factories import RecipientFactory, UserFactory, arrived
from users import groups
from users.models import ApiKey, Project, Recipient

VECTOR = "<img src=x onerror=alert(1)>"


def client_in(group: str, *projects: Project) -> Client:
    user = UserFactory()
    user.groups.add(Group.objects.get(name=group))
    user.projects.set(projects)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def operator(db: None) -> Client:
    return client_in(groups.OPERATOR)


@pytest.fixture
def administrator(db: None) -> Client:
    return client_in(groups.ADMINISTRATOR)


@pytest.fixture
def ann(alice: Project) -> Recipient:
    recipient: Recipient = RecipientFactory(project=alice, user_id="ann")
    return recipient


def page_of(recipient: Recipient) -> str:
    return f"/admin/users/recipient/{recipient.pk}/change/"


def end_of(recipient: Recipient) -> str:
    return f"/admin/users/recipient/{recipient.pk}/end-inbox-tokens/"


def shown(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


# --- The card ----------------------------------------------------------------------------------------


def test_the_card_says_what_the_persons_browser_is_told(operator: Client, ann: Recipient) -> None:
    read, archived, _ = arrived(ann), arrived(ann), arrived(ann)
    arrived(ann, live=False)
    marking.mark_read(read.pk)
    marking.archive(archived.pk)
    text = shown(operator, page_of(ann))
    assert "<b>1 unread</b> of 2, and 1 archived" in text
    assert "5 changes, the last" in text
    assert '<span class="ntf-tag">test</span> <b>1 unread</b> of 1' in text


def test_an_inbox_in_which_nothing_has_arrived_says_so(operator: Client, ann: Recipient) -> None:
    assert "Nothing has arrived in it yet." in shown(operator, page_of(ann))


def test_it_names_the_pages_that_may_show_it(operator: Client, ann: Recipient) -> None:
    assert "the project names none" in shown(operator, page_of(ann))
    Project.objects.update(inbox_origins=["https://app.example.com", VECTOR])
    text = shown(operator, page_of(ann))
    assert "<code>https://app.example.com</code>" in text
    assert VECTOR not in text


def test_the_timeline_says_when_it_was_read_and_archived(operator: Client, ann: Recipient) -> None:
    one = arrived(ann)
    path = f"/admin/notifications/notification/{one.pk}/change/"
    assert "Archived by the person" not in shown(operator, path)
    marking.mark_read(one.pk)
    marking.archive(one.pk)
    text = shown(operator, path)
    assert text.index("Delivered") < text.index("Archived by the person")
    assert "Read" in text


# --- Ending the tokens -------------------------------------------------------------------------------


def test_an_administrator_ends_the_tokens_with_a_reason_that_is_logged(
    administrator: Client, ann: Recipient
) -> None:
    browser, others = browser_of(ann), browser_of(RecipientFactory(project=ann.project))
    assert end_of(ann) in shown(administrator, page_of(ann))
    assert "End the inbox tokens of ann?" in shown(administrator, end_of(ann))
    assert browser.get(COUNT).status_code == 200
    answer = administrator.post(end_of(ann), {"reason": "lost their phone"}, follow=True)
    assert "inbox tokens of ann have ended" in answer.content.decode()
    assert "ended 1 time." in answer.content.decode()
    assert browser.get(COUNT).json()["code"] == "token_revoked"
    assert others.get(COUNT).status_code == 200
    entry = LogEntry.objects.get()
    assert entry.object_id == str(ann.pk)
    assert entry.get_change_message() == "Inbox tokens ended: lost their phone"
    assert entry.user.is_staff


@pytest.mark.parametrize("reason", ["", "   ", "x" * 5000])
def test_without_a_reason_nothing_is_ended(
    administrator: Client, ann: Recipient, reason: str
) -> None:
    answer = administrator.post(end_of(ann), {"reason": reason})
    assert answer.status_code == 200
    assert 'role="alert"' in answer.content.decode()
    ann.refresh_from_db()
    assert ann.inbox_epoch == 0
    assert not LogEntry.objects.exists()


def test_whose_project_is_out_of_reach_is_not_found(stranger: Project, ann: Recipient) -> None:
    client = client_in(groups.ADMINISTRATOR, stranger)
    for answer in (client.get(end_of(ann)), client.post(end_of(ann), {"reason": "why"})):
        assert answer.status_code == 404
    ann.refresh_from_db()
    assert ann.inbox_epoch == 0


def test_who_may_only_look_sees_no_button_and_ends_nothing(
    operator: Client, ann: Recipient
) -> None:
    assert end_of(ann) not in shown(operator, page_of(ann))
    for answer in (operator.get(end_of(ann)), operator.post(end_of(ann), {"reason": "why"})):
        assert answer.status_code == 403
    ann.refresh_from_db()
    assert ann.inbox_epoch == 0


def test_a_person_who_is_not_there_is_not_found(administrator: Client, ann: Recipient) -> None:
    for id in (ann.pk + 1000, 2**70):
        path = f"/admin/users/recipient/{id}/end-inbox-tokens/"
        assert administrator.get(path).status_code == 404


def test_hostile_names_stay_text(administrator: Client, alice: Project) -> None:
    eve = RecipientFactory(project=alice, user_id=VECTOR)
    assert VECTOR not in shown(administrator, end_of(eve))
    answer = administrator.post(end_of(eve), {"reason": VECTOR}, follow=True)
    assert VECTOR not in answer.content.decode()
    history = shown(administrator, f"/admin/users/recipient/{eve.pk}/history/")
    assert VECTOR not in history
    assert "Inbox tokens ended" in history


# --- Which pages a project lets in -------------------------------------------------------------------


@pytest.fixture
def save(administrator: Client, alice: Project) -> Callable[[str], Any]:
    def submit(typed: str) -> Any:
        data = {"name": alice.name, "unknown_policy": "", "inbox_origins": typed}
        return administrator.post(f"/admin/users/project/{alice.pk}/change/", data)

    return submit


def test_origins_are_typed_between_commas(save: Callable[[str], Any], alice: Project) -> None:
    assert save("https://app.example.com, http://localhost:3000 ,").status_code == 302
    alice.refresh_from_db()
    assert alice.inbox_origins == ["https://app.example.com", "http://localhost:3000"]
    assert save("").status_code == 302
    alice.refresh_from_db()
    assert alice.inbox_origins == []


@pytest.mark.parametrize(
    "typed", ["*", "https://app.example.com/path", "app.example.com", "https://x, https://[::1"]
)
def test_what_is_no_origin_is_refused_at_its_field(
    save: Callable[[str], Any], alice: Project, typed: str
) -> None:
    answer = save(typed)
    assert answer.status_code == 200
    errors = answer.context["adminform"].form.errors["inbox_origins"]
    assert "This is not an origin like https://app.example.com" in errors[0]
    alice.refresh_from_db()
    assert alice.inbox_origins == []


def test_a_key_that_makes_tokens_and_nothing_else_can_be_made(
    administrator: Client, ann: Recipient
) -> None:
    text = shown(administrator, "/admin/users/apikey/add/")
    assert "Make the tokens with which users read their in-app messages" in text
    data = {"project": ann.project_id, "name": "web", "kind": "live", "scopes": ["inbox"]}
    made = administrator.post("/admin/users/apikey/add/", data).context["key"]
    assert ApiKey.objects.get().scopes == ["inbox"]
    assert made.created_at <= timezone.now()
    backend = APIClient()
    backend.credentials(HTTP_AUTHORIZATION=f"Bearer {made.token}")
    assert backend.post("/api/v1/users/ann/inbox-tokens", {}, format="json").status_code == 201
    assert backend.get("/api/v1/users/ann").status_code == 403
    assert backend.get("/api/v1/notifications").status_code == 403
