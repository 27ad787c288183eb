"""Forgetting a person: out of reach at once, erased in small steps.

Who has a hundred thousand notifications is not erased within a request. So the person is first taken out of reach, in
one short transaction: no address, and no id by which anybody finds them; whoever writes to that id from then on
writes to somebody new. Then what could still go out is stopped, and then the rest is erased, each a thousand
rows in a transaction. Whatever ends that in the middle, a task on beat goes on with it; several at once are harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from uuid import UUID

from django.db import transaction
from django.db.models import Case, F, Func, Value, When
from django.db.models.functions import Now

from notifications.models import (
    Attempt,
    Batch,
    Notification,
    NotificationQuerySet,
    Receipt,
    Status,
    Suppression,
)
from users.models import Forgetting, Recipient

#: Rows one transaction erases at most, so that it holds its locks for a moment only.
CHUNK = 1000
#: Seconds for which the request that asks takes part in the work, and for which a worker does, every half minute:
#: one that is told to stop waits for it.
PATIENCE = 2.0
WORKER_PATIENCE = 25.0

#: What may go out yet, or once more.
_OPEN = (Status.PENDING, Status.SENDING, Status.UNKNOWN)


def begin(recipient_id: int) -> None:
    """Take the person out of everybody's reach. Harmless where somebody has."""
    with transaction.atomic():
        # An insert that refers to the row waits, or is waited for.
        recipient = Recipient.objects.select_for_update().filter(id=recipient_id).first()
        if recipient is None or Forgetting.objects.filter(recipient=recipient).exists():
            return
        Forgetting.objects.create(recipient=recipient)
        _leave_out_of_examples(recipient)
        recipient.addresses.all().delete()
        # No id that comes from outside has a line break.
        recipient.user_id = f"forgotten\n{recipient.id}"
        recipient.name = recipient.locale = recipient.timezone = ""
        recipient.provisional = False
        recipient.save()


def _leave_out_of_examples(recipient: Recipient) -> None:
    """A batch's check shows three rendered messages, before they are notifications."""
    addresses = [*recipient.addresses.values_list("value", flat=True), recipient.user_id]
    for address in addresses:
        Batch.objects.filter(
            project_id=recipient.project_id,
            report__examples__contains=[{"recipient": address}],
        ).update(
            report=Func(
                F("report"), Value("examples"), template="(%(expressions)s)", arg_joiner=" - "
            )
        )


def go_on(recipient_id: int, patience: float) -> bool:
    """Stop and erase what is theirs, for `patience` seconds. Returns whether nothing can go out any more."""
    end = monotonic() + patience
    theirs = Notification.objects.filter(recipient_id=recipient_id)
    if not _erase(theirs.filter(status__in=_OPEN), end):
        return False
    if _erase(theirs, end):
        _remove(recipient_id)
    return True


def go_on_with_all() -> int:
    """Go on with whoever is being forgotten. Returns how many remain."""
    end = monotonic() + WORKER_PATIENCE
    waiting = Forgetting.objects.order_by("asked_at").values_list("recipient_id", flat=True)
    for recipient_id in list(waiting):
        go_on(recipient_id, max(end - monotonic(), 0.0))
    return Forgetting.objects.count()


def is_forgotten(notification_id: UUID) -> bool:
    """Whether its person is being forgotten. If not, nobody is until the caller's transaction has ended."""
    person = Recipient.objects.select_for_update(no_key=True, of=("self",))
    recipient = person.filter(notifications=notification_id).first()
    return Forgetting.objects.filter(recipient=recipient).exists() if recipient else False


def _erase(theirs: NotificationQuerySet, end: float) -> bool:
    """Chunk by chunk. False where the time was over before."""
    for chunk in _chunks(theirs):
        if monotonic() > end:
            return False
        with transaction.atomic():
            _erase_rows(chunk)
    return True


def _chunks(theirs: NotificationQuerySet) -> Iterator[list[UUID]]:
    ids = theirs.order_by("id").values_list("id", flat=True)
    chunk = list(ids[:CHUNK])
    while chunk:
        yield chunk
        # Beyond the last one, not from the beginning: there lie the index entries of what was just erased.
        chunk = list(ids.filter(id__gt=chunk[-1])[:CHUNK])


def _erase_rows(ids: list[UUID]) -> None:
    """Call it inside a transaction."""
    rows = Notification.objects.filter(id__in=ids, erased_at=None)
    # In one order for all, so that it cannot deadlock with SETTLE.
    rows = Notification.objects.filter(
        id__in=list(rows.select_for_update().order_by("id").values_list("id", flat=True))
    )
    waiting = {"status": Status.PENDING}
    rows.update(
        status=Case(When(**waiting, then=Value(Status.CANCELLED)), default=F("status")),
        leased_until=Case(When(**waiting, then=None), default=F("leased_until")),
        address="",
        title="",
        message="",
        html="",
        url="",
        metadata={},
        failure_detail="",
        review_at=None,
        # What is being sent now and comes back is not claimed again.
        expires_at=F("created_at"),
        erased_at=Now(),
        inbox_position=None,
        recipient=None,
    )
    Attempt.objects.filter(notification__in=ids).exclude(detail="").update(detail="")
    Receipt.objects.filter(notification__in=ids).update(detail="", raw="")
    # The address stays on the list, or it would be written to again; nothing there leads to the person any more.
    Suppression.objects.filter(notification__in=ids).update(
        detail="", notification=None, receipt=None
    )


def _remove(recipient_id: int) -> None:
    """The person's row, unless something was stored since: an insert may have found them just before `begin`."""
    with transaction.atomic():
        recipient = Recipient.objects.select_for_update().filter(id=recipient_id).first()
        if recipient is None:
            return
        theirs = Notification.objects.filter(recipient_id=recipient_id)
        _erase_rows(list(theirs.order_by("id").values_list("id", flat=True)[:CHUNK]))
        if not theirs.exists():
            recipient.delete()
