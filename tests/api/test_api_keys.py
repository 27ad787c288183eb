"""API keys: who gets in, who no longer does, and what of a key is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from tests.api.problems import problem_of
from tests.factories import ApiKeyFactory
from users import authentication
from users.models import ApiKey, Project

pytestmark = pytest.mark.django_db

URL = "/api/v1/notifications"


def get(authorization: str | None) -> Any:
    credentials = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    return APIClient().get(URL, **credentials)


def token_of(key: ApiKey) -> str:
    token: str = key.token  # type: ignore[attr-defined]
    return token


def last_use(key: ApiKey) -> datetime | None:
    return ApiKey.objects.values_list("last_used_at", flat=True).get(id=key.id)


@pytest.fixture
def trusted_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """For how many seconds a key that was looked up is not looked up again."""

    def seconds(value: float) -> None:
        monkeypatch.setattr(authentication, "TRUSTED_FOR", value)

    return seconds


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_is_a_bearer_token(key_of_alice: ApiKey, scheme: str) -> None:
    assert get(f"{scheme} {token_of(key_of_alice)}").status_code == 200


def test_a_call_without_a_key_is_told_how_to_send_one() -> None:
    response = get(None)
    document = problem_of(response, 401)
    assert document["code"] == "not_authenticated"
    assert response["WWW-Authenticate"] == 'Bearer realm="notifyproj"'


@pytest.mark.parametrize(
    "form",
    [
        "{token}",
        "Basic {token}",
        "Token {token}",
        "Bearer",
        "Bearer {token} {token}",
        "Bearer,{token}",
    ],
)
def test_a_key_in_another_scheme_is_refused(key_of_alice: ApiKey, form: str) -> None:
    response = get(form.format(token=token_of(key_of_alice)))
    assert problem_of(response, 401)["code"] == "invalid_key"
    assert response["WWW-Authenticate"] == 'Bearer realm="notifyproj"'


def test_every_bad_key_gets_one_and_the_same_answer(alice: Project) -> None:
    good = token_of(ApiKeyFactory(project=alice))
    live, test = good, good.replace("ntf_live_", "ntf_test_")
    hour = timedelta(hours=1)
    bad = {
        "revoked": token_of(ApiKeyFactory(project=alice, revoked_at=timezone.now())),
        "expired": token_of(ApiKeyFactory(project=alice, expires_at=timezone.now() - hour)),
        "unknown prefix": f"ntf_live_00000000_{'x' * 43}",
        "known prefix, other secret": live[:18] + "x" * 43,
        "the other kind": test,
        "one character more": live + "x",
        "one character less": live[:-1],
        "upper case": live.upper(),
        "a word": "hello",
        "underscores": "ntf_live__",
        "NUL in the prefix": "ntf_live_\x00abcdefg_x",
        "not ASCII": "ntf_live_üüüüüüüü_é",
        "very long": "ntf_live_00000000_" + "x" * 10_000,
    }
    answers = {
        name: problem_of(get(f"Bearer {token}"), 401) | {"instance": ""}
        for name, token in bad.items()
    }
    assert set(map(str, answers.values())) == {str(answers["revoked"])}
    assert answers["revoked"]["code"] == "invalid_key"
    assert get(f"Bearer {live}").status_code == 200


@pytest.mark.parametrize("change", ["revoked_at", "expires_at"])
def test_a_key_that_is_revoked_or_expires_is_refused_within_five_seconds(
    key_of_alice: ApiKey, change: str, trusted_for: Callable[[float], None]
) -> None:
    assert authentication.TRUSTED_FOR < 5
    trusted_for(0.3)
    authorization = f"Bearer {token_of(key_of_alice)}"
    assert get(authorization).status_code == 200
    ApiKey.objects.filter(id=key_of_alice.id).update(**{change: timezone.now()})
    assert get(authorization).status_code == 200
    time.sleep(0.3)
    problem_of(get(authorization), 401)


def test_a_key_that_is_busy_costs_no_query_of_its_own(key_of_alice: ApiKey) -> None:
    authorization = f"Bearer {token_of(key_of_alice)}"
    get(authorization)
    with CaptureQueriesContext(connection) as queries:
        get(authorization)
    assert not [query for query in queries if "users_apikey" in query["sql"]]


def test_a_bad_key_is_not_remembered_as_a_good_one(alice: Project) -> None:
    unknown = ApiKey(project=alice)
    authorization = f"Bearer {unknown.issue()}"
    problem_of(get(authorization), 401)
    unknown.save()
    assert get(authorization).status_code == 200


def test_the_last_use_is_written_once_a_minute_at_most(
    key_of_alice: ApiKey, trusted_for: Callable[[float], None]
) -> None:
    trusted_for(0)
    authorization = f"Bearer {token_of(key_of_alice)}"
    assert last_use(key_of_alice) is None
    get(authorization)
    first = last_use(key_of_alice)
    assert first is not None
    get(authorization)
    assert last_use(key_of_alice) == first

    long_ago = first - timedelta(seconds=61)
    ApiKey.objects.filter(id=key_of_alice.id).update(last_used_at=long_ago)
    get(authorization)
    assert last_use(key_of_alice) != long_ago


def test_no_issued_key_is_in_the_database(dump: Callable[..., str]) -> None:
    keys = [ApiKeyFactory() for _ in range(3)]
    text = dump("users_apikey")
    for key in keys:
        assert key.prefix in text
        assert token_of(key) not in text
        assert token_of(key).split("_", 3)[3] not in text
        assert token_of(key).encode().hex() not in text


def test_a_key_has_256_bits_of_secret_and_no_two_are_alike() -> None:
    keys = [ApiKey() for _ in range(100)]
    secrets = {key.issue().split("_", 3)[3] for key in keys}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {43}  # 32 bytes in base64


@pytest.mark.parametrize("kind", ["live", "test"])
def test_a_key_says_of_which_kind_it_is(alice: Project, kind: str) -> None:
    key = ApiKeyFactory(project=alice, kind=kind)
    assert token_of(key).startswith(f"ntf_{kind}_{key.prefix}_")
    assert ApiKey.prefix_of(token_of(key)) == key.prefix


def test_a_key_without_scopes_may_do_nothing(
    alice: Project, make_client: Callable[..., APIClient]
) -> None:
    document = problem_of(make_client(alice, scopes=[]).get(URL), 403)
    assert document["code"] == "missing_scope"
