"""The first page: what it tells, to whom, what it costs; pausing and resuming from it; the test message."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from notifications import figures, pausing
from notifications.admin import overview
from notifications.figures import Hour, LaneFigures, ProviderHour
from notifications.models import Circuit, Flow, Heartbeat, Notification, Pause
from tests.factories import (
    BatchFactory,
    NotificationFactory,
    ProjectFactory,
    RecipientFactory,
    UserFactory,
)
from users import groups
from users.models import Project, User

pytestmark = pytest.mark.django_db

INDEX = "/admin/"
STATE = "/admin/notifications/pause/state/"
TEST_MESSAGE = "/admin/notifications/pause/test-message/"
#: What nobody wants to see in a page as it is.
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


def pause_page(target: str, act: str = "pause") -> str:
    return f"/admin/notifications/pause/{target}/{act}/confirm/"


def flow_page(flow_id: int, act: str = "pause") -> str:
    return f"/admin/notifications/flow/{flow_id}/{act}/confirm/"


@pytest.fixture(autouse=True)
def _a_provider(settings: Any) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"


@pytest.fixture
def olga() -> User:
    """An operator, over all projects."""
    user = UserFactory(username="olga")
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    return user


@pytest.fixture
def operator(olga: User) -> Client:
    return signed_in(olga)


@pytest.fixture
def limited(alice: Project) -> Client:
    """An operator of Alice's shop alone."""
    user = UserFactory(username="boris")
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    user.projects.add(alice)
    return signed_in(user)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(client: Client, path: str = STATE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return re.sub(r"\s+", " ", answer.content.decode())


def waiting_of(project: Project, **fields: Any) -> Notification:
    return NotificationFactory(recipient=RecipientFactory(project=project), **fields)


# --- What it tells ---------------------------------------------------------------------------------------


def test_it_says_that_all_is_well(operator: Client) -> None:
    Heartbeat.objects.create(name="worker one", kind="worker", queues="high,normal,low")
    Heartbeat.objects.create(name="beat", kind="scheduler")
    assert "another version" in text_of(operator)
    from notifyproj.version import VERSION

    Heartbeat.objects.update(version=VERSION)
    assert "Everything is going out." in text_of(operator, INDEX)
    assert "worker one" in text_of(operator)


def test_it_says_that_no_worker_is_alive(operator: Client) -> None:
    waiting_of(ProjectFactory(), due_at=timezone.now() - timedelta(hours=1))
    assert "Nothing goes out: no worker is alive." in text_of(operator)


def test_a_lane_tells_how_long_it_waits_how_fast_it_goes_what_failed_and_what_comes_again(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = ProjectFactory()
    waiting_of(shop, due_at=timezone.now() - timedelta(minutes=10))
    for due_in, attempts in ((5, 1), (6, 0)):
        waiting_of(shop, due_at=timezone.now() + timedelta(minutes=due_in), attempt_count=attempts)
    counted = LaneFigures(12.5, 1_200, 31, [("smtp_550", 20), ("timeout", 11)])
    monkeypatch.setattr(figures, "lanes", lambda now: {"email.normal": counted})
    text = re.sub(r"<[^>]+>", "", text_of(operator))
    assert re.search(
        r"email\.normal Late ?smtp 10 min 1 12\.5 a minute 31 of 1,200 ?smtp_550 20, timeout 11 1 pausePause",
        text,
    ), text


def test_a_provider_tells_its_circuit_its_calls_and_how_long_they_take(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    hours = [
        ProviderHour(this_hour - timedelta(hours=1), 900, 897, 80, 1_500),
        ProviderHour(this_hour, 100, 100, 40, 1_200),
    ]
    monkeypatch.setattr(figures, "calls", lambda count, now: {"smtp": hours})
    circuit = Circuit.objects.create(
        provider="smtp", cause="refused", code="535", opened_at=now, open_until=now
    )
    text = re.sub(r"<[^>]+>", "", text_of(operator))
    assert "Circuit open" in text
    assert "smtp refuses our account" in text
    assert "1,000, 99.7 % accepted" in text
    assert "100; half within 40 ms, 95 % within 1,200 ms" in text
    assert f"/admin/notifications/circuit/{circuit.pk}/probe/" in text_of(operator)


def test_the_charts_show_a_day_and_a_week_by_channel(
    operator: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    this_hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    counts = {"delivered": 7, "sent": 20, "failed": 3, "pending": 9}
    found = [
        Hour(this_hour, "sms", counts),
        Hour(this_hour - timedelta(days=3), "sms", {"delivered": 100}),
    ]
    monkeypatch.setattr(figures, "accepted", lambda *args: found)
    text = text_of(operator, INDEX)
    assert "SMS, the last 24 hours: 7 delivered, 20 sent, 0 unknown, 3 failed" in text
    assert "SMS, the last 7 days: 107 delivered, 20 sent, 0 unknown, 3 failed" in text
    assert "What went out" not in text_of(operator)
    assert "What went out" in text_of(operator, f"{STATE}?all")


def test_the_bars_of_a_week_are_as_many_hours_as_a_week_has() -> None:
    now = timezone.now()
    hours = overview._hours_until(now, overview.WEEK)
    assert (len(hours), hours[-1] <= now < hours[-1] + timedelta(hours=1)) == (168, True)
    [charts] = overview.charts_of_channels([Hour(hours[0], "email", {"sent": 1})], hours)
    assert (len(charts.day.bars), len(charts.week.bars)) == (24, 28)
    assert charts.week.bars[0].counts == ["0", "1", "0", "0"]


def test_paused_flows_and_what_is_held_are_named(operator: Client) -> None:
    shop = ProjectFactory(name="Web shop")
    pausing.pause_flow(waiting_of(shop).flow_id, None, "")
    waiting_of(shop, status="unknown")
    text = text_of(operator, INDEX)
    assert "Web shop · email.normal" in text
    assert "1 notification waits for an operator's word" in text.replace("&#x27;", "'")


def test_nothing_that_is_shown_is_taken_for_markup(
    operator: Client, olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = ProjectFactory(name=HOSTILE[:100], from_email='"<b>x"@example.com')
    now = timezone.now()
    pausing.pause_flow(waiting_of(shop).flow_id, olga, HOSTILE)
    pausing.pause("email.high", olga, HOSTILE)
    pausing.pause("email.low", UserFactory(username="<b>mallory</b>"), HOSTILE)
    Circuit.objects.create(
        provider="smtp", sender=shop.from_email, code=HOSTILE, detail=HOSTILE, open_until=now
    )
    Heartbeat.objects.create(name=HOSTILE, kind="worker"[:20], queues=HOSTILE[:100], version="<i>")
    hostile = LaneFigures(1, 1, 1, [(HOSTILE, 1)])
    monkeypatch.setattr(figures, "lanes", lambda now: {"email.high": hostile})
    monkeypatch.setattr(figures, "calls", lambda count, now: {HOSTILE[:50]: []})
    for path in (STATE, INDEX, pause_page("email.high"), flow_page(Flow.objects.get().pk)):
        text = text_of(operator, path)
        assert "alert(1)" in text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<b>mallory" not in text


def test_the_page_has_no_script_and_no_style_of_its_own_within(operator: Client) -> None:
    text = text_of(operator, f"{STATE}?all") + text_of(operator, TEST_MESSAGE).partition("<main")[2]
    assert "<script" not in text_of(operator, f"{STATE}?all")
    assert not re.search(r'\s(style|on\w+)="', text_of(operator, f"{STATE}?all"))
    assert text


# --- What it costs -----------------------------------------------------------------------------------------


def test_a_look_asks_few_queries_however_much_waits(
    operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for channel in ("email", "sms", "in_app"):
        for priority in ("high", "normal", "low"):
            for _ in range(3):
                waiting_of(ProjectFactory(), channel=channel, priority=priority)
    Circuit.objects.create(provider="smtp", open_until=timezone.now())
    pausing.pause("email.low", None, "")
    with django_assert_max_num_queries(12):
        operator.get(STATE)


def test_a_page_that_has_not_changed_is_not_sent_again(operator: Client) -> None:
    Heartbeat.objects.create(name="worker one", kind="worker", queues="high,normal,low")
    first = operator.get(STATE)
    assert operator.get(STATE, headers={"If-None-Match": first["ETag"]}).status_code == 304
    pausing.pause("email.low", None, "")
    assert operator.get(STATE, headers={"If-None-Match": first["ETag"]}).status_code == 200


# --- Who sees and does what -------------------------------------------------------------------------------


def test_who_may_see_no_circuit_sees_a_menu_alone() -> None:
    nobody = signed_in(UserFactory())
    assert "overview-lanes" not in text_of(nobody, INDEX)
    assert nobody.get(STATE).status_code == 403


def test_nobody_sees_it_without_signing_in(client: Client) -> None:
    for path in (STATE, TEST_MESSAGE, pause_page("email.low"), flow_page(1)):
        assert client.get(path).status_code == 302
        assert client.post(path).status_code == 302


def test_who_is_limited_sees_lanes_whole_and_nothing_of_others(
    limited: Client, alice: Project, stranger: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(figures, "accepted", lambda *args: asked.append(args[3]) or [])
    stranger.from_email = "stranger@example.com"
    stranger.save()
    for project in (alice, stranger):
        waiting_of(project, status="unknown")
        pausing.pause_flow(waiting_of(project).flow_id, None, "")
    waiting_of(stranger, channel="sms")
    now = timezone.now()
    for sender in ("", "stranger@example.com"):
        Circuit.objects.create(provider="smtp", sender=sender, code="535", open_until=now)
    text = text_of(limited, INDEX).replace("&#x27;", "'")
    assert asked == [[alice.pk]]
    assert "sms.normal" in text
    assert "Alice's shop · email.normal" in text
    assert "Stranger's shop" not in text
    assert "stranger@example.com" not in text
    assert "1 notification waits for an operator's word" in text


@pytest.mark.parametrize("act", ["pause", "resume"])
def test_who_is_limited_may_not_pause_what_others_use(limited: Client, act: str) -> None:
    Pause.objects.create(target="email.low")
    for target in ("email.low", "smtp"):
        assert limited.get(pause_page(target, act)).status_code == 403
        assert limited.post(pause_page(target, act), {"reason": "x"}).status_code == 403
    assert list(Pause.objects.values_list("target", flat=True)) == ["email.low"]
    assert pause_page("email.high") not in text_of(limited)


def test_who_is_limited_pauses_the_flows_of_his_projects_alone(
    limited: Client, alice: Project, stranger: Project
) -> None:
    mine, others = waiting_of(alice).flow, waiting_of(stranger).flow
    assert limited.get(flow_page(others.pk)).status_code == 404
    assert limited.post(flow_page(others.pk), {"reason": "x"}).status_code == 404
    assert limited.post(flow_page(mine.pk), {"reason": "x"}).status_code == 302
    assert list(Flow.objects.filter(paused=True)) == [mine]


def test_without_the_permission_nothing_is_paused(olga: User, alice: Project) -> None:
    olga.groups.clear()
    for codename in ("view_flow", "view_pause", "view_circuit", "change_flow"):
        olga.user_permissions.add(Permission.objects.get(codename=codename))
    client, flow = signed_in(olga), waiting_of(alice).flow
    for path in (pause_page("email.low"), flow_page(flow.pk)):
        assert client.get(path).status_code == 403
        assert client.post(path, {"reason": "x"}).status_code == 403
    assert not Pause.objects.exists()
    assert not Flow.objects.get().paused
    assert "Pause…" not in text_of(client)


def test_what_is_paused_is_listed_and_never_edited(operator: Client, olga: User) -> None:
    pausing.pause("email.low", olga, "<b>wrong</b> prices")
    listed = "/admin/notifications/pause/"
    assert "&lt;b&gt;wrong&lt;/b&gt; prices" in text_of(operator, listed)
    for path in (f"{listed}add/", f"{listed}email.low/delete/"):
        assert operator.post(path, {"target": "smtp", "post": "yes"}).status_code == 403
    assert operator.post(f"{listed}email_2Elow/change/", {"reason": "x"}).status_code in {302, 403}
    assert Pause.objects.get().reason == "<b>wrong</b> prices"
    assert signed_in(UserFactory()).get(listed).status_code == 403


# --- Pausing and resuming -----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["email.low", "smtp", "sandbox"])
def test_a_lane_or_a_provider_is_paused_with_a_reason_and_resumed(
    operator: Client, olga: User, target: str
) -> None:
    waiting_of(ProjectFactory(), priority="low")
    text = text_of(operator, pause_page(target))
    assert ("1 notification is due there now" in text) == (target != "sandbox")
    assert ("nothing is due there now" in text) == (target == "sandbox")
    assert not Pause.objects.exists()
    assert operator.post(pause_page(target), {"reason": "wrong prices"})["Location"] == INDEX
    assert (Pause.objects.get().target, Pause.objects.get().paused_by) == (target, olga)
    assert "is paused for" in text_of(operator, INDEX)
    assert "by olga" in text_of(operator, pause_page(target, "resume"))
    assert operator.post(pause_page(target, "resume"))["Location"] == INDEX
    assert not Pause.objects.exists()
    told = LogEntry.objects.order_by("id").values_list("change_message", flat=True)
    assert list(told) == ["Paused: wrong prices", "Resumed."]


def test_a_pause_needs_a_reason(operator: Client) -> None:
    answer = operator.post(pause_page("email.low"), {"reason": "  "})
    assert answer.status_code == 200
    assert "This field is required" in answer.content.decode()
    assert not Pause.objects.exists()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (pause_page("fax.high"), 404),
        (pause_page("%00"), 404),
        (pause_page("email.low", "delete"), 404),
        (flow_page(0), 404),
    ],
)
def test_what_there_is_not_is_not_found(operator: Client, path: str, status: int) -> None:
    assert operator.get(path).status_code == status
    assert operator.post(path, {"reason": "x"}).status_code == status


def test_other_methods_are_refused(operator: Client) -> None:
    assert operator.put(pause_page("email.low")).status_code == 405
    assert operator.post(STATE).status_code == 405
    assert operator.put(TEST_MESSAGE).status_code == 405


def test_a_flow_is_paused_and_resumed_from_its_page(operator: Client, alice: Project) -> None:
    flow = waiting_of(alice).flow
    change = f"/admin/notifications/flow/{flow.pk}/change/"
    assert flow_page(flow.pk) in text_of(operator, change)
    assert operator.post(flow_page(flow.pk), {"reason": "their shop is down"})["Location"] == change
    assert Flow.objects.get().paused
    assert flow_page(flow.pk, "resume") in text_of(operator, change)
    operator.post(flow_page(flow.pk, "resume"))
    assert not Flow.objects.get().paused
    told = LogEntry.objects.order_by("id").values_list("user__username", "change_message")
    assert list(told) == [("olga", "Paused: their shop is down"), ("olga", "Resumed.")]


def test_the_form_of_a_flow_changes_its_rate_alone() -> None:
    administrator = UserFactory()
    administrator.groups.add(Group.objects.get(name=groups.ADMINISTRATOR))
    flow = NotificationFactory().flow
    path = f"/admin/notifications/flow/{flow.pk}/change/"
    signed_in(administrator).post(path, {"paused": "on", "rate": "5"})
    flow.refresh_from_db()
    assert (flow.paused, flow.rate) == (False, 5)


def test_a_batchs_flow_leads_to_its_batch(operator: Client) -> None:
    batch = BatchFactory()
    page = f"/admin/notifications/batch/{batch.pk}/change/"
    assert flow_page(batch.flow.pk) not in text_of(
        operator, f"/admin/notifications/flow/{batch.flow.pk}/change/"
    )
    assert operator.post(flow_page(batch.flow.pk), {"reason": "x"})["Location"] == page
    assert not Flow.objects.get().paused


def test_a_notification_of_a_paused_lane_says_who_holds_it(operator: Client, olga: User) -> None:
    waiting = NotificationFactory()
    pausing.pause("smtp", olga, "wrong prices")
    text = text_of(operator, f"/admin/notifications/notification/{waiting.pk}/change/")
    assert "Held: smtp is paused for" in text
    assert "by olga" in text


def test_a_batch_of_a_paused_lane_says_who_holds_it(operator: Client, olga: User) -> None:
    batch = BatchFactory()
    page = f"/admin/notifications/batch/{batch.pk}/change/"
    assert "It goes out, as fast as it goes." in text_of(operator, page)
    pausing.pause("email.low", olga, "wrong prices")
    assert "It waits: email.low is paused for" in text_of(operator, page)


def test_development_says_that_its_servers_are_embedded(operator: Client, settings: Any) -> None:
    settings.EMBEDDED = ["PostgreSQL", "Valkey"]
    assert "with PostgreSQL and Valkey embedded: all data is in" in text_of(operator, INDEX)
    settings.EMBEDDED = []
    assert "embedded" not in text_of(operator, INDEX)


# --- The test message --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["test", "live"])
def test_a_test_message_is_sent_and_followed(operator: Client, alice: Project, kind: str) -> None:
    form = {"project": alice.pk, "channel": "email", "recipient": "me@example.com", "live": kind}
    assert "nothing leaves this machine" in text_of(operator, TEST_MESSAGE)
    answer = operator.post(TEST_MESSAGE, form)
    sent = Notification.objects.get()
    assert answer["Location"] == f"/admin/notifications/notification/{sent.pk}/change/"
    assert (sent.address, sent.live, sent.priority) == ("me@example.com", kind == "live", "high")
    assert (sent.flow.lane == "sandbox") == (kind == "test")
    assert LogEntry.objects.get().change_message == "Sent as a test message."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channel": "sms", "recipient": "nobody's phone"}, "recipient"),
        ({"channel": "fax"}, "Select a valid choice"),
        ({"recipient": ""}, "This field is required"),
        ({"channel": "in_app", "recipient": "u" * 256}, "a user_id: at most 255"),
        ({"channel": "in_app", "recipient": "shop/7"}, "without a slash"),
        ({"live": "perhaps"}, "Select a valid choice"),
        ({"project": "0"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_with_a_test_message_stands_at_its_field(
    operator: Client, alice: Project, fields: dict[str, str], words: str
) -> None:
    form = {"project": alice.pk, "channel": "email", "recipient": "me@example.com", "live": "test"}
    answer = operator.post(TEST_MESSAGE, form | fields)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.content.decode()
    assert words in answer.content.decode()
    assert not Notification.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_test_message_of_anothers_project_is_refused(limited: Client, stranger: Project) -> None:
    form = {
        "project": stranger.pk,
        "channel": "email",
        "recipient": "me@example.com",
        "live": "test",
    }
    assert "Stranger" not in text_of(limited, TEST_MESSAGE)
    assert "Select a valid choice" in limited.post(TEST_MESSAGE, form).content.decode()
    assert not Notification.objects.exists()


def test_a_test_message_needs_the_permission(olga: User) -> None:
    olga.groups.clear()
    client = signed_in(olga)
    assert client.get(TEST_MESSAGE).status_code == 403
    assert client.post(TEST_MESSAGE).status_code == 403
