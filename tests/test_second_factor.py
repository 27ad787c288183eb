"""Signing in to the console: password, second factor, recovery codes, lock-out, and the way back from the shell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from tests.console import pages
from tests.factories import ProjectFactory, UserFactory
from users import second_factor
from users.models import User

PASSWORD = "a-long-passphrase"
LOGIN = "/admin/login/"
CODE = "/admin/login/code/"
OWN = "/admin/second-factor/"
START = "/admin/"


@pytest.fixture
def ada(db: None) -> User:
    return UserFactory(username="ada", is_superuser=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Lets half minutes pass for the codes, of which each is good once."""

    class Clock:
        ahead = 0.0

        def forward(self, seconds: float) -> None:
            self.ahead += seconds

    it, real = Clock(), time.time
    monkeypatch.setattr("django_otp.plugins.otp_totp.models.time.time", lambda: real() + it.ahead)
    return it  # type: ignore[return-value]


def code_of(user: User, ahead: float = 0) -> str:
    """What the app shows now."""
    key = TOTPDevice.objects.get(user=user).bin_key
    offset = int(time.time()) - int(time.time() + ahead)
    return f"{totp(key, t0=offset):06}"


def wait_no_longer(user: User) -> None:
    """django-otp makes an account wait after wrong codes; a test does not."""
    for model in (TOTPDevice, StaticDevice):
        model.objects.filter(user=user).update(throttling_failure_count=0)


def set_up(user: User) -> list[str]:
    """The recovery codes. The code that confirmed it is used up."""
    second_factor.begin(user)
    return second_factor.confirm(user, code_of(user))


def password(client: Client, path: str = LOGIN, given: str = PASSWORD) -> Any:
    return client.post(path, {"username": "ada", "password": given})


def is_in(client: Client) -> bool:
    return client.get(START).status_code == 200


# --- Without one -----------------------------------------------------------------------------------------


def test_without_a_second_factor_the_password_is_enough(ada: User) -> None:
    client = Client()
    assert password(client)["Location"] == START
    assert is_in(client)


def test_the_session_gets_another_key_with_the_sign_in(ada: User) -> None:
    client = Client()
    client.get(LOGIN)
    session = client.session
    session["before"] = 1
    session.save()
    client.cookies["sessionid"] = session.session_key
    password(client)
    assert client.cookies["sessionid"].value != session.session_key


# --- Setting up -------------------------------------------------------------------------------------------


def test_it_is_set_up_by_showing_a_first_code(ada: User) -> None:
    client = Client()
    password(client)
    assert TOTPDevice.objects.count() == 0
    assert "Set up" in client.get(OWN).content.decode()
    assert TOTPDevice.objects.count() == 0, "looking makes nothing"
    client.post(OWN, {"act": "begin"})
    page = client.get(OWN).content.decode()
    assert 'src="data:image/svg+xml' in page
    assert is_in(client), "what is not confirmed is not asked for"
    wrong = client.post(OWN, {"act": "confirm", "code": "000000"}).content.decode()
    assert "not right" in wrong
    wait_no_longer(ada)
    shown = client.post(OWN, {"act": "confirm", "code": code_of(ada)}).content.decode()
    assert shown.count("<li><code>") == second_factor.RECOVERY_CODES
    assert is_in(client), "this session has shown its code"
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Second factor set up."]


def test_other_sessions_of_the_account_must_show_a_code_from_then_on(ada: User, clock: Any) -> None:
    other = Client()
    password(other)
    set_up(ada)
    assert not is_in(other)
    assert other.get(START, follow=True).redirect_chain[-1][0].startswith(CODE)
    clock.forward(60)
    other.post(CODE, {"code": code_of(ada, 60)})
    assert is_in(other)


# --- Signing in with one ------------------------------------------------------------------------------------


def test_the_password_alone_opens_no_page(ada: User) -> None:
    set_up(ada)
    client = Client()
    assert password(client)["Location"] == CODE
    open_to_all = {"login", "code", "logout", "jsi18n"}
    for page in pages():
        if page.name not in open_to_all and not page.row:
            for url in page.urls(None):
                assert client.get(url).status_code == 302, url
    assert "_auth_user_id" not in client.session, "nobody is signed in yet"


def test_a_code_opens_the_page_one_was_going_to(ada: User, clock: Any) -> None:
    set_up(ada)
    clock.forward(60)
    client = Client()
    wanted = "/admin/users/user/?q=x"
    asked = password(client, client.get(wanted)["Location"])["Location"]
    assert client.post(asked, {"code": code_of(ada, 60)})["Location"] == wanted
    assert is_in(client)


def test_no_code_leads_to_another_site(ada: User) -> None:
    codes = set_up(ada)
    client = Client()
    password(client)
    answer = client.post(f"{CODE}?next=https://evil.example/", {"code": codes[0]})
    assert answer["Location"] == START


def test_a_code_is_good_once(ada: User, clock: Any) -> None:
    set_up(ada)
    clock.forward(60)
    code = code_of(ada, 60)
    first, second = Client(), Client()
    for client in (first, second):
        password(client)
    first.post(CODE, {"code": code})
    assert "not right" in second.post(CODE, {"code": code}).content.decode()
    assert is_in(first)
    assert not is_in(second)


def test_a_recovery_code_lets_one_in_once(ada: User) -> None:
    codes = set_up(ada)
    first, second = Client(), Client()
    for client in (first, second):
        password(client)
        client.post(CODE, {"code": f" {codes[3].upper()} "})
    assert is_in(first)
    assert not is_in(second)
    assert second_factor.codes_left(ada) == second_factor.RECOVERY_CODES - 1


def test_the_code_of_another_account_is_no_good(ada: User, clock: Any) -> None:
    set_up(ada)
    eve = UserFactory(username="eve")
    codes = set_up(eve)
    client = Client()
    password(client)
    client.post(CODE, {"code": codes[0]})
    assert not is_in(client)


def test_the_code_page_is_for_who_gave_the_password_a_moment_ago(ada: User) -> None:
    codes = set_up(ada)
    client = Client()
    assert client.post(CODE, {"code": codes[0]})["Location"] == LOGIN
    password(client)
    session = client.session
    session["second_factor_awaited"] |= {"until": time.time() - 1}
    session.save()
    assert client.post(CODE, {"code": codes[0]})["Location"] == LOGIN
    assert not is_in(client)


def test_wrong_codes_close_the_account_as_wrong_passwords_do(ada: User) -> None:
    """Giving the right password again in between does not start the count anew."""
    codes = set_up(ada)
    client = Client()
    for _ in range(4):
        password(client)
        assert client.post(CODE, {"code": "000000"}).status_code == 200
        wait_no_longer(ada)
    assert client.post(CODE, {"code": "000000"}).status_code == 429
    wait_no_longer(ada)
    assert client.post(CODE, {"code": codes[0]}).status_code == 429
    assert password(client).status_code == 429
    assert not is_in(client)


def test_after_a_wrong_code_the_right_one_must_wait(ada: User) -> None:
    """Guessing from many addresses gains nothing."""
    codes = set_up(ada)
    client = Client()
    password(client)
    client.post(CODE, {"code": "wrongone"})
    client.post(CODE, {"code": codes[0]})
    assert not is_in(client)


# --- Removing ------------------------------------------------------------------------------------------------


def test_it_is_removed_with_the_password(ada: User) -> None:
    codes = set_up(ada)
    client = Client()
    password(client)
    client.post(CODE, {"code": codes[0]})
    assert "neither" in client.post(OWN, {"act": "remove", "proof": "wrong"}).content.decode()
    assert second_factor.ids_of(ada)
    client.post(OWN, {"act": "remove", "proof": PASSWORD})
    assert not TOTPDevice.objects.exists()
    assert not StaticDevice.objects.exists()
    assert is_in(client)


def test_a_session_that_has_shown_no_code_cannot_remove_or_replace_it(ada: User) -> None:
    set_up(ada)
    client = Client()
    client.force_login(ada)
    for act in ("begin", "confirm", "remove"):
        answer = client.post(OWN, {"act": act, "proof": PASSWORD, "code": "000000"})
        assert answer.status_code == 302
        assert answer["Location"].startswith(LOGIN)
    assert TOTPDevice.objects.filter(confirmed=True).count() == 1


def test_the_shell_removes_it_for_who_has_lost_everything(ada: User, capsys: Any) -> None:
    set_up(ada)
    call_command("remove_second_factor", "ada")
    assert "password alone" in capsys.readouterr().out
    assert LogEntry.objects.latest("pk").change_message == "Second factor removed from the shell."
    client = Client()
    password(client)
    assert is_in(client)
    with pytest.raises(CommandError, match="no account 'eva'"):
        call_command("remove_second_factor", "eva")


# --- Required of all -----------------------------------------------------------------------------------------


def test_where_it_is_required_it_is_set_up_first(ada: User, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    client = Client()
    password(client)
    assert not is_in(client)
    chain = client.get(START, follow=True).redirect_chain
    assert chain[-1][0].startswith(OWN)
    client.post(OWN, {"act": "begin"})
    client.post(OWN, {"act": "confirm", "code": code_of(ada)})
    assert is_in(client)


def test_who_may_not_come_in_can_still_go_out(ada: User, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    client = Client()
    password(client)
    assert client.get("/admin/logout/").status_code == 405, "not by looking"
    client.post("/admin/logout/")
    assert "_auth_user_id" not in client.session


# --- Lock-out, and the way back -------------------------------------------------------------------------------


def test_the_shell_opens_a_closed_account_again(ada: User) -> None:
    client = Client()
    for _ in range(5):
        password(client, given="wrong")
    assert password(client).status_code == 429
    call_command("axes_reset_username", "ada")
    assert password(client).status_code == 302


# --- What a session costs -----------------------------------------------------------------------------------


def test_account_projects_and_second_factor_are_one_query(db: None) -> None:
    from django.test.utils import CaptureQueriesContext

    bob = UserFactory(username="bob")
    bob.projects.add(ProjectFactory())
    client = Client()
    client.force_login(bob)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        client.get(reverse("admin:password_change"))
    assert len([q for q in queries if "users_user_projects" in q["sql"]]) == 1
    assert len([q for q in queries if "otp_totp" in q["sql"]]) == 1
