from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from notifications import checks
from tests.providers.contract import configure
from tests.providers.test_registry import MAILGUN, NOTHING, SMTP, TELNYX, TWILIO

#: 32 bytes, as every one of Ed25519 has.
PUBLIC_KEY = b64encode(bytes(32)).decode()
SENDER = {"DEFAULT_FROM_EMAIL": "Example <notifications@example.com>"}


def ids(found: list[Any]) -> list[str]:
    assert all(message.hint for message in found)
    return [message.id for message in found]


TWO_KEYS = {"TELNYX_PUBLIC_KEY": [PUBLIC_KEY, f" {PUBLIC_KEY}"]}


@pytest.mark.parametrize(
    "given", [{}, SMTP, MAILGUN, TWILIO, TELNYX, TELNYX | TWO_KEYS, SMTP | TWILIO]
)
def test_a_complete_configuration_has_no_problem(settings: Any, given: dict[str, Any]) -> None:
    configure(settings, NOTHING | given)
    assert checks.vendor_configuration() == []


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"MAILGUN_API_KEY": "key-example"}, "notifications.E001"),
        ({"MAILGUN_DOMAIN": "mg.example.com"}, "notifications.E001"),
        (TWILIO | {"TWILIO_FROM": ""}, "notifications.E001"),
        ({"TWILIO_ACCOUNT_SID": "AC0"}, "notifications.E001"),
        (SMTP | MAILGUN, "notifications.E002"),
        (SMTP | {"EMAIL_PROVIDER": "carrier_pigeon"}, "notifications.E003"),
        (SMTP | {"EMAIL_PROVIDER": "mailgun"}, "notifications.E003"),
        (TWILIO | {"SMS_PROVIDER": "smtp"}, "notifications.E003"),
        ({"TELNYX_FROM": "+15005550006"}, "notifications.E001"),
        (TWILIO | TELNYX, "notifications.E002"),
        ({"TELNYX_PUBLIC_KEY": ["bm8ga2V5"]}, "notifications.E019"),
        ({"TELNYX_PUBLIC_KEY": [PUBLIC_KEY, "example key"]}, "notifications.E019"),
        ({"EMAIL_URL": "consolemail://"}, "notifications.E004"),
        ({"EMAIL_PROVIDER": "postmark", "ANYMAIL": {}}, "notifications.E005"),
    ],
)
def test_a_problem_is_named_with_a_hint(settings: Any, given: dict[str, Any], problem: str) -> None:
    configure(settings, NOTHING | given)
    assert ids(checks.vendor_configuration()) == [problem]


def test_the_missing_variable_is_named(settings: Any) -> None:
    configure(settings, NOTHING | TWILIO | {"TWILIO_AUTH_TOKEN": ""})
    [found] = checks.vendor_configuration()
    assert found.msg == "twilio is only half configured: TWILIO_AUTH_TOKEN not set."


def test_choosing_between_two_vendors_solves_it(settings: Any) -> None:
    configure(settings, NOTHING | SMTP | MAILGUN | {"EMAIL_PROVIDER": "smtp"})
    assert checks.vendor_configuration() == []


def test_another_vendor_of_anymail_with_its_settings_is_fine(settings: Any) -> None:
    api = {"POSTMARK_SERVER_TOKEN": "token-example"}
    configure(settings, NOTHING | {"EMAIL_PROVIDER": "postmark", "ANYMAIL": api})
    assert checks.vendor_configuration() == []


@pytest.mark.parametrize(
    ("production", "problem"), [(True, "notifications.E007"), (False, "notifications.W007")]
)
def test_an_untouched_sender_is_a_problem(settings: Any, production: bool, problem: str) -> None:
    untouched = {"DEFAULT_FROM_EMAIL": checks.UNTOUCHED_FROM, "PRODUCTION": production}
    configure(settings, NOTHING | SMTP | untouched)
    assert ids(checks.sender()) == [problem]


def test_a_sender_that_is_no_address_is_a_problem(settings: Any) -> None:
    configure(settings, NOTHING | SMTP | {"DEFAULT_FROM_EMAIL": "Example"})
    assert ids(checks.sender()) == ["notifications.E006"]


def test_without_a_vendor_the_sender_does_not_matter(settings: Any) -> None:
    configure(settings, NOTHING | {"DEFAULT_FROM_EMAIL": checks.UNTOUCHED_FROM})
    assert checks.sender() == []


def test_a_real_sender_is_fine(settings: Any) -> None:
    configure(settings, NOTHING | SMTP | SENDER | {"PRODUCTION": True})
    assert checks.sender() == []


@pytest.mark.parametrize(
    ("production", "debug", "problems"),
    [
        (True, True, ["notifications.E010"]),
        (True, False, []),
        (False, True, []),
    ],
)
def test_debug_in_production_is_an_error(
    settings: Any, production: bool, debug: bool, problems: list[str]
) -> None:
    configure(settings, {"PRODUCTION": production, "DEBUG": debug})
    assert ids(checks.debug_in_production()) == problems


@pytest.mark.parametrize("url", ["smtps://h:465", "smtp://h:25/?tls=true", "consolemail://"])
def test_an_email_url_that_could_be_misunderstood_is_refused(settings: Any, url: str) -> None:
    configure(settings, NOTHING | SMTP | SENDER | {"EMAIL_URL": url})
    assert "notifications.E004" in ids(checks.vendor_configuration())


@pytest.mark.parametrize(
    ("rate", "problems"),
    [("6000/60", []), ("", []), ("fast", ["notifications.E008"]), ("0/60", ["notifications.E008"])],
)
def test_a_rate_limit_that_cannot_be_read_is_an_error(
    settings: Any, rate: str, problems: list[str]
) -> None:
    configure(settings, {"RATE_LIMIT": rate})
    assert ids(checks.request_rate()) == problems


@pytest.mark.parametrize(
    ("setting", "seconds", "problem"),
    [
        ("SEND_DEADLINE", 0.0, "notifications.E011"),
        ("SWEEP_INTERVAL", -5.0, "notifications.E011"),
        ("STANDSTILL_AFTER", 40.0, "notifications.E012"),
        ("CIRCUIT_LONGEST_REST", 10.0, "notifications.E013"),
    ],
)
def test_a_wait_that_makes_no_sense_is_named(
    settings: Any, setting: str, seconds: float, problem: str
) -> None:
    assert checks.waits() == []
    setattr(settings, setting, seconds)
    assert ids(checks.waits()) == [problem]


def test_a_service_without_a_connection_for_mail_is_named(settings: Any) -> None:
    assert checks.connections() == []
    settings.SMTP_MAX_CONNECTIONS = 0
    assert ids(checks.connections()) == ["notifications.E014"]


@pytest.mark.parametrize("days", [0, 7, 3650])
def test_a_sensible_retention_is_no_problem(settings: Any, days: int) -> None:
    settings.RETENTION_DAYS = days
    assert checks.retention() == []


@pytest.mark.parametrize("days", [-1, 1, 6])
def test_a_retention_shorter_than_an_idempotency_key_is_an_error(settings: Any, days: int) -> None:
    settings.RETENTION_DAYS = days
    assert ids(checks.retention()) == ["notifications.E020"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis:6379/0",
        "rediss://redis:6380/0",
        "redis+socket:///run/valkey.sock?virtual_host=0",
        "amqp://user:password@rabbit:5672/notifyproj",
        "amqps://rabbit",
        "amqp://rabbit1;amqp://rabbit2",
    ],
)
def test_a_broker_that_celery_can_use_is_no_problem(settings: Any, url: str) -> None:
    settings.CELERY_BROKER_URL = url
    assert checks.broker_url() == []


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("rabbitmq://rabbit", "rabbitmq"),
        ("rabbit:5672", "no scheme"),
        ("amqp://rabbit;redis://redis", "amqp and redis"),
    ],
)
def test_a_broker_that_celery_cannot_use_is_named(settings: Any, url: str, scheme: str) -> None:
    settings.CELERY_BROKER_URL = url
    [found] = checks.broker_url()
    assert ids([found]) == ["notifications.E015"]
    assert found.msg.endswith(f"begins with {scheme}.")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"PUBLIC_URL": "notify.example.com"}, "notifications.E016"),
        ({"PUBLIC_URL": "https://"}, "notifications.E016"),
        ({"ANYMAIL": {"WEBHOOK_SECRET": ["user:right", "password alone"]}}, "notifications.E017"),
        ({"ANYMAIL": {"WEBHOOK_SECRET": "user:"}}, "notifications.E017"),
        (TWILIO | {"PRODUCTION": True, "PUBLIC_URL": ""}, "notifications.W018"),
        (TELNYX | {"PRODUCTION": True, "PUBLIC_URL": ""}, "notifications.W018"),
        (TELNYX | {"PUBLIC_URL": "https://notify.example.com"}, "notifications.W021"),
    ],
)
def test_what_would_keep_webhooks_from_reaching_us_is_named(
    settings: Any, given: dict[str, Any], problem: str
) -> None:
    configure(settings, NOTHING | {"PUBLIC_URL": "", "ANYMAIL": {}} | given)
    assert ids(checks.webhooks()) == [problem]


@pytest.mark.parametrize(
    "given",
    [
        {"PUBLIC_URL": "https://notify.example.com"},
        {"PUBLIC_URL": "http://127.0.0.1:8000"},
        {"ANYMAIL": {"WEBHOOK_SECRET": ["user:password:with:colons"]}},
        TWILIO | {"PUBLIC_URL": ""},
        TELNYX | {"PUBLIC_URL": ""},
        TELNYX | {"PUBLIC_URL": "https://notify.example.com", "TELNYX_PUBLIC_KEY": [PUBLIC_KEY]},
    ],
)
def test_webhooks_that_can_be_told_apart_have_no_problem(
    settings: Any, given: dict[str, Any]
) -> None:
    configure(settings, NOTHING | {"PUBLIC_URL": "", "ANYMAIL": {}} | given)
    assert checks.webhooks() == []


@pytest.mark.parametrize(
    ("setting", "value", "id"),
    [
        ("BATCH_FAILURE_LIMIT", 0, "notifications.E024"),
        ("BATCH_FAILURE_LIMIT", 20, "notifications.E024"),
        ("MAX_BATCH_BYTES", 0, "notifications.E025"),
    ],
)
def test_a_limit_of_bulk_that_makes_no_sense_is_named(settings, setting, value, id):
    setattr(settings, setting, value)
    assert [problem.id for problem in checks.bulk()] == [id]
