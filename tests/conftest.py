"""What all tests share: named actors, a client with a key, and a clean engine for each test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from rest_framework.test import APIClient

from notifications import delivery, health, intake, pace, providers, slots
from notifyproj.postgres.base import rest
from tests.chromium import browser, chromium  # noqa: F401  (fixtures)
from tests.factories import ApiKeyFactory, ProjectFactory
from tests.streams import start_stream  # noqa: F401  (a fixture)
from tests.surroundings import surroundings
from users import authentication, inbox_access
from users.models import ApiKey, Project


def pytest_configure() -> None:
    """Pages are tested without collecting static files, and passwords without their price; each test process has a Redis
    key space of its own."""
    django_settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    storage = "django.contrib.staticfiles.storage.StaticFilesStorage"
    django_settings.STORAGES["staticfiles"]["BACKEND"] = storage
    # A password is to be slow to guess; a test waits for each one that it makes.
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    django_settings.REDIS_KEY_PREFIX = f"test:{worker}:"
    django_settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = f"test:{worker}:"


#: Files of few tests that take long. A process has a file to itself, so one that came last would keep the others waiting.
LONGEST = (
    "test_playground_in_browser",
    "test_console_in_browser",
    "test_drills_catch_a_broken_engine",
    "test_embedded",
    "test_bell_in_browser",
    "test_state_machine",
    "test_pipeline",
    "test_pace",
    "test_stream_process",
    "test_admin",
    "test_bulk_actions",
    "test_browser",
    "test_rabbitmq",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest-randomly, whose order all others keep."""
    places = {f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    """Caches live as long as a process; a test's rows do not."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    intake.forget_flows()
    health.memory.forget()
    authentication.cache.clear()
    inbox_access.origins.forget()
    providers.reset()
    slots._slots.clear()
    delivery._breakers.clear()
    pace.forget()
    rest.end()


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lanes woken in this test. Nothing is published: tests of waking itself use the broker."""
    lanes: list[str] = []
    for module in ("intake", "intake_many", "batches", "changes", "pausing", "receipts"):
        monkeypatch.setattr(f"notifications.{module}.wake", lanes.append)
    return lanes


@pytest.fixture
def alice(db: None) -> Project:
    """The project that most tests act for."""
    return ProjectFactory(name="Alice's shop")


@pytest.fixture
def stranger(db: None) -> Project:
    """Another project, which must never see or change anything of Alice's."""
    return ProjectFactory(name="Stranger's shop")


@pytest.fixture
def make_client() -> Callable[..., APIClient]:
    def make(project: Project, **key: Any) -> APIClient:
        client = APIClient()
        token = ApiKeyFactory(project=project, **key).token  # type: ignore[attr-defined]
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client

    return make


@pytest.fixture
def client_of_alice(alice: Project, make_client: Callable[..., APIClient]) -> APIClient:
    """Calls the API with a live key of Alice's project."""
    return make_client(alice)


@pytest.fixture
def key_of_alice(alice: Project) -> ApiKey:
    return ApiKeyFactory(project=alice)


@pytest.fixture
def redis_client() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    yield client
    client.close()


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Polls until something holds; a condition that never does fails the test."""

    def wait(reached: Callable[[], bool], seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    return wait


WORKER = ("worker", "-l", "WARNING", "--without-gossip", "--without-mingle")


@pytest.fixture
def start_worker(
    wait_until: Callable[..., None],
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a Celery worker of its own process, with the given environment beside this test's database."""
    started: list[subprocess.Popen[bytes]] = []

    def start(app: str = "notifyproj", **environment: Any) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", app, *WORKER],
            env=os.environ | surroundings() | {k: str(v) for k, v in environment.items()},
        )
        started.append(worker)
        wait_until(_a_worker_is_alive, seconds=30)
        return worker

    yield start
    for worker in started:
        worker.send_signal(signal.SIGTERM)
    for worker in started:
        worker.wait(timeout=30)


def _a_worker_is_alive() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM notifications_heartbeat WHERE kind = 'worker'")
        return bool(cursor.fetchone()[0])
