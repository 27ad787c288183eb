"""The page to try it: who may, what it sends and to whom, what it shows of it, and that it changes nothing by GET."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from notifications import delivery
from notifications.models import Notification
from notifications.playground.curl import curl
from notifications.playground.forms import TryForm
from tests.factories import NotificationFactory, RecipientFactory, SuppressionFactory, UserFactory
from users import groups
from users.inbox_access import admitted
from users.models import Project, Recipient, User

pytestmark = pytest.mark.django_db

TRY = "/try/"
SENT = "/try/sent"
TOKEN = "/try/token"
GIVEN = {"channel": "in_app", "recipient": "ada", "title": "Hello", "message": "It works."}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


@pytest.fixture(autouse=True)
def _sandbox(settings: Any) -> None:
    settings.SANDBOX = True


@pytest.fixture
def anybody() -> Client:
    """Who is not signed in."""
    return Client()


@pytest.fixture
def olga() -> User:
    user = UserFactory(username="olga")
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    return user


@pytest.fixture
def operator(olga: User) -> Client:
    client = Client()
    client.force_login(olga)
    return client


def send(client: Client, query: str = "", **changed: Any) -> Any:
    return client.post(TRY + query, GIVEN | changed)


def sent(client: Client, **changed: Any) -> Notification:
    assert send(client, **changed).status_code == 302
    return Notification.objects.latest("id")


def text_of(response: Any) -> str:
    return str(response.content.decode())


# --- Who may -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [TRY, SENT, f"/try/messages/{'0' * 32}"])
def test_outside_of_development_one_must_sign_in(
    anybody: Client, alice: Project, settings: Any, path: str
) -> None:
    settings.PRODUCTION = True
    response = anybody.get(path)
    assert (response.status_code, response["Location"]) == (302, "/admin/login/?next=/try/")


@pytest.mark.parametrize("path", [TRY, TOKEN])
def test_outside_of_development_nobody_sends_or_gets_a_token_unsigned(
    anybody: Client, alice: Project, settings: Any, path: str
) -> None:
    settings.PRODUCTION = True
    assert anybody.post(path, GIVEN | {"user": "ada"}).status_code == 302
    assert not Notification.objects.exists()
    assert not Recipient.objects.exists()


@pytest.mark.parametrize("path", [TRY, TOKEN])
def test_outside_of_development_staff_needs_the_right_to_send(
    alice: Project, settings: Any, path: str
) -> None:
    settings.PRODUCTION = True
    client = Client()
    client.force_login(UserFactory())
    assert client.post(path, GIVEN | {"user": "ada"}).status_code == 403
    assert not Notification.objects.exists()
    assert not Recipient.objects.exists()


def test_outside_of_development_an_operator_sends(
    operator: Client, alice: Project, settings: Any
) -> None:
    settings.PRODUCTION = True
    assert sent(operator).project == alice


def test_a_password_without_the_second_factor_is_not_enough(
    operator: Client, alice: Project, settings: Any
) -> None:
    settings.PRODUCTION = True
    settings.REQUIRE_SECOND_FACTOR = True
    assert send(operator).status_code == 302
    assert not Notification.objects.exists()


def test_the_start_page_leads_to_it(anybody: Client) -> None:
    assert 'href="/try/"' in text_of(anybody.get("/"))


@pytest.mark.parametrize("path", [TRY, TOKEN])
def test_another_page_cannot_send_in_ones_name(alice: Project, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post(path, GIVEN | {"user": "ada"}).status_code == 403
    assert not Notification.objects.exists()
    assert not Recipient.objects.exists()


# --- Projects ------------------------------------------------------------------------------------------


def test_the_first_project_is_taken_and_others_can_be_chosen(
    anybody: Client, alice: Project, stranger: Project
) -> None:
    assert sent(anybody).project == alice
    assert "Stranger&#x27;s shop" in text_of(anybody.get(TRY))
    assert send(anybody, f"?project={stranger.pk}").status_code == 302
    assert Notification.objects.latest("id").project == stranger


@pytest.mark.parametrize("wanted", ["0", "x", "", "9" * 30, "-1", "²"])
def test_a_project_that_is_not_there_is_not_found(
    anybody: Client, alice: Project, wanted: str
) -> None:
    assert anybody.get(TRY, {"project": wanted}).status_code == 404
    assert send(anybody, f"?project={wanted}").status_code == 404


def test_a_project_out_of_reach_is_not_found(
    olga: User, operator: Client, alice: Project, stranger: Project
) -> None:
    olga.projects.add(alice)
    query = f"?project={stranger.pk}"
    assert operator.get(TRY + query).status_code == 404
    assert send(operator, query).status_code == 404
    assert operator.post(TOKEN + query, {"user": "ada"}).status_code == 404
    assert "Stranger" not in text_of(operator.get(TRY))
    assert not Notification.objects.exists()
    assert not Recipient.objects.exists()


def test_without_a_project_it_says_so(anybody: Client) -> None:
    assert "There is no project yet" in text_of(anybody.get(TRY))
    assert send(anybody).status_code == 400
    assert anybody.post(TOKEN, {"user": "ada"}).status_code == 409


# --- Sending -------------------------------------------------------------------------------------------


def test_in_app_it_goes_to_the_inbox_that_live_keys_reach(anybody: Client, alice: Project) -> None:
    notification = sent(anybody)
    assert (notification.live, notification.user_id) == (True, "ada")
    assert not LogEntry.objects.exists(), "there is nobody to be named"


def test_who_is_signed_in_is_named_in_the_log(operator: Client, olga: User, alice: Project) -> None:
    notification = sent(operator)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (olga, str(notification.pk))


def test_a_vendor_is_for_signed_in_staff(
    anybody: Client, operator: Client, alice: Project, settings: Any
) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    mail = {"channel": "email", "recipient": "ada@example.com"}
    assert not sent(anybody, **mail).live
    assert "smtp would carry it for signed-in staff" in text_of(anybody.get(TRY))
    assert sent(operator, **mail).live
    assert "This is really sent, by smtp." in text_of(operator.get(TRY))


def test_where_no_vendor_is_and_live_ones_are_refused_it_still_goes_to_the_sandbox(
    operator: Client, alice: Project, settings: Any
) -> None:
    settings.SANDBOX = False
    notification = sent(operator, channel="email", recipient="ada@example.com")
    assert (notification.live, notification.flow.lane) == (False, "sandbox")


def test_everything_of_the_form_arrives(anybody: Client, alice: Project) -> None:
    notification = sent(
        anybody,
        url="https://example.com/x",
        priority="high",
        delay="60",
        message="One line,\r\nand another",
    )
    assert (notification.url, notification.priority) == ("https://example.com/x", "high")
    assert notification.message == "One line,\nand another", "as it was typed, not as it was posted"
    assert notification.scheduled_for is not None
    assert 50 < (notification.scheduled_for - timezone.now()).total_seconds() <= 60


def test_what_the_channel_does_not_have_is_left_out(anybody: Client, alice: Project) -> None:
    everything = {"html": "<p>Hi</p>", "url": "https://example.com"}
    mail = sent(anybody, channel="email", recipient="ada@example.com", **everything)
    assert (mail.html, mail.url) == ("<p>Hi</p>", "")
    sms = sent(anybody, channel="sms", recipient="+12025550147", **everything)
    assert (sms.title, sms.html, sms.url) == ("", "", "")


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"message": ""}, "message", "This field may not be blank."),
        ({"recipient": ""}, "recipient", "A user_id must not be empty."),
        ({"recipient": "a/b"}, "recipient", "In-app, this is a user_id, which has no slash."),
        ({"url": "javascript:alert(1)"}, "url", "This must be an http or https address."),
        ({"channel": "pigeon"}, "channel", "This must be one of: email, sms, in_app."),
        ({"priority": "urgent"}, "priority", "This must be one of: high, normal, low."),
        ({"title": "x" * 999}, "title", "This has more than 998 bytes."),
        ({"delay": "99"}, "delay", "99 is not one of the available choices."),
        ({"message": "nul\x00"}, "message", "Null characters are not allowed."),
        ({"channel": "email"}, "recipient", "This is not an e-mail address."),
        (
            {"channel": "email", "recipient": "gone@example.com"},
            "recipient",
            "This address is suppressed",
        ),
    ],
)
def test_what_is_wrong_stands_at_its_field_in_the_words_of_the_api(
    anybody: Client, alice: Project, changed: dict[str, str], field: str, words: str
) -> None:
    SuppressionFactory(project=alice, address="gone@example.com")
    response = send(anybody, **changed)
    assert response.status_code == 400
    page = text_of(response)
    before, found, _ = page.partition(words)
    assert found, page
    assert f'id="{field}-error"' in before[-80:]
    assert not Notification.objects.exists()


def test_an_empty_form_is_refused(anybody: Client, alice: Project) -> None:
    assert anybody.post(TRY, {}).status_code == 400
    assert not Notification.objects.exists()


# --- What was sent ---------------------------------------------------------------------------------------


def test_the_list_tells_what_becomes_of_it(anybody: Client, alice: Project) -> None:
    sent(anybody)
    before = text_of(anybody.get(SENT))
    assert "Pending" in before
    assert 'data-moving="1"' in before
    # Within a test's transaction the database's clock stands still.
    Notification.objects.update(due_at=timezone.now() - timedelta(minutes=1))
    delivery.drain("in_app.normal")
    after = text_of(anybody.get(SENT))
    assert "Delivered: stored in the inbox" in after
    assert 'data-moving="0"' in after


def test_nobody_sees_what_somebody_else_has_sent(anybody: Client, alice: Project) -> None:
    notification = sent(anybody, message="A secret of mine")
    somebody = Client()
    assert "A secret" not in text_of(somebody.get(SENT))
    assert somebody.get(f"/try/messages/{notification.pk}").status_code == 404
    other = NotificationFactory(recipient=RecipientFactory(project=alice))
    assert anybody.get(f"/try/messages/{other.pk}").status_code == 404


def test_who_is_limited_meanwhile_sees_no_more_of_the_other_project(
    operator: Client, olga: User, alice: Project, stranger: Project
) -> None:
    notification = sent(operator, message="Of Alice's")
    olga.projects.add(stranger)
    assert "Of Alice" not in text_of(operator.get(SENT))
    assert operator.get(f"/try/messages/{notification.pk}").status_code == 404


def test_the_newest_fifteen_are_kept(anybody: Client, alice: Project) -> None:
    for number in range(17):
        sent(anybody, title=f"Number {number}.")
    page = text_of(anybody.get(SENT))
    assert page.count("<li ") == 15
    assert "Number 16." in page
    assert "Number 1." not in page


def test_from_a_message_one_comes_back_to_the_same_two_people(
    anybody: Client, alice: Project
) -> None:
    notification = sent(anybody)
    query = "?left=cleo&amp;right=dan"
    page = text_of(anybody.get(TRY, {"left": "cleo", "right": "dan"}))
    assert f'href="/try/messages/{notification.pk}{query}"' in page
    assert f'data-sent="/try/sent{query}"' in page
    shown = anybody.get(f"/try/messages/{notification.pk}?left=cleo&right=dan")
    assert f'href="/try/{query}"' in text_of(shown)


def test_a_mail_is_shown_as_html_and_as_text(anybody: Client, alice: Project) -> None:
    mail = sent(anybody, channel="email", recipient="ada@example.com", html="<h1>Hi</h1>")
    page = text_of(anybody.get(f"/try/messages/{mail.pk}"))
    assert 'sandbox=""' in page
    assert "&lt;h1&gt;Hi&lt;/h1&gt;" in page
    assert "It works." in page


def test_an_sms_is_shown_with_its_segments(anybody: Client, alice: Project) -> None:
    sms = sent(anybody, channel="sms", recipient="+12025550147", message="ç" * 80)
    assert "80 characters, 2 segments" in text_of(anybody.get(f"/try/messages/{sms.pk}"))


def test_what_is_shown_is_never_markup(anybody: Client, alice: Project) -> None:
    notification = sent(anybody, title=HOSTILE, message=HOSTILE, recipient=HOSTILE.replace("/", ""))
    pages = [
        anybody.get(TRY, {"left": HOSTILE.replace("/", "")}),
        anybody.get(SENT),
        anybody.get(f"/try/messages/{notification.pk}"),
        send(anybody, recipient=HOSTILE, title=HOSTILE, html=HOSTILE),
    ]
    for page in pages:
        assert "<script>alert" not in text_of(page)
        assert "<img" not in text_of(page)


def test_the_list_is_not_sent_again_where_nothing_has_changed(
    anybody: Client, alice: Project
) -> None:
    etag = anybody.get(SENT)["ETag"]
    assert anybody.get(SENT, headers={"If-None-Match": etag}).status_code == 304


# --- The bells -------------------------------------------------------------------------------------------


def test_a_token_opens_that_users_inbox_and_no_other(anybody: Client, alice: Project) -> None:
    ben = RecipientFactory(project=alice, user_id="ben")
    token = admitted(anybody.post(TOKEN, {"user": "ben"}).json()["token"], None, "")
    assert (token.recipient_id, token.live, token.key_id) == (ben.pk, True, None)


def test_who_opens_anothers_inbox_is_named_once(
    operator: Client, olga: User, alice: Project
) -> None:
    for _ in range(2):
        assert operator.post(TOKEN, {"user": "ada"}).status_code == 200
    entry = LogEntry.objects.get()
    assert (entry.user, entry.get_edited_object().user_id) == (olga, "ada")


@pytest.mark.parametrize("user", ["", "a/b", "..", "x" * 256, "a\nb"])
def test_a_user_that_cannot_be_is_refused_by_name(
    anybody: Client, alice: Project, user: str
) -> None:
    response = anybody.post(TOKEN, {"user": user})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("user: ")
    page = anybody.get(TRY, {"left": user})
    assert page.status_code == 200
    assert "left: " in text_of(page)


def test_looking_changes_nothing(anybody: Client, operator: Client, alice: Project) -> None:
    kept = (Recipient, Notification, LogEntry, Session)
    before = [list(model._default_manager.values()) for model in kept]
    for client in (anybody, operator):
        for path in (TRY, SENT, "/try/?left=new&right=newer"):
            assert client.get(path).status_code == 200
    assert [list(model._default_manager.values()) for model in kept] == before


def test_only_this_page_may_reach_the_stream(
    anybody: Client, alice: Project, settings: Any
) -> None:
    settings.STREAM_URL = "https://stream.example.com/api/v1/inbox/stream"
    policy = anybody.get(TRY)["Content-Security-Policy"]
    assert "connect-src 'self' https://stream.example.com;" in policy + ";"
    assert "stream.example.com" not in anybody.get("/")["Content-Security-Policy"]


# --- The call --------------------------------------------------------------------------------------------

AWKWARD = {
    "channel": "email",
    "recipient": "o'brien@example.com",
    "title": 'It\'s $HOME `date` \\ "quoted" !! %s',
    "message": "Line one\n\tline two \u2028 \u00fc \U0001f514 '\\'' \x7f",
}


def test_a_shell_hands_over_exactly_what_was_typed(tmp_path: Any) -> None:
    program = tmp_path / "curl"
    program.write_text('#!/bin/sh\nfor last; do :; done\nprintf %s "$last"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "API_KEY": "x"}
    for shell in ("sh", "bash"):
        ran = subprocess.run(
            [shell, "-c", curl("http://127.0.0.1", AWKWARD)],
            env=environment,
            capture_output=True,
            check=True,
        )
        assert json.loads(ran.stdout) == AWKWARD


def test_the_call_has_no_key_and_leaves_out_what_is_usual() -> None:
    form = TryForm(GIVEN | {"priority": "normal", "delay": "0", "url": "", "html": ""})
    assert form.body() == GIVEN
    assert '"Authorization: Bearer $API_KEY"' in curl("http://127.0.0.1", form.body())


def test_the_call_names_the_time_of_a_delayed_one() -> None:
    moment = parse_datetime(TryForm(GIVEN | {"delay": "10"}).body()["scheduled_for"])
    assert moment is not None
    assert 5 < (moment - timezone.now()).total_seconds() <= 10
