"""The rate limit of a key: exact under parallel requests, told in headers, and no obstacle without Redis."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from pytest_django import Settings
from rest_framework.test import APIClient

from tests.api.parallel import at_once
from tests.api.problems import problem_of
from tests.api.relay import Relay, redis_socket
from users import throttling
from users.models import Project
from users.throttling import RateLimiter

pytestmark = pytest.mark.django_db

URL = "/api/v1/notifications"


@pytest.fixture(autouse=True)
def limiter(monkeypatch: pytest.MonkeyPatch, redis_client: redis.Redis) -> RateLimiter:
    """As in a process that has just started: no connection, no rest, full buckets."""
    fresh = RateLimiter()
    monkeypatch.setattr(throttling, "limiter", fresh)
    for key in redis_client.scan_iter("test:*:rate:*"):
        redis_client.delete(key)
    return fresh


@pytest.fixture
def frozen_redis(settings: Settings) -> Iterator[None]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        yield


@pytest.fixture
def no_redis(settings: Settings) -> None:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.REDIS_URL = f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_every_answer_tells_what_is_left(client_of_alice: APIClient, settings: Settings) -> None:
    settings.RATE_LIMIT = "3/3600"
    for left in (2, 1, 0):
        response = client_of_alice.get(URL)
        assert response["RateLimit-Policy"] == '"default";q=3;w=3600'
        assert response["RateLimit"].startswith(f'"default";r={left};t=')


def test_one_too_many_is_told_when_to_come_again(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.RATE_LIMIT = "2/60"
    for _ in range(2):
        assert client_of_alice.get(URL).status_code == 200
    response = client_of_alice.get(URL)
    document = problem_of(response, 429)
    assert document["code"] == "throttled"
    assert document["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert 28 <= int(response["Retry-After"]) <= 31
    assert response["RateLimit"].startswith('"default";r=0;t=')


def test_also_a_refused_request_counts(client_of_alice: APIClient, settings: Settings) -> None:
    settings.RATE_LIMIT = "2/3600"
    statuses = [client_of_alice.post(URL, {}, format="json").status_code for _ in range(3)]
    assert statuses == [400, 400, 429]


def test_the_bucket_fills_again(client_of_alice: APIClient, settings: Settings) -> None:
    settings.RATE_LIMIT = "1/1"
    assert client_of_alice.get(URL).status_code == 200
    assert client_of_alice.get(URL).status_code == 429
    time.sleep(1.05)
    assert client_of_alice.get(URL).status_code == 200


def test_each_key_has_a_bucket_of_its_own(
    alice: Project, make_client: Callable[..., APIClient], settings: Settings
) -> None:
    settings.RATE_LIMIT = "1/3600"
    for client in (make_client(alice), make_client(alice)):
        assert [client.get(URL).status_code for _ in range(2)] == [200, 429]


def test_without_a_limit_there_are_no_headers(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.RATE_LIMIT = ""
    response = client_of_alice.get(URL)
    assert response.status_code == 200
    assert "RateLimit" not in response


@pytest.mark.django_db(transaction=True)
def test_of_200_parallel_requests_exactly_50_pass_a_limit_of_50(
    client_of_alice: APIClient, settings: Settings
) -> None:
    settings.RATE_LIMIT = "50/1000000"
    statuses = at_once(200, lambda _: client_of_alice.get(URL).status_code, threads=20)
    assert Counter(statuses) == {200: 50, 429: 150}


def times_asked(limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each question to Redis."""
    asked: list[int] = []
    take = limiter._take

    def counted(**arguments: Any) -> Any:
        asked.append(1)
        return take(**arguments)

    monkeypatch.setattr(limiter, "_take", counted)
    return asked


def test_many_requests_of_a_busy_key_ask_redis_once(
    limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = times_asked(limiter, monkeypatch)
    monkeypatch.setattr(throttling, "HELD", 1)  # in which 100 of 6,000 a minute flow in
    quotas = [limiter.take(1, 6000, 60) for _ in range(200)]
    assert all(quota and quota.allowed for quota in quotas)
    assert 2 <= len(asked) <= 10
    assert [quota.remaining for quota in quotas if quota][:3] == [5999, 5998, 5997]


def test_near_the_limit_each_request_asks_redis(
    limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, window = 1000, 1_000_000  # nothing to speak of flows in during the test
    monkeypatch.setattr(throttling, "HELD", 10 * window / limit)  # ten tokens
    asked = times_asked(limiter, monkeypatch)
    for _ in range(limit):
        limiter.take(1, limit, window)
    assert len(asked) == pytest.approx(500 / 10 + 500, abs=10)


def test_what_a_process_did_not_spend_goes_back(
    limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, window = 100_000, 1_000_000  # nothing to speak of flows in during the test
    monkeypatch.setattr(throttling, "HELD", 1000)  # 100 tokens
    for _ in range(5):
        limiter.take(1, limit, window)
        limiter._handfuls[1].until = 0.0
    quota = limiter.take(1, limit, window)
    assert quota is not None
    assert quota.remaining == limit - 6


def test_several_processes_together_get_what_the_bucket_held() -> None:
    limiters = [RateLimiter() for _ in range(3)]
    limit, window = 1000, 10
    started = time.monotonic()
    quotas = [limiters[n % 3].take(1, limit, window) for n in range(2000)]
    flowed_in = (time.monotonic() - started + throttling.HELD) * limit / window
    allowed = sum(quota is not None and quota.allowed for quota in quotas)
    assert limit <= allowed <= limit + flowed_in


@pytest.mark.parametrize("away", ["frozen_redis", "no_redis"])
def test_requests_pass_while_redis_is_away(
    client_of_alice: APIClient, settings: Settings, away: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(away)
    settings.RATE_LIMIT = "1/3600"
    started = time.monotonic()
    responses: list[Any] = [client_of_alice.get(URL) for _ in range(20)]
    assert {response.status_code for response in responses} == {200}
    assert "RateLimit" not in responses[0]
    # One time-out, not twenty.
    assert time.monotonic() - started < 10 * throttling.REDIS_DEADLINE


def test_the_limit_holds_again_once_redis_is_back(
    client_of_alice: APIClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "REDIS_REST", 0.1)
    settings.RATE_LIMIT = "1/3600"
    with Relay(redis_socket(settings.REDIS_URL)) as relay:
        settings.REDIS_URL = f"redis://127.0.0.1:{relay.port}/0"
        relay.freeze()
        assert "RateLimit" not in client_of_alice.get(URL)
        relay.thaw()
        time.sleep(0.15)
        assert [client_of_alice.get(URL).status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("text", ["ten/60", "10", "0/60", "10/0", "-1/60", "10/60/1"])
def test_a_limit_that_is_none_is_a_mistake_that_is_named(settings: Settings, text: str) -> None:
    settings.RATE_LIMIT = text
    with pytest.raises(ValueError, match=r".+"):
        throttling.rate_limit()
