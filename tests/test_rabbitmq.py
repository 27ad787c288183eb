"""RabbitMQ carries the wake-ups by CELERY_BROKER_URL alone: a real one, which is killed and frozen, and real workers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from amqp.exceptions import PreconditionFailed
from celery import Celery
from kombu import Connection
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from notifications import doctor, sweeping, waking
from notifications.doctor import brokers
from notifications.models import Attempt, Notification
from notifyproj import broker
from tests.providers.vendors import FakeSmtp
from tests.rabbitmq import PASSWORD, RabbitMQ
from tests.test_pipeline import post, status_of, use

pytestmark = pytest.mark.django_db(transaction=True)

#: Seconds between two sweeps in a worker that shall hear of everything through the broker.
NEVER = 3600


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[RabbitMQ]:
    folder = tmp_path_factory.mktemp("rabbitmq")
    files = {name: folder / f"{name}.pem" for name in ("certfile", "keyfile")}
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(files["certfile"])
    issued.private_key_pem.write_to_path(files["keyfile"])
    with RabbitMQ(folder, files) as server:
        yield server


@pytest.fixture
def publisher(
    rabbitmq: RabbitMQ, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Celery]]:
    """Makes this process publish to RabbitMQ, as one does that was started with CELERY_BROKER_URL."""
    made: list[Celery] = []

    def make(url: str = "", **options: Any) -> Celery:
        url = url or rabbitmq.url
        settings.CELERY_BROKER_URL = url
        patient = {"read_timeout": 30, "write_timeout": 30}  # this machine may be busy
        own = broker.transport_options(url, "")
        settings.CELERY_BROKER_TRANSPORT_OPTIONS = own | patient | options
        settings.CELERY_BROKER_USE_SSL = broker.tls(url)
        settings.CELERY_TASK_QUEUES = broker.queues(url)
        app = Celery("publisher", set_as_current=False)
        app.config_from_object("django.conf:settings", namespace="CELERY")
        monkeypatch.setattr("notifyproj.celery.app", app)
        monkeypatch.setattr("notifications.intake.wake", waking.Waker().mark)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def ask(rabbitmq: RabbitMQ) -> Callable[[str], Any]:
    """Asks RabbitMQ about a queue: (name, messages that wait, consumers)."""

    def asked(name: str) -> Any:
        with Connection(rabbitmq.url) as connection:
            return connection.default_channel.queue_declare(name, passive=True)

    return asked


@pytest.fixture(autouse=True)
def _empty_queues(rabbitmq: RabbitMQ) -> None:
    with Connection(rabbitmq.url) as connection:
        for queue in broker.queues(rabbitmq.url):
            queue(connection.default_channel).declare()
            queue(connection.default_channel).purge()


def email(client: Any, number: int, priority: str) -> str:
    recipient = f"ada{number}@example.com"
    return post(client, channel="email", recipient=recipient, message="Yo", priority=priority)


def in_app(client: Any) -> str:
    return post(client, channel="in_app", user_id=4, message="Yo")


def was_delivered_before_a_sweep_would_look(notification_id: str) -> bool:
    found = Notification.objects.get(id=notification_id)
    if found.delivered_at is None:
        return False
    return bool(found.delivered_at - found.created_at < timedelta(seconds=sweeping.OVERDUE))


# --- Queues and messages --------------------------------------------------------------------------


@pytest.mark.parametrize("name", broker.QUEUES)
def test_the_queues_are_quorum_queues(rabbitmq, publisher, name):
    publisher()
    waking.publish(f"email.{name}")
    other = {"x-queue-type": "classic", "x-max-length": broker.LONGEST_QUEUE}
    with (
        Connection(rabbitmq.url) as connection,
        pytest.raises(PreconditionFailed, match="received 'classic' but current is 'quorum'"),
    ):
        connection.default_channel.queue_declare(
            name, durable=True, auto_delete=False, arguments=other
        )


def test_a_wake_up_is_confirmed(publisher, ask):
    publisher()
    waking.publish("email.high")
    assert ask("high").message_count == 1


def test_a_wake_up_that_is_tried_again_waits_in_the_broker_and_goes_to_the_same_queue(
    rabbitmq, publisher, ask, wait_until
):
    """As Celery's autoretry publishes it: with a countdown, and with where the message came from."""
    app = publisher()
    with Connection(rabbitmq.url) as connection:  # which every worker does when it starts
        declare_native_delayed_delivery_exchanges_and_queues(
            connection, app.conf.broker_native_delayed_delivery_queue_type
        )
        for queue in broker.queues(rabbitmq.url):
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)
        # What a worker of an earlier test was still to try again is not what is counted here.
        wait_until(lambda: ask("celery_delayed_0").message_count == 0)
        connection.default_channel.queue_purge("low")
    options = {"exchange": "low", "routing_key": "low", "countdown": 1}
    app.send_task(waking.DRAIN_TASK, args=("email.low",), **options)
    assert ask("celery_delayed_0").message_count == 1
    wait_until(lambda: ask("low").message_count == 1)


def test_a_worker_declares_the_queues_that_it_does_not_read_too(rabbitmq, publisher, ask):
    app = publisher()
    with app.connection_for_read() as connection:
        for name in broker.QUEUES:
            connection.default_channel.queue_delete(name)
        parent = SimpleNamespace(app=app, connection=connection)
        step = broker.DeclareQueues(parent)
        assert step.include_if(parent)
        step.start(parent)
    assert [ask(name).message_count for name in broker.QUEUES] == [0, 0, 0]


def test_with_tls_the_servers_certificate_is_checked(
    rabbitmq, publisher, ask, authority, monkeypatch, tmp_path
):
    publisher(rabbitmq.tls_url)
    with pytest.raises(Exception, match="certificate verify failed"):
        waking.publish("email.high")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    waking.publish("email.high")
    assert ask("high").message_count == 1


# --- Workers --------------------------------------------------------------------------------------


def test_wake_ups_reach_two_workers_that_share_the_work(
    client_of_alice, settings, rabbitmq, publisher, start_worker, wait_until, ask
):
    publisher()
    with FakeSmtp() as one, FakeSmtp() as other:
        use(settings, one)
        for vendor in (one, other):
            start_worker(CELERY_BROKER_URL=rabbitmq.url, EMAIL_URL=vendor.url, SWEEP_INTERVAL=NEVER)
        wait_until(lambda: ask("normal").consumer_count == 2, seconds=20)
        posted = []
        for priority in itertools.islice(itertools.cycle(broker.QUEUES), 60):
            posted.append(email(client_of_alice, len(posted), priority))
            wait_until(lambda: status_of(posted[-1]) == "sent")
            if one.accepted and other.accepted and len(posted) >= len(broker.QUEUES):
                break
    accepted = [[mail.parsed["X-Notification-Id"] for mail in v.accepted] for v in (one, other)]
    assert all(accepted), "one of the two does everything"
    assert sorted(accepted[0] + accepted[1]) == sorted(posted)


# --- RabbitMQ away --------------------------------------------------------------------------------


def test_while_rabbitmq_is_dead_the_sweep_delivers_and_afterwards_wake_ups_do_again(
    client_of_alice, rabbitmq, publisher, start_worker, wait_until, ask
):
    app = publisher()
    start_worker(CELERY_BROKER_URL=rabbitmq.url, SWEEP_INTERVAL=1)
    wait_until(lambda: ask("normal").consumer_count == 1, seconds=20)
    rabbitmq.kill()
    try:
        posted = in_app(client_of_alice)
        wait_until(lambda: status_of(posted) == "delivered", seconds=20)
    finally:
        rabbitmq.start()

    def woken_again():
        posted = in_app(client_of_alice)
        wait_until(lambda: status_of(posted) == "delivered", seconds=20)
        return was_delivered_before_a_sweep_would_look(posted)

    wait_until(woken_again, seconds=60)
    # Quorum queues for what waits would confirm nothing from here on (RabbitMQ 3.10).
    app.send_task(waking.DRAIN_TASK, args=("email.low",), countdown=1)
    assert Attempt.objects.count() == Notification.objects.count()


def test_a_frozen_rabbitmq_holds_up_no_request(
    client_of_alice, rabbitmq, publisher, monkeypatch, wait_until
):
    app = publisher(read_timeout=1, write_timeout=1)
    app.conf.broker_connection_timeout = 1
    waking.publish("email.high")  # it is connected
    gave_up = threading.Event()

    def publish(lanes):
        try:
            waking.hint(lanes)
        except Exception:
            gave_up.set()
            raise

    monkeypatch.setattr("notifications.intake.wake", waking.Waker(publish).mark)
    rabbitmq.freeze()
    try:
        started = time.monotonic()
        while time.monotonic() - started < 0.5:
            in_app(client_of_alice)
        assert not gave_up.is_set()
        wait_until(gave_up.is_set, seconds=30)
    finally:
        rabbitmq.go_on()
    waking.publish("email.high")


def test_the_doctor_says_whether_it_answers_and_lets_us_in(
    rabbitmq: RabbitMQ,
    settings: Any,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broker_finding(url: str) -> doctor.Finding:
        settings.CELERY_BROKER_URL = url
        settings.CELERY_BROKER_USE_SSL = broker.tls(url)
        return next(iter(brokers.examine(deadline=10.0)))

    assert broker_finding(rabbitmq.url).code == "ok"
    assert broker_finding(rabbitmq.url.replace(PASSWORD, "wrong")).code == "broker_unreachable"
    # Nobody here knows the authority of its certificate.
    assert broker_finding(rabbitmq.tls_url).code == "broker_unreachable"
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    assert broker_finding(rabbitmq.tls_url).code == "ok"


def found_by_the_doctor() -> dict[str, str]:
    return {found.component: found.code for found in brokers.examine()}


def test_the_doctor_waits_for_no_frozen_rabbitmq(rabbitmq, publisher, wait_until):
    publisher()
    found = []
    rabbitmq.freeze()
    try:
        doctor = threading.Thread(target=lambda: found.append(found_by_the_doctor()), daemon=True)
        doctor.start()
        wait_until(lambda: found, seconds=30)
    finally:
        rabbitmq.go_on()
    doctor.join()
    assert found == [{"broker": "broker_unreachable", "counters": "ok"}]
