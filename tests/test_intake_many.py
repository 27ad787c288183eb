"""submit_many() does what submit() does one by one, also beside others who make and forget the same people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from notifications import changes, intake_many
from notifications.intake import Accepted, Submission, submit
from notifications.intake_many import key_of, submit_many
from notifications.models import Notification
from tests.api.parallel import at_once
from tests.factories import (
    AddressFactory,
    ApiKeyFactory,
    ProjectFactory,
    RecipientFactory,
    SuppressionFactory,
)
from users import directory
from users.directory import Destination
from users.finding_many import Expected, Known, make_expected
from users.models import Address, Project, Recipient
from users.refusals import IdempotencyKeyInUse, Refused

ANNS_PHONE, CARLS_ID, DORAS_ID = "+12125550100", "+12125550101", "+12125550102"
NEW_PHONE, NEXT_PHONE, STOPPED_PHONE = "+12125550103", "+12125550104", "+12125550199"
USER_IDS = ["", "ann", "bob", "new", "newer", CARLS_ID, NEW_PHONE, "12125550104"]
EMAILS = [
    "ann@example.com",
    "ANN@example.com",
    "new@example.com",
    "new@EXAMPLE.com",
    "newer@example.com",
    "gone@example.com",
    "dead@example.com",
    "bob",
]
PHONES = [
    ANNS_PHONE,
    "(212) 555-0100",
    CARLS_ID,
    DORAS_ID,
    NEW_PHONE,
    "212 555 0103",
    "12125550104",
    NEXT_PHONE,
    STOPPED_PHONE,
    "ann",
    "bob",
    "new",
    "12",
]
RECIPIENTS = {"email": ["", *EMAILS], "sms": ["", *PHONES], "in_app": ["", "ann", "bob", "new"]}


@pytest.fixture
def world(settings: Settings, db: None) -> Project:
    """People with and without addresses, one whose id is another's phone, and addresses that are suppressed."""
    settings.EMAIL_URL = "smtp://localhost:2525"
    settings.TWILIO_ACCOUNT_SID = settings.TWILIO_AUTH_TOKEN = "x"
    settings.TWILIO_FROM = "+15005550006"
    project: Project = ProjectFactory(mandatory_categories=["receipts"])
    ann, bob, dora, _ = (
        RecipientFactory(project=project, user_id=user_id)
        for user_id in ("ann", "bob", DORAS_ID, CARLS_ID)
    )
    AddressFactory(recipient=ann, value="ann@example.com")
    AddressFactory(recipient=ann, channel="sms", value=ANNS_PHONE)
    AddressFactory(recipient=bob, channel="sms", value=DORAS_ID)
    AddressFactory(recipient=dora, value="dora@example.com")
    for channel, address, reason in (
        ("email", "gone@example.com", "complaint"),
        ("email", "dead@example.com", "hard_bounce"),
        ("sms", STOPPED_PHONE, "stop"),
        ("email", "fallback@example.com", "complaint"),
    ):
        SuppressionFactory(project=project, channel=channel, address=address, reason=reason)
    RecipientFactory(project=ProjectFactory(), user_id="new")
    return project


@st.composite
def asked(draw: st.DrawFn) -> dict[str, str]:
    """One notification: any channel, to a user_id, a recipient or both."""
    channel = draw(st.sampled_from(["email", "sms", "in_app"]))
    user_id = draw(st.sampled_from(USER_IDS))
    recipient = draw(st.sampled_from(RECIPIENTS[channel][0 if user_id else 1 :]))
    category = draw(st.sampled_from(["", "", "receipts", "news"]))
    priority = draw(st.sampled_from(["normal", "high"]))
    names = ("channel", "user_id", "recipient", "category", "priority")
    return dict(zip(names, (channel, user_id, recipient, category, priority), strict=True))


def mail(recipient: str, user_id: str = "", **others: str) -> dict[str, str]:
    return {"channel": "email", "user_id": user_id, "recipient": recipient} | others


def sms(recipient: str, user_id: str = "") -> dict[str, str]:
    return {"channel": "sms", "user_id": user_id, "recipient": recipient}


def inbox(user_id: str) -> dict[str, str]:
    return {"channel": "in_app", "user_id": user_id}


@dataclass
class Names:
    """Ids of ours differ each time: the first that is met is called 1."""

    known: dict[str, str]

    def of(self, user_id: str) -> str:
        if not user_id.startswith("usr_"):
            return user_id
        return self.known.setdefault(user_id, f"usr {len(self.known) + 1}")


def _shown(answer: Accepted | Refused, names: Names) -> tuple[Any, ...]:
    if isinstance(answer, Refused):
        return type(answer), answer.status, answer.code, answer.detail, answer.field
    stored = answer.notification
    assert stored.recipient is not None
    assert stored.recipient.user_id == stored.user_id
    return (
        stored.status,
        stored.channel,
        stored.priority,
        stored.flow.lane,
        stored.address,
        names.of(stored.user_id),
        stored.category,
        stored.live,
        stored.api_key_id,
        stored.metadata,
        stored.title,
        stored.reference,
        stored.scheduled_for,
        (stored.expires_at or stored.due_at) - stored.due_at,
        stored.due_at - stored.created_at,
    )


def _people(project: Project, names: Names) -> set[tuple[str, bool, frozenset[tuple[str, str]]]]:
    return {
        (
            names.of(each.user_id),
            each.provisional,
            frozenset((address.channel, address.value) for address in each.addresses.all()),
        )
        for each in Recipient.objects.filter(project=project)
    }


def _columns(notification: Notification) -> dict[str, Any]:
    names = [field.attname for field in Notification._meta.concrete_fields]
    return {name: getattr(notification, name) for name in names}


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def one_by_one(submissions: Sequence[Submission]) -> list[Accepted | Refused]:
    answers: list[Accepted | Refused] = []
    for submission in submissions:
        try:
            answers.append(submit(submission))
        except Refused as refusal:
            answers.append(refusal)
    return answers


def outcome(
    project: Project,
    submissions: Sequence[Submission],
    store: Callable[[Sequence[Submission]], list[Accepted | Refused]],
) -> Any:
    with undone():
        answers = store(submissions)
        names = Names({})
        shown = [_shown(answer, names) for answer in answers]
        stored = Notification.objects.filter(project=project)
        order = [answer.notification.id for answer in answers if isinstance(answer, Accepted)]
        assert sorted(order) == list(stored.order_by("id").values_list("id", flat=True))
        for answer in answers:
            if isinstance(answer, Accepted):
                assert _columns(answer.notification) == _columns(
                    stored.get(id=answer.notification.id)
                )
        return shown, _people(project, names)


@pytest.mark.parametrize("fallback", ["", "me@example.com", "fallback@example.com"])
@pytest.mark.parametrize("live", [True, False])
@given(items=st.lists(asked(), min_size=1, max_size=8))
@example(items=[mail("new@example.com"), mail("new@example.com"), mail("new@EXAMPLE.com")])
@example(items=[mail("new@example.com", "new"), mail("new@example.com"), inbox("new")])
@example(items=[inbox(NEW_PHONE), sms("212 555 0103"), sms(NEW_PHONE)])
@example(items=[sms(NEW_PHONE), inbox(NEW_PHONE), sms(NEW_PHONE)])
@example(items=[sms(DORAS_ID), sms(CARLS_ID), sms("ann"), sms("bob"), sms("12")])
@example(items=[mail("gone@example.com"), mail("gone@example.com", category="receipts")])
@example(items=[mail("gone@example.com", "new"), sms("new"), sms("new", "new")])
@example(items=[mail("gone@example.com", NEW_PHONE), sms(NEW_PHONE)])
@example(items=[mail("dead@example.com", category="receipts"), mail("", "bob"), mail("", "new")])
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_many_at_once_are_as_one_by_one(
    world: Project, settings: Settings, live: bool, fallback: str, items: list[dict[str, str]]
) -> None:
    settings.FALLBACK_EMAIL = fallback
    key = ApiKeyFactory(project=world)
    submissions = [
        Submission(
            project_id=world.pk,
            api_key_id=key.pk,
            live=live,
            message=f"message {number}",
            title="Title",
            reference="r",
            metadata={"zz": 1e22, "a": [1.50, "é"]},
            **item,
        )
        for number, item in enumerate(items)
    ]
    assert outcome(world, submissions, submit_many) == outcome(world, submissions, one_by_one)


# --- Others at the same time ------------------------------------------------------------------------


def _mails(project: Project, addresses: Sequence[str]) -> list[Submission]:
    return [
        Submission(project_id=project.pk, channel="email", message="Hello", recipient=address)
        for address in addresses
    ]


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[int]]:
    """Has something done once, by another connection, after the people were looked for."""

    def arrange(act: Callable[[], None]) -> list[int]:
        looks: list[int] = []

        def look(*args: Any) -> Known:
            known = Known(*args)
            looks.append(1)
            if len(looks) == 1:
                at_once(1, lambda _: act(), threads=1)
            return known

        monkeypatch.setattr(intake_many, "Known", look)
        return looks

    return arrange


Between = Callable[[Callable[[], None]], list[int]]


@pytest.mark.django_db(transaction=True)
def test_whoever_is_made_in_between_is_found_by_another_look(
    alice: Project, between: Between
) -> None:
    def make() -> None:
        AddressFactory(
            recipient=RecipientFactory(project=alice, user_id="ann"), value="ann@example.com"
        )

    looks = between(make)
    answers = submit_many(_mails(alice, ["ann@example.com", "bob@example.com"]))
    assert len(looks) == 2
    assert [isinstance(answer, Accepted) for answer in answers] == [True, True]
    assert Notification.objects.filter(recipient__user_id="ann").count() == 1
    assert Recipient.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_whoever_is_forgotten_in_between_is_made_anew(alice: Project, between: Between) -> None:
    ann = RecipientFactory(project=alice, user_id="ann")
    AddressFactory(recipient=ann, value="ann@example.com")
    looks = between(lambda: changes.forget(ann) and None)
    submit_many(_mails(alice, ["ann@example.com", "bob@example.com"]))
    assert len(looks) == 2
    assert not Recipient.objects.filter(user_id="ann").exists()
    assert sorted(Address.objects.values_list("value", flat=True)) == [
        "ann@example.com",
        "bob@example.com",
    ]
    assert Notification.objects.filter(recipient__addresses__value="ann@example.com").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("named", [True, False], ids=["with user_ids", "by address alone"])
def test_calls_with_the_same_new_people_at_once_do_not_stand_in_a_ring(
    alice: Project, named: bool
) -> None:
    """In opposite order, over all channels and lanes. A deadlock would be an OperationalError."""

    def everybody(call: int) -> list[Submission]:
        items = [
            item
            for number in range(60)
            for item in (
                mail(f"new{number}@example.com"),
                sms(f"+1212555{number:04}"),
                *([inbox(f"new{number}"), mail("", f"old{number}", priority="high")] * named),
            )
        ]
        ordered = items if call % 2 else items[::-1]
        return [Submission(project_id=alice.pk, message="Hello", **item) for item in ordered]

    answers = at_once(12, lambda call: submit_many(everybody(call)), threads=4)
    assert all(isinstance(answer, Accepted) for many in answers for answer in many)
    assert Recipient.objects.count() == (240 if named else 120)
    assert Address.objects.count() == 120
    assert Notification.objects.count() == 12 * len(everybody(0))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("many", [True, False])
def test_making_somebody_who_is_there_by_now_does_not_wait_for_who_sends_to_them(
    alice: Project, many: bool
) -> None:
    """Half of a ring: the sender's foreign key holds the row that the other one finds instead of making it."""
    known = RecipientFactory(project=alice, user_id="ada")

    def make(_: int) -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '2s'")
            if many:
                return make_expected(alice.pk, [Expected(-1, "ada", "email", "")])[-1]
            return directory.make(alice.pk, "email", Destination("ada", ""))

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT FROM users_recipient WHERE id = %s FOR KEY SHARE", [known.pk])
        assert at_once(1, make, threads=1) == [known.pk]


@pytest.mark.django_db(transaction=True)
def test_of_parallel_calls_with_one_key_one_stores(alice: Project) -> None:

    def call(_: int) -> str:
        submissions = [
            Submission(
                project_id=alice.pk,
                channel="in_app",
                user_id=f"new{number}",
                message="Hello",
                idempotency_key=key_of("k1", number),
                fingerprint=b"f",
            )
            for number in range(20)
        ]
        try:
            answers = submit_many(submissions, "k1")
        except IdempotencyKeyInUse:
            return "in use"
        replayed = {isinstance(answer, Accepted) and answer.replayed for answer in answers}
        return str(replayed)

    told = at_once(24, call, threads=8)
    assert told.count("{False}") == 1
    assert set(told) <= {"{False}", "{True}", "in use"}
    assert Notification.objects.count() == 20
