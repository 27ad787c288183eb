"""What tests start from. `NotificationFactory()` is a stored, waiting e-mail of Alice's project."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
from django.db import transaction
from django.utils import timezone
from factory.django import DjangoModelFactory
from uuid_utils.compat import uuid7

from notifications.inbox import numbering
from notifications.intake import flow_of
from notifications.models import (
    Attempt,
    Batch,
    CallCount,
    Flow,
    HourlyCount,
    Notification,
    Receipt,
    Suppression,
    lane_of,
)
from users.models import Address, ApiKey, Project, Recipient, User


class UserFactory(DjangoModelFactory[User]):
    class Meta:
        model = User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"operator{n}")
    password = factory.django.Password("a-long-passphrase")
    is_staff = True


class ProjectFactory(DjangoModelFactory[Project]):
    class Meta:
        model = Project

    name = factory.Sequence(lambda n: f"Project {n}")


class ApiKeyFactory(DjangoModelFactory[ApiKey]):
    """`ApiKeyFactory().token` is the whole key, as the caller was shown it."""

    class Meta:
        model = ApiKey

    project = factory.SubFactory(ProjectFactory)
    name = "a backend"
    kind = "live"

    @classmethod
    def _create(cls, model_class: type[ApiKey], *args: Any, **kwargs: Any) -> ApiKey:
        key = model_class(*args, **kwargs)
        key.token = key.issue()  # type: ignore[attr-defined]
        key.save()
        return key


class RecipientFactory(DjangoModelFactory[Recipient]):
    class Meta:
        model = Recipient

    project = factory.SubFactory(ProjectFactory)
    user_id = factory.Sequence(lambda n: f"user{n}")


class AddressFactory(DjangoModelFactory[Address]):
    class Meta:
        model = Address

    recipient = factory.SubFactory(RecipientFactory)
    project = factory.SelfAttribute("recipient.project")
    channel = "email"
    value = factory.Sequence(lambda n: f"person{n}@example.com")


class NotificationFactory(DjangoModelFactory[Notification]):
    class Meta:
        model = Notification

    class Params:
        lane = factory.LazyAttribute(lambda o: lane_of(o.channel, o.priority))

    id = factory.LazyFunction(uuid7)
    recipient = factory.SubFactory(RecipientFactory)
    project = factory.SelfAttribute("recipient.project")
    user_id = factory.SelfAttribute("recipient.user_id")
    flow_id = factory.LazyAttribute(lambda o: flow_of(o.project.id, o.lane))
    channel = "email"
    priority = "normal"
    live = True
    address = factory.LazyAttribute(lambda o: f"{o.user_id}@example.com")
    title = "Hello"
    message = "Hello there!"
    # Due for a while: inside a test's transaction the database's now() stands still.
    created_at = factory.LazyFunction(lambda: timezone.now() - timedelta(minutes=1))
    due_at = factory.SelfAttribute("created_at")


def arrived(recipient: Recipient, **fields: Any) -> Notification:
    """One that was delivered in-app, and has its number in the person's inbox."""
    (notification,) = arrived_together(recipient, 1, **fields)
    return notification


def arrived_together(recipient: Recipient, count: int, **fields: Any) -> list[Notification]:
    """So many, delivered in one transaction, as the engine does it; the first has the lowest number."""
    now = timezone.now()
    given = {"sent_at": now, "delivered_at": now, "provider": "inbox", "fence": 1} | fields
    notifications = NotificationFactory.create_batch(
        count,
        recipient=recipient,
        channel="in_app",
        address=recipient.user_id,
        status="delivered",
        **given,
    )
    with transaction.atomic():
        numbering.arrive([each.pk for each in notifications])
    for each in notifications:
        each.refresh_from_db()
    return notifications


class BatchFactory(DjangoModelFactory[Batch]):
    """A batch that runs, with its flow. `row_of(batch, 1)` is its first notification."""

    class Meta:
        model = Batch
        skip_postgeneration_save = True

    id = factory.LazyFunction(uuid7)
    project = factory.SubFactory(ProjectFactory)
    name = factory.Sequence(lambda n: f"Announcement {n}")
    status = "running"
    channel = "email"
    priority = "low"
    live = True
    message = "Hello {{ first_name }}!"
    digest = b"\0" * 32
    resumed_at = factory.LazyFunction(lambda: timezone.now() - timedelta(minutes=1))

    @factory.post_generation
    def with_flow(self: Batch, create: bool, extracted: Any, **kwargs: Any) -> None:
        Flow.objects.create(
            batch=self,
            project=self.project,
            lane=lane_of(self.channel, self.priority),
            paused=self.status != "running",
            rate=extracted,
        )


def row_of(batch: Batch, number: int, **fields: Any) -> Notification:
    return NotificationFactory(
        recipient=RecipientFactory(project=batch.project),
        flow_id=batch.flow.pk,
        channel=batch.channel,
        priority=batch.priority,
        row_number=number,
        once_per_address=batch.once_per_address,
        **fields,
    )


class AttemptFactory(DjangoModelFactory[Attempt]):
    class Meta:
        model = Attempt

    notification = factory.SubFactory(NotificationFactory)
    fence = 1
    provider = "smtp"
    started_at = factory.LazyFunction(timezone.now)


class ReceiptFactory(DjangoModelFactory[Receipt]):
    """A receipt that has come and is not applied yet."""

    class Meta:
        model = Receipt

    provider = "mailgun"
    event_id = factory.Sequence(lambda n: f"event-{n}")
    event = "delivered"
    occurred_at = factory.LazyFunction(timezone.now)
    # Due for a while: inside a test's transaction the database's now() stands still.
    due_at = factory.LazyFunction(lambda: timezone.now() - timedelta(minutes=1))


class SuppressionFactory(DjangoModelFactory[Suppression]):
    class Meta:
        model = Suppression

    id = factory.LazyFunction(uuid7)
    project = factory.SubFactory(ProjectFactory)
    channel = "email"
    address = factory.Sequence(lambda n: f"nobody{n}@example.com")
    reason = "hard_bounce"
    source = "receipt"


class HourlyCountFactory(DjangoModelFactory[HourlyCount]):
    """Seven e-mails of this hour that were sent."""

    class Meta:
        model = HourlyCount

    hour = factory.LazyFunction(lambda: timezone.now().replace(minute=0, second=0, microsecond=0))
    project = factory.SubFactory(ProjectFactory)
    channel = "email"
    live = True
    status = "sent"
    count = 7


class CallCountFactory(DjangoModelFactory[CallCount]):
    """A call of some minutes ago that was taken, within 128 to 256 ms."""

    class Meta:
        model = CallCount

    span = "minute"
    began_at = factory.LazyFunction(
        lambda: (timezone.now() - timedelta(minutes=4)).replace(second=0, microsecond=0)
    )
    lane = "email.normal"
    provider = "smtp"
    outcome = "accepted"
    bucket = 7
    calls = 1
