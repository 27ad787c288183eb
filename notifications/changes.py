"""What people change: cancel, retry now, resend, settle an unknown one, probe a circuit, forget a person.

Each is one conditional UPDATE, so that it cannot collide with a worker: whoever comes second changes nothing and is
told what is allowed. API, admin and commands all call these.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from notifications import forgetting
from notifications.intake import Accepted, Submission, submit
from notifications.models import GIVEN_UP, Circuit, FailureKind, Notification, Status
from notifications.waking import wake
from users.models import Recipient
from users.refusals import Conflict


def cancel(notification_id: UUID) -> None:
    """Stop a waiting notification, also one that a worker has claimed and not begun.

    Cancelling what is cancelled already is fine. Raises Conflict where it is too late.
    """
    pending = Notification.objects.filter(id=notification_id).cancellable()
    if pending.update(status=Status.CANCELLED, leased_until=None):
        return
    status = Notification.objects.values_list("status", flat=True).get(id=notification_id)
    if status != Status.CANCELLED:
        raise Conflict(
            "not_cancellable",
            f"This notification is {status}; only a pending one can be cancelled.",
            "status",
        )


def retry_now(notification_id: UUID) -> None:
    """Make a waiting notification due at once. Raises Conflict where it is not waiting."""
    waiting = Notification.objects.filter(id=notification_id, status=Status.PENDING)
    if not waiting.update(due_at=Now()):
        raise Conflict("not_waiting", "Only a pending notification can be tried now.", "status")
    lane = Notification.objects.values_list("flow__lane", flat=True).get(id=notification_id)
    transaction.on_commit(lambda: wake(lane), robust=True)


def settle_as_arrived(notification_id: UUID) -> None:
    """An operator's word that an `unknown` one arrived: it is `sent`. Raises Conflict where it is not unknown."""
    _settle_by_hand(notification_id, status=Status.SENT, sent_at=Now())


def give_up(notification_id: UUID) -> None:
    """An operator's word that an `unknown` one is not to be sent again. Raises Conflict where it is not unknown."""
    _settle_by_hand(
        notification_id,
        status=Status.FAILED,
        # Neither did a provider refuse it nor its attempts run out: it is our side that does not know.
        failure_kind=FailureKind.TECHNICAL,
        failure_code=GIVEN_UP,
        failure_detail="An operator gave it up. Whether it was accepted is not known.",
    )


def _settle_by_hand(notification_id: UUID, **ending: Any) -> None:
    """The row says so; the attempt stays without an outcome, until perhaps the provider's answer arrives late."""
    unknown = Notification.objects.filter(id=notification_id, status=Status.UNKNOWN)
    if unknown.update(review_at=None, settled_by_hand=True, **ending):
        return
    status = Notification.objects.values_list("status", flat=True).get(id=notification_id)
    raise _no_longer_unknown(status)


def _no_longer_unknown(status: str) -> Conflict:
    return Conflict(
        "not_unknown",
        f"This notification is {status} now, no longer unknown. Look at it again.",
        "status",
    )


def resend(seen: Notification, include_arrived: bool = True) -> Accepted:
    """Send it again, as a new notification that names this one in `resend_of`.

    Each notification is resent once: pressing twice sends once, and the next resend starts from the newest.
    `seen` is the notification as the operator saw it: what was unknown then and is settled by now is not resent.
    Without `include_arrived` neither is what a provider has accepted, also if it did so a moment ago. Raises Conflict, or
    Refused where the recipient has no address any more.
    """
    try:
        with transaction.atomic():
            return submit(_again(_resendable(seen, include_arrived)))
    except IntegrityError as error:
        if "resend_of" not in str(error):
            raise
        newer = Notification.objects.only("id").get(resend_of=seen)
        raise Conflict(
            "already_resent", f"This was resent already, as {newer.id}. Resend that one."
        ) from error


def _resendable(seen: Notification, include_arrived: bool) -> Notification:
    """The notification as it is now, locked. What is `unknown` is now in the operator's hands: neither the policy
    nor a late answer must send a third copy. Raises Conflict.
    """
    # Before the notification: whoever forgets a person locks them in this order as well.
    forgotten = forgetting.is_forgotten(seen.id)
    notification = Notification.objects.select_for_update().get(id=seen.id)
    if forgotten or notification.erased_at:
        raise Conflict("erased", "The person was forgotten; nothing is left to send.")
    if seen.status == Status.UNKNOWN != notification.status:
        raise _no_longer_unknown(notification.status)
    if notification.status not in Notification.RESENDABLE:
        raise Conflict(
            "not_resendable",
            f"This notification is {notification.status}; it has not been sent yet.",
        )
    if notification.status in (Status.SENT, Status.DELIVERED) and not include_arrived:
        raise Conflict(
            "went_out_already",
            f"This notification is {notification.status}: its person has it already, and a second copy was not "
            "asked for.",
        )
    if notification.status == Status.UNKNOWN:
        Notification.objects.filter(id=seen.id).update(review_at=None, settled_by_hand=True)
    return notification


def _again(notification: Notification) -> Submission:
    """To the same address as the first time. In-app and address-less ones go by user id alone."""
    by_address = notification.channel != "in_app" and notification.address
    # The id may be another one by now: POST /users adopts whom a notification has made.
    recipient = notification.recipient
    return Submission(
        project_id=notification.project_id,
        channel=notification.channel,
        priority=notification.priority,
        live=notification.live,
        user_id=recipient.user_id if recipient else notification.user_id,
        recipient=notification.address if by_address else "",
        title=notification.title,
        message=notification.message,
        html=notification.html,
        url=notification.url,
        category=notification.category,
        reference=notification.reference,
        metadata=notification.metadata,
        resend_of=notification.id,
    )


def probe_now(circuit_id: int) -> None:
    """Have an open circuit tried by the next one due, instead of after its rest. The sweep wakes its lanes.

    Raises Conflict where it is closed.
    """
    if not Circuit.objects.filter(id=circuit_id, open_until__isnull=False).update(open_until=Now()):
        raise Conflict("not_open", "This circuit is closed: everything goes out.")


def forget(recipient: Recipient) -> bool:
    """Erase the person: addresses and content go, waiting ones are cancelled, the ledger's ids stay.

    What is in flight cannot be called back, but it will not be tried again. Returns whether nothing of theirs can
    go out any more. That is not so for who has very many waiting ones, and neither is all that was sent erased
    at once for who has very many of them: a worker goes on with it.
    """
    forgetting.begin(recipient.id)
    return forgetting.go_on(recipient.id, forgetting.PATIENCE)
