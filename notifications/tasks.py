"""Celery's entry points: a few lines each. A lost, doubled or late message loses or doubles nothing.

A provider's retry is never a Celery retry but a row that becomes due again; Celery's autoretry is for the
database and the broker alone. Why: docs/decisions.md, "A retry is a row".
"""

from __future__ import annotations

from celery import Task, shared_task
from django.db import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError

from notifications import counting, delivery, forgetting, receipts, stopping
from notifications import housekeeping as pruning
from notifications.heartbeats import beat
from notifications.inbox import numbering


class RetriedTask(Task[..., None]):
    """Tried again after 1, 2, 4 ... 30 s with jitter; by then the sweep has long taken over."""

    autoretry_for = (OperationalError, InterfaceError, BrokerError, ConnectionError)
    retry_backoff = True
    retry_backoff_max = 30
    retry_jitter = True
    max_retries = 5


@shared_task(base=RetriedTask)
def drain(lane: str) -> None:
    """Something is due in the lane."""
    delivery.drain(lane, stopping.is_stopping)


@shared_task(base=RetriedTask)
def apply_receipts() -> None:
    """Receipts have come."""
    receipts.apply_all(stopping.is_stopping)


@shared_task(base=RetriedTask)
def beat_is_alive() -> None:
    """Beat has reached a worker: recorded, so that the health page can tell when it no longer does."""
    beat("beat", "scheduler")


@shared_task(base=RetriedTask)
def housekeeping() -> None:
    """Remove what nobody needs any more."""
    pruning.prune()


@shared_task(base=RetriedTask)
def go_on_forgetting() -> None:
    """Erase what is left of people whose forgetting took longer than a request."""
    forgetting.go_on_with_all()


@shared_task(base=RetriedTask)
def take_into_inboxes() -> None:
    """Take in what was delivered in-app by a process that knows no inboxes yet, until nothing of it is left."""
    while not stopping.is_stopping() and numbering.take_in_what_was_left() == numbering.CHUNK:
        pass


@shared_task(base=RetriedTask)
def count() -> None:
    """Count for the console and for /stats what has happened since."""
    counting.count()
