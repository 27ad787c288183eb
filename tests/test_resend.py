"""`manage.py resend`: by filters, with a name and a reason, once."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils import timezone

from notifications import bulk_actions
from notifications.carrying import Carrier, take
from notifications.ids import first_of
from notifications.models import BulkAction, Notification
from tests.factories import BatchFactory, NotificationFactory, UserFactory
from users import groups
from users.models import Project, User


@pytest.fixture
def user(db: None) -> User:
    user = UserFactory(username="grace")
    user.groups.add(Group.objects.get(name=groups.OPERATOR))
    return user


def resend(*arguments: str) -> str:
    out = StringIO()
    call_command("resend", "--as", "grace", *arguments, stdout=out)
    return out.getvalue()


def do(*arguments: str) -> str:
    return resend(*arguments, "--yes", "--reason", "the provider was down", "--rate", "100000")


def failed(**fields: Any) -> Notification:
    failure = {"status": "failed", "failure_kind": "temporary", "failure_code": "421"}
    return NotificationFactory(**failure | fields)


def resent() -> set[Any]:
    made = Notification.objects.filter(resend_of__isnull=False)
    return set(made.values_list("resend_of", flat=True))


@pytest.mark.parametrize("arguments", [("--dry-run",), (), ("--yes", "--dry-run")])
def test_without_yes_it_only_shows_what_would_be_sent(
    user: User, arguments: tuple[str, ...]
) -> None:
    first = failed()
    failed(channel="sms")
    NotificationFactory(status="sent", sent_at=timezone.now(), project=first.project)
    told = resend("--channel", "email", "--rate", "2/s", *arguments)
    assert "1 notification to resend: 1 E-mail." in told
    assert "1 went out already: they are left out (--include-arrived)." in told
    assert "at 2 a second" in told
    assert "Nothing was done." in told
    assert not BulkAction.objects.exists()
    assert not resent()


def test_with_yes_it_is_done_in_this_process_and_logged(user: User) -> None:
    one, other = failed(), failed(failure_code="550")
    assert "1 resent, 0 refused." in do("--status", "failed", "--failure-code", "421")
    assert resent() == {one.pk}
    entry = LogEntry.objects.get(object_id=str(one.pk))
    assert (entry.user, entry.change_message) == (user, "Resent: the provider was down")
    assert other.pk not in resent()
    assert BulkAction.objects.get().status == "completed"


def test_the_same_again_sends_nothing_twice(user: User) -> None:
    failed()
    do("--status", "failed")
    again = do("--status", "failed")
    assert "1 left out: resent already." in again
    assert "There is nothing to resend." in again
    assert len(resent()) == 1


def test_a_period_a_project_a_provider_and_a_batch_narrow_it(user: User, alice: Project) -> None:
    now = timezone.now()
    old = failed(id=first_of(now - timedelta(days=2)), project=alice, provider="smtp")
    new = failed(project=alice, provider="mailgun")
    batch = BatchFactory(project=alice, name="June")
    of_batch = failed(project=alice, flow_id=batch.flow.pk, row_number=1, provider="twilio")
    failed()
    today = (now - timedelta(days=1)).isoformat()
    do("--project", alice.name, "--until", today)
    assert resent() == {old.pk}
    do("--project", alice.name, "--batch", "June")
    assert resent() == {old.pk, of_batch.pk}
    do("--since", today, "--provider", "mailgun")
    assert resent() == {old.pk, of_batch.pk, new.pk}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--yes",), "at least one filter"),
        (("--status", "failed", "--yes"), "--reason: Say why"),
        (("--status", "failed", "--yes", "--reason", "x" * 501), "At most 500 characters"),
        (("--status", "failed", "--project", "nobody's"), "no project named"),
        (("--batch", "June"), "say its --project too"),
        (("--rate", "0", "--status", "failed"), "no number above 0"),
        (("--rate", "nan", "--status", "failed"), "no number above 0"),
        (("--go-on", "01a2190f-db1f-7792-8b8c-70d23d0d855b"), "there is no resend"),
    ],
)
def test_what_makes_no_sense_is_told_and_nothing_is_done(
    user: User, arguments: tuple[str, ...], words: str
) -> None:
    failed()
    with pytest.raises(CommandError, match=words):
        resend(*arguments)
    assert not BulkAction.objects.exists()


@pytest.mark.parametrize(
    "account",
    [{"username": "another"}, {"is_staff": False}, {"is_active": False}, {"groups": []}],
)
def test_only_a_member_of_staff_who_may_can_be_named(user: User, account: dict[str, Any]) -> None:
    failed()
    if "groups" in account:
        user.groups.clear()
    else:
        User.objects.filter(pk=user.pk).update(**account)
    with pytest.raises(CommandError, match="--as"):
        do("--status", "failed")
    with pytest.raises(CommandError, match="--as USERNAME"):
        call_command("resend", "--status", "failed")
    assert not resent()


def test_it_reaches_no_further_than_who_is_named(
    user: User, alice: Project, stranger: Project
) -> None:
    user.projects.add(alice)
    of_alice, _ = failed(project=alice), failed(project=stranger)
    do("--status", "failed")
    assert resent() == {of_alice.pk}


def test_interrupted_it_is_paused_and_says_how_to_go_on(
    user: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        failed()
    wait_for_turn = Carrier._wait_for_turn

    def interrupted(carrier: Carrier) -> None:
        if carrier.bulk_action.done == 1:
            raise KeyboardInterrupt
        wait_for_turn(carrier)

    out = StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(Carrier, "_wait_for_turn", interrupted)
        with pytest.raises(SystemExit) as ended:
            call_command(
                "resend",
                "--as",
                "grace",
                "--status",
                "failed",
                "--yes",
                "--reason",
                "why",
                stdout=out,
            )
    assert ended.value.code == 130
    bulk_action = BulkAction.objects.get()
    assert (bulk_action.status, bulk_action.done) == ("paused", 1)
    assert f"--go-on {bulk_action.pk}" in out.getvalue()
    assert take() is None, "a worker would go on with what a person has stopped"
    assert "3 resent, 0 refused." in resend("--go-on", str(bulk_action.pk))
    assert len(resent()) == 3
    with pytest.raises(CommandError, match="it is completed"):
        resend("--go-on", str(bulk_action.pk))


def test_what_a_worker_has_is_left_to_it(user: User) -> None:
    failed()
    bulk_action = bulk_actions.make(
        bulk_actions.ACTS["resend"], {"status": "failed"}, None, False, "why", user
    )
    assert take()
    with pytest.raises(CommandError, match="A worker has it already"):
        resend("--go-on", str(bulk_action.pk))


def test_stopped_by_somebody_it_says_so(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    failed()
    monkeypatch.setattr(Carrier, "_wait_for_turn", lambda self: bulk_actions.stop(self.bulk_action))
    with pytest.raises(SystemExit) as ended:
        do("--status", "failed")
    assert ended.value.code == 4
    assert not resent()
