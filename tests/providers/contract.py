"""What every provider promises, as tests. A new provider's test class inherits them.

`ProviderContract` is for all; `VendorContract` adds what only a vendor across a network can get wrong.
A subclass has a `vendor` fixture (a running stand-in from vendors.py) and says how that one misbehaves.

`WebhookContract` is for a provider whose vendor reports what became of a message. A subclass makes the vendor's
webhooks, genuine and forged ones; they go to the real paths over a real socket.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import uuid4

import pytest
import requests
from django.utils import timezone

from notifications import providers, receipts
from notifications.models import Notification, Receipt, SpentToken
from notifications.providers.base import (
    Ambiguous,
    Message,
    Misconfigured,
    Permanent,
    Provider,
    Sent,
    Temporary,
)
from notifications.providers.callbacks import callback_url
from notifications.providers.deadline import Deadline
from tests.factories import NotificationFactory

#: Long enough for a send on loopback on a busy machine.
AMPLE = 5.0
#: For a server that will not answer.
SHORT = 0.4
#: Seconds for which a busy machine may keep us from noticing that it is over.
SLACK = 1.0


class ProviderContract:
    name: ClassVar[str]
    channel: ClassVar[str]
    address: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _fresh_registry(self) -> Iterator[None]:
        providers.reset()
        yield
        providers.reset()

    @pytest.fixture
    def provider(self) -> Provider:
        return providers.get(self.name)

    def message(self, **overrides: Any) -> Message:
        fields: dict[str, Any] = {
            "notification_id": uuid4(),
            "channel": self.channel,
            "to": self.address,
            "subject": "Your order",
            "text": "It is on its way.",
        }
        return Message(**fields | overrides)

    def send(self, provider: Provider, *, deadline: float = AMPLE, **overrides: Any) -> Sent:
        return provider.send(self.message(**overrides), Deadline(deadline))

    def test_a_message_is_sent(self, provider: Provider) -> None:
        assert isinstance(self.send(provider), Sent)

    def test_it_is_one_instance_under_its_name(self, provider: Provider) -> None:
        assert provider is providers.get(self.name)
        assert provider.name == self.name

    def test_the_registry_knows_whether_it_may_repeat(self, provider: Provider) -> None:
        assert (self.name in providers.repeatable_names()) == provider.repeatable

    def test_many_threads_send_at_once(self, provider: Provider) -> None:
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: self.send(provider), range(24)))
        assert all(isinstance(answer, Sent) for answer in answers)

    def test_it_can_be_asked_whether_it_would_take_a_message(self, provider: Provider) -> None:
        assert isinstance(provider.verify(Deadline(AMPLE)), str)


class VendorContract(ProviderContract):
    """Each `make_...` scripts the stand-in's next answer."""

    secret: ClassVar[str]

    def make_refuse_for_now(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_refuse_for_good(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_refuse_us(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_vanish_after_the_message(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_hang_after_the_message(self, vendor: Any) -> None:
        raise NotImplementedError

    def make_drip(self, vendor: Any) -> None:
        raise NotImplementedError

    @pytest.fixture
    def provider(self, vendor: Any, settings: Any) -> Provider:
        configure(settings, vendor.settings)
        return providers.get(self.name)

    def test_it_is_asked_over_a_connection_and_is_sent_nothing(
        self, provider: Provider, vendor: Any
    ) -> None:
        assert provider.verify(Deadline(AMPLE))
        assert vendor.connections == 1
        assert vendor.accepted == []
        self.send(provider)
        assert len(vendor.accepted) == 1

    def test_asking_one_that_is_down_says_so_in_time(self, provider: Provider, vendor: Any) -> None:
        vendor.__exit__()
        with pytest.raises(Temporary), ends_within(AMPLE):
            provider.verify(Deadline(AMPLE))

    def test_the_vendor_has_the_message_once(self, provider: Provider, vendor: Any) -> None:
        self.send(provider)
        assert len(vendor.accepted) == 1

    def test_connections_are_reused(self, provider: Provider, vendor: Any) -> None:
        for _ in range(5):
            self.send(provider)
        assert vendor.connections == 1

    def test_a_connection_that_the_vendor_closed_costs_nothing(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.send(provider)
        vendor.close_connections()
        time.sleep(0.05)
        self.send(provider)
        assert (len(vendor.accepted), vendor.connections) == (2, 2)

    def test_a_refusal_for_now_is_temporary(self, provider: Provider, vendor: Any) -> None:
        self.make_refuse_for_now(vendor)
        with pytest.raises(Temporary):
            self.send(provider)
        self.send(provider)

    def test_a_refusal_for_good_is_permanent(self, provider: Provider, vendor: Any) -> None:
        self.make_refuse_for_good(vendor)
        with pytest.raises(Permanent):
            self.send(provider)
        self.send(provider)

    def test_a_refusal_of_us_is_a_misconfiguration_without_our_secret(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_refuse_us(vendor)
        with pytest.raises(Misconfigured) as refused:
            self.send(provider)
        assert self.secret not in f"{refused.value.code} {refused.value.detail}"

    def test_no_server_at_all_is_temporary(self, provider: Provider, vendor: Any) -> None:
        vendor.__exit__()
        with pytest.raises(Temporary) as failed:
            self.send(provider)
        assert failed.value.code == "connection_failed"

    def test_a_connection_lost_after_the_message_is_ambiguous(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_vanish_after_the_message(vendor)
        with pytest.raises(Ambiguous) as lost:
            self.send(provider)
        assert lost.value.code == "connection_lost"

    def test_no_answer_until_the_deadline_is_ambiguous(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_hang_after_the_message(vendor)
        with ends_within(SHORT + SLACK), pytest.raises(Ambiguous) as failed:
            self.send(provider, deadline=SHORT)
        assert failed.value.code == "timed_out"

    def test_a_server_that_drips_ends_at_the_deadline(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.make_drip(vendor)
        with ends_within(SHORT + SLACK), pytest.raises(Ambiguous):
            self.send(provider, deadline=SHORT)

    def test_a_kept_connection_is_under_the_deadline_of_the_call_that_uses_it(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.send(provider)
        self.make_drip(vendor)
        with ends_within(SHORT + SLACK), pytest.raises(Ambiguous):
            self.send(provider, deadline=SHORT)
        assert vendor.connections == 1

    def test_the_next_send_after_a_cut_one_works(self, provider: Provider, vendor: Any) -> None:
        self.make_drip(vendor)
        with pytest.raises(Ambiguous):
            self.send(provider, deadline=SHORT)
        self.send(provider)

    def test_a_passed_deadline_sends_nothing(self, provider: Provider, vendor: Any) -> None:
        with pytest.raises(Temporary):
            self.send(provider, deadline=0)
        assert vendor.accepted == []

    def test_a_passed_deadline_sends_nothing_over_a_kept_connection(
        self, provider: Provider, vendor: Any
    ) -> None:
        self.send(provider)
        with pytest.raises(Temporary):
            self.send(provider, deadline=0)
        assert len(vendor.accepted) == 1


#: Where vendors reach us, while the server of the tests is at another address: as behind a proxy.
PUBLIC_URL = "https://notify.example.com"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request of a vendor."""

    path: str
    headers: dict[str, str]
    body: bytes


@pytest.mark.django_db(transaction=True)
class WebhookContract:
    name: ClassVar[str]
    channel: ClassVar[str]
    #: What makes us believe the vendor; an example.
    secrets: ClassVar[dict[str, Any]]
    #: The vendor's word for a message that has arrived.
    delivered: ClassVar[str] = "delivered"
    #: The vendor's id of the message that its webhooks are about.
    message_id: ClassVar[str] = "message-id-example"

    def webhook(self, notification: Notification, word: str, *, forged: bool = False) -> Webhook:
        """That this notification, `message_id` at the vendor, has become `word`.

        `forged`: signed by somebody who does not know the vendor's secret.
        """
        raise NotImplementedError

    def unsigned(self, webhook: Webhook) -> Webhook:
        """The same without what proves that it is the vendor's."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _believing_the_vendor(self, settings: Any) -> Iterator[None]:
        configure(settings, self.secrets | {"PUBLIC_URL": PUBLIC_URL})
        yield
        providers.reset()

    @pytest.fixture(autouse=True)
    def _server(self, live_server: Any) -> None:
        self.server = live_server.url

    @pytest.fixture
    def sent(self) -> Notification:
        """One that the vendor took and told us its id of."""
        return NotificationFactory(
            channel=self.channel,
            provider=self.name,
            status="sent",
            sent_at=timezone.now(),
            provider_message_id=self.message_id,
        )

    def post(self, webhook: Webhook) -> requests.Response:
        url = f"{self.server}{webhook.path}"
        return requests.post(url, data=webhook.body, headers=webhook.headers, timeout=10)

    def tell(self, *args: Any) -> None:
        """A genuine one that has to be kept, and whatever is due has to be applied."""
        answer = self.post(self.webhook(*args))
        assert answer.ok, answer.text
        receipts.apply_all()

    def test_a_genuine_one_is_kept_once(self, sent: Notification, woken: list[str]) -> None:
        answer = self.post(self.webhook(sent, self.delivered))
        assert answer.ok, answer.text
        kept = Receipt.objects.get()
        assert (kept.provider, kept.event) == (self.name, "delivered")
        assert (kept.named_id, kept.provider_message_id) == (sent.id, self.message_id)
        assert kept.raw
        assert woken == ["receipts"]

    def test_told_twice_it_is_one_receipt(self, sent: Notification) -> None:
        webhook = self.webhook(sent, self.delivered)
        assert [self.post(webhook).ok, self.post(webhook).ok] == [True, True]
        assert Receipt.objects.count() == 1

    def test_told_by_many_at_once_it_is_one_receipt(self, sent: Notification) -> None:
        webhook = self.webhook(sent, self.delivered)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(self.post, [webhook] * 16))
        assert all(answer.ok for answer in answers)
        assert Receipt.objects.count() == 1

    def test_a_forged_one_is_refused(self, sent: Notification) -> None:
        self._refused(self.webhook(sent, self.delivered, forged=True))

    def test_an_unsigned_one_is_refused(self, sent: Notification) -> None:
        self._refused(self.unsigned(self.webhook(sent, self.delivered)))

    def test_without_a_secret_of_ours_nobody_is_believed(
        self, sent: Notification, settings: Any
    ) -> None:
        webhook = self.webhook(sent, self.delivered)
        configure(settings, {name: type(value)() for name, value in self.secrets.items()})
        self._refused(webhook)

    def _refused(self, webhook: Webhook) -> None:
        answer = self.post(webhook)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_verified")
        assert not Receipt.objects.exists()
        assert not SpentToken.objects.exists()

    def test_what_has_arrived_is_delivered(self, sent: Notification) -> None:
        self.tell(sent, self.delivered)
        sent.refresh_from_db()
        assert (sent.status, sent.delivered_at is not None) == ("delivered", True)

    def test_one_that_was_unknown_is_settled_by_what_travelled_with_the_message(self) -> None:
        unknown = NotificationFactory(channel=self.channel, provider=self.name, status="unknown")
        self.tell(unknown, self.delivered)
        unknown.refresh_from_db()
        assert (unknown.status, unknown.provider_message_id) == ("delivered", self.message_id)

    def test_a_word_that_we_do_not_know_is_kept_and_moves_nothing(self, sent: Notification) -> None:
        self.tell(sent, "something_new")
        kept = Receipt.objects.get()
        assert (kept.event, kept.notification_id) == ("unknown", sent.id)
        sent.refresh_from_db()
        assert sent.status == "sent"

    def test_of_a_message_that_is_not_ours_it_is_kept(self) -> None:
        self.tell(Notification(id=uuid4()), self.delivered)
        kept = Receipt.objects.get()
        assert (kept.notification_id, kept.applied_at) == (None, None)


def link_to(provider: str, notification: Notification) -> str:
    """The path by which an SMS vendor reports, as it was told with the message."""
    return callback_url(provider, notification.id).removeprefix(PUBLIC_URL)


class ends_within:
    """`with ends_within(1):` fails when the block takes longer than so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        self.began = time.monotonic()

    def __exit__(self, *exc_info: object) -> None:
        took = time.monotonic() - self.began
        assert took < self.seconds, f"took {took:.2f} s"


def overriding(field: str, value: str) -> dict[str, Any]:
    return {field: value}


def configure(settings: Any, values: dict[str, Any]) -> None:
    """Put a stand-in's settings into Django's, for one test."""
    for name, value in values.items():
        setattr(settings, name, value)
    providers.reset()
