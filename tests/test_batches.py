"""Batches move from one status to the next, by people and by the workers' sweep."""

from datetime import timedelta

import pytest
from django.db import IntegrityError
from django.utils import timezone

from notifications import batches, queue
from notifications.batches import Plan
from notifications.bulk.staging import stage, unstaged
from notifications.models import Batch, Flow, Notification, StagedPart
from tests.factories import AttemptFactory, BatchFactory, NotificationFactory, row_of
from users.refusals import Conflict, Refused

pytestmark = pytest.mark.django_db

LANE = "email.low"


@pytest.fixture(autouse=True)
def _vendor(settings):
    settings.EMAIL_PROVIDER = "smtp"
    settings.SANDBOX = True


def plan(project, **fields):
    defaults = {"name": "Spring", "channel": "email", "message": "Hello!", "digest": b"1" * 32}
    return Plan(project_id=project.pk, **(defaults | fields))


def now(batch):
    batch.refresh_from_db()
    return batch.status, Flow.objects.get(batch=batch).paused


# -- Making one -------------------------------------------------------------------------------------------


def test_a_new_batch_loads_and_nothing_of_it_goes_out(alice):
    batch = batches.make(plan(alice))
    assert now(batch) == ("loading", True)


def test_the_same_plan_again_is_the_same_batch(alice):
    assert batches.make(plan(alice)).pk == batches.make(plan(alice)).pk
    assert Flow.objects.filter(batch__isnull=False).count() == 1


def test_another_file_or_message_under_the_name_is_refused_and_says_what_differs(alice):
    batches.make(plan(alice))
    with pytest.raises(Conflict, match="differs in the message and the file"):
        batches.make(plan(alice, message="Bye!", digest=b"2" * 32))


def test_the_name_of_a_batch_whose_file_was_no_good_is_free_for_the_mended_one(alice):
    batch = batches.make(plan(alice))
    batches.refuse(batch.pk, "2 rows of 3 cannot be sent, so none was.", {"invalid": 2})
    assert now(batch) == ("cancelled", True)
    again = batches.make(plan(alice, digest=b"2" * 32))
    assert (again.pk, again.status, again.reason, again.report) == (batch.pk, "loading", "", {})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"channel": "in_app", "url": "https://"}, "url"),
        ({"channel": "in_app", "url": "javascript:alert(1)"}, "url"),
        ({"category": "x" * 101}, "category"),
        ({"name": "x" * 256}, "name"),
    ],
)
def test_what_no_notification_may_be_no_batch_may(alice, fields, field):
    with pytest.raises(Refused) as refused:
        batches.make(plan(alice, **fields))
    assert refused.value.field == field
    assert not Batch.objects.exists()


def test_two_projects_may_use_one_name(alice, stranger):
    assert batches.make(plan(alice)).pk != batches.make(plan(stranger)).pk


def test_a_channel_that_nobody_carries_is_refused(alice, settings):
    settings.SANDBOX = False
    with pytest.raises(Refused, match="no provider for sms"):
        batches.make(plan(alice, channel="sms"))
    assert not Batch.objects.exists()


# -- Start, pause, resume, cancel -------------------------------------------------------------------------


def test_a_loaded_batch_runs_and_wakes_its_lane(alice, woken, django_capture_on_commit_callbacks):
    batch = batches.make(plan(alice))
    with django_capture_on_commit_callbacks(execute=True):
        batches.loaded(batch.pk)
    assert now(batch) == ("running", False)
    assert woken == [Flow.objects.get(batch=batch).lane]


def test_a_batch_with_a_time_is_ready_until_then(alice):
    batch = batches.make(plan(alice, scheduled_for=timezone.now() + timedelta(hours=1)))
    batches.loaded(batch.pk)
    batches.tend()
    assert now(batch) == ("ready", True)
    Batch.objects.update(scheduled_for=timezone.now() - timedelta(seconds=1))
    batches.tend()
    assert now(batch) == ("running", False)


def test_a_batch_that_waits_for_somebody_starts_when_told(alice):
    batch = batches.make(plan(alice, starts_by_itself=False))
    batches.loaded(batch.pk)
    batches.tend()
    assert now(batch) == ("ready", True)
    batches.start(batch.pk)
    assert now(batch) == ("running", False)


def test_nothing_of_a_paused_batch_is_claimed_or_begun():
    batch = BatchFactory()
    row_of(batch, 1)
    row_of(batch, 2)
    claimed = queue.claim(LANE, "smtp", 1, 60)
    batches.pause(batch.pk)
    assert queue.claim(LANE, "smtp", 10, 60) == []
    assert queue.begin(claimed, "smtp", 60) == set()


def test_a_resumed_batch_goes_on_with_the_rows_that_are_left():
    batch = BatchFactory()
    row_of(batch, 1, status="sent", sent_at=timezone.now())
    left = row_of(batch, 2)
    batches.pause(batch.pk)
    batches.resume(batch.pk)
    assert now(batch) == ("running", False)
    assert [row.id for row in queue.claim(LANE, "smtp", 10, 60)] == [left.id]


def test_pausing_and_resuming_twice_is_fine():
    batch = BatchFactory()
    batches.pause(batch.pk)
    batches.pause(batch.pk)
    batches.resume(batch.pk)
    batches.resume(batch.pk)
    assert now(batch) == ("running", False)


def test_a_batch_paused_before_its_time_waits_for_it_again_when_resumed(alice):
    batch = batches.make(plan(alice, scheduled_for=timezone.now() + timedelta(hours=1)))
    batches.loaded(batch.pk)
    batches.pause(batch.pk)
    batches.resume(batch.pk)
    assert now(batch) == ("ready", True)


def test_cancelling_stops_what_waits_and_counts_what_had_gone():
    batch = BatchFactory()
    row_of(batch, 1, status="sent", sent_at=timezone.now())
    row_of(batch, 2)
    row_of(batch, 3, leased_until=timezone.now() + timedelta(minutes=1), fence=1)
    batches.cancel(batch.pk)
    batches.cancel(batch.pk)
    progress = batches.progress(batch)
    assert (progress.sent, progress.cancelled, progress.waiting) == (1, 2, 0)
    batches.tend()
    batch.refresh_from_db()
    assert batch.status == "cancelled"
    assert batch.finished_at


def test_a_row_that_comes_back_after_the_cancel_is_cancelled_by_the_sweep():
    batch = BatchFactory()
    row = row_of(batch, 1, status="sending", leased_until=timezone.now() + timedelta(minutes=1))
    batches.cancel(batch.pk)
    batches.tend()
    batch.refresh_from_db()
    assert batch.finished_at is None
    Notification.objects.filter(pk=row.pk).update(status="pending", leased_until=None)
    batches.tend()
    row.refresh_from_db()
    batch.refresh_from_db()
    assert (row.status, bool(batch.finished_at)) == ("cancelled", True)


@pytest.mark.parametrize(
    ("status", "move"),
    [
        ("loading", batches.pause),
        ("loading", batches.resume),
        ("running", batches.start),
        ("completed", batches.cancel),
        ("completed", batches.pause),
        ("cancelled", batches.resume),
    ],
)
def test_a_move_that_its_status_does_not_allow_is_a_conflict(status, move):
    batch = BatchFactory(status=status)
    with pytest.raises(Conflict, match=f"This batch is {status}; only"):
        move(batch.pk)
    assert now(batch)[0] == status


# -- What the sweep does ----------------------------------------------------------------------------------


def test_a_batch_of_which_nothing_moves_is_completed():
    batch = BatchFactory()
    row_of(batch, 1, status="sent", sent_at=timezone.now())
    row_of(batch, 2, status="unknown")
    batches.tend()
    batch.refresh_from_db()
    assert (batch.status, bool(batch.finished_at)) == ("completed", True)
    assert batches.progress(batch).unknown == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"leased_until": timezone.now() + timedelta(minutes=1)},
        {"status": "sending", "leased_until": timezone.now() + timedelta(minutes=1)},
        {"status": "unknown", "review_at": timezone.now() + timedelta(minutes=1)},
        {"due_at": timezone.now() + timedelta(hours=1)},
    ],
    ids=["waiting", "claimed", "being sent", "to be reviewed", "to be tried again"],
)
def test_a_batch_of_which_something_moves_runs_on(fields):
    batch = BatchFactory()
    row_of(batch, 1, **fields)
    NotificationFactory()
    batches.tend()
    assert now(batch) == ("running", False)


def _called(batch, count, status, first=1):
    for number in range(first, first + count):
        failure = {"failure_kind": "permanent", "failure_code": "550"} if status == "failed" else {}
        row = row_of(batch, number, status=status, sent_at=timezone.now(), **failure)
        outcome = "permanent" if status == "failed" else "accepted"
        AttemptFactory(notification=row, outcome=outcome, finished_at=timezone.now())


def test_a_batch_that_mostly_fails_pauses_itself_and_says_why():
    batch = BatchFactory(failure_limit=0.2)
    row_of(batch, 1000)
    _called(batch, 79, "sent")
    _called(batch, 20, "failed", first=80)
    batches.tend()
    assert now(batch) == ("running", False), "99 calls are too few to judge by"
    _called(batch, 1, "failed", first=200)
    batches.tend()
    assert now(batch) == ("paused", True)
    assert "21 of its last 100 calls failed, more than 20%" in batch.reason


def test_only_the_last_thousand_calls_count(monkeypatch):
    monkeypatch.setattr(batches, "JUDGED_CALLS", 100)
    batch = BatchFactory(failure_limit=0.2)
    row_of(batch, 1000)
    _called(batch, 50, "failed")
    _called(batch, 100, "sent", first=100)
    batches.tend()
    assert now(batch) == ("running", False)


def test_the_calls_of_others_do_not_count():
    batch, other = BatchFactory(), BatchFactory()
    row_of(batch, 1000)
    _called(batch, 100, "sent")
    _called(other, 100, "failed")
    batches.tend()
    assert now(batch) == ("running", False)


def test_what_failed_before_it_was_resumed_does_not_pause_it_again():
    batch = BatchFactory(failure_limit=0.2)
    row_of(batch, 1000)
    _called(batch, 100, "failed")
    batches.tend()
    batches.resume(batch.pk)
    batches.tend()
    assert now(batch) == ("running", False)


# -- Its rows, its upload ---------------------------------------------------------------------------------


def test_a_row_is_there_once_by_its_number_and_by_its_address():
    batch = BatchFactory()
    row_of(batch, 1, address="Ada@example.com")
    with pytest.raises(IntegrityError, match="once_per_address"):
        row_of(batch, 2, address="ada@example.com")


def test_a_row_is_there_once_by_its_number():
    batch = BatchFactory(once_per_address=False)
    row_of(batch, 1)
    with pytest.raises(IntegrityError, match="row_of_batch"):
        row_of(batch, 1)


def test_progress_counts_each_row_once_and_failures_by_code():
    batch = BatchFactory()
    row_of(batch, 1)
    row_of(batch, 2, status="delivered", sent_at=timezone.now())
    row_of(batch, 3, status="failed", failure_kind="permanent", failure_code="550")
    row_of(batch, 4, status="failed", failure_kind="permanent", failure_code="550")
    row_of(batch, 5, status="cancelled", failure_kind="permanent", failure_code="suppressed")
    row_of(batch, 6, status="expired")
    NotificationFactory()
    progress = batches.progress(batch)
    assert (progress.total, progress.done) == (6, 5)
    assert (progress.suppressed, progress.cancelled, progress.expired) == (1, 0, 1)
    assert progress.failures == {"550": 2}


def test_an_upload_is_kept_as_it_came_until_it_is_loaded(alice, tmp_path):
    content = bytes(range(256)) * 10_000
    path = tmp_path / "upload"
    path.write_bytes(content)
    with path.open("rb") as file:
        batch = stage(plan(alice), file)
        assert stage(plan(alice), file).pk == batch.pk
    with unstaged(batch) as file:
        assert file.read() == content
    assert batches.take_staged().pk == batch.pk
    assert batches.take_staged() is None, "another worker has it"
    batches.loaded(batch.pk)
    assert not StagedPart.objects.exists()
