from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from notifications import providers
from tests.providers.contract import configure

NOTHING = {
    "EMAIL_URL": "",
    "EMAIL_PROVIDER": "",
    "MAILGUN_API_KEY": "",
    "MAILGUN_DOMAIN": "",
    "SMS_PROVIDER": "",
    "TWILIO_ACCOUNT_SID": "",
    "TWILIO_AUTH_TOKEN": "",
    "TWILIO_FROM": "",
    "TELNYX_API_KEY": "",
    "TELNYX_FROM": "",
    "TELNYX_PUBLIC_KEY": [],
}
SMTP = {"EMAIL_URL": "smtp://127.0.0.1:2525"}
MAILGUN = {"MAILGUN_API_KEY": "key-example", "MAILGUN_DOMAIN": "mg.example.com"}
TWILIO = {
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKEN": "token-example",
    "TWILIO_FROM": "+15005550006",
}
TELNYX = {"TELNYX_API_KEY": "key-example", "TELNYX_FROM": "+15005550006"}


@pytest.mark.parametrize(
    ("given", "vendor"),
    [
        ({}, None),
        (SMTP, "smtp"),
        (MAILGUN, "mailgun"),
        ({"MAILGUN_API_KEY": "key-example"}, None),
        (SMTP | MAILGUN, None),
        (SMTP | MAILGUN | {"EMAIL_PROVIDER": "mailgun"}, "mailgun"),
        (SMTP | MAILGUN | {"EMAIL_PROVIDER": "smtp"}, "smtp"),
        (SMTP | {"EMAIL_PROVIDER": "mailgun"}, None),
        (SMTP | {"EMAIL_PROVIDER": "postmark"}, "postmark"),
        ({"EMAIL_PROVIDER": "carrier_pigeon"}, None),
        ({"EMAIL_PROVIDER": "sandbox"}, None),
        ({"EMAIL_PROVIDER": "amazon_ses"}, None),
    ],
)
def test_the_settings_say_who_carries_email(
    settings: Any, given: dict[str, str], vendor: str | None
) -> None:
    configure(settings, NOTHING | given)
    assert providers.for_channel("email") == vendor


@pytest.mark.parametrize(
    ("given", "vendor"),
    [
        ({}, None),
        (TWILIO, "twilio"),
        (TWILIO | {"TWILIO_AUTH_TOKEN": ""}, None),
        (TWILIO | {"SMS_PROVIDER": "twilio"}, "twilio"),
        (TELNYX, "telnyx"),
        (TELNYX | {"TELNYX_FROM": ""}, None),
        (TWILIO | TELNYX, None),
        (TWILIO | TELNYX | {"SMS_PROVIDER": "telnyx"}, "telnyx"),
        (TWILIO | {"SMS_PROVIDER": "telnyx"}, None),
        (TWILIO | {"SMS_PROVIDER": "postmark"}, None),
    ],
)
def test_the_settings_say_who_carries_sms(
    settings: Any, given: dict[str, str], vendor: str | None
) -> None:
    configure(settings, NOTHING | given)
    assert providers.for_channel("sms") == vendor


def test_in_app_is_always_carried_by_the_inbox(settings: Any) -> None:
    configure(settings, NOTHING)
    assert providers.for_channel("in_app") == "inbox"


def test_only_what_stays_here_may_be_repeated() -> None:
    assert sorted(providers.repeatable_names()) == ["inbox", "sandbox"]


def test_a_provider_is_made_once_for_all_threads() -> None:
    providers.reset()
    with ThreadPoolExecutor(16) as threads:
        made = set(threads.map(lambda _: providers.get("sandbox"), range(64)))
    assert len(made) == 1


@pytest.mark.parametrize("name", ["", "carrier_pigeon", "base", "console", "test", "amazon_ses"])
def test_a_name_that_nobody_has_is_an_error(name: str) -> None:
    with pytest.raises(providers.UnknownProvider):
        providers.get(name)


def test_a_reset_forgets_the_old_settings() -> None:
    before = providers.get("sandbox")
    providers.reset()
    assert providers.get("sandbox") is not before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_does_not_use_its_parents_connections() -> None:
    parents = providers.get("sandbox")
    child = os.fork()
    if child == 0:
        os._exit(0 if providers.get("sandbox") is not parents else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
