"""What an operator can do to a batch: start, pause, resume and cancel it, change its rate, send one of it to himself.

Each is confirmed first. What is allowed when is decided by notifications/batches.py; here it is only told beforehand.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from django import forms
from unfold import widgets

from notifications import batches, intake
from notifications.admin.batch_upload import DateTimeInput
from notifications.intake import Submission
from notifications.models import Batch, Channel, Priority
from users.models import User

Status = Batch.Status


class NoForm(forms.Form):
    """Nothing more has to be known than that it is meant."""


class TimeForm(forms.Form):
    at = forms.DateTimeField(label="Time (UTC)", widget=DateTimeInput)


class RateForm(forms.Form):
    rate = forms.FloatField(
        label="At most so many a second",
        required=False,
        min_value=0.001,
        max_value=100_000,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="Over all workers. Empty: as fast as it goes.",
    )


class RecipientForm(forms.Form):
    recipient = forms.CharField(max_length=255, widget=widgets.UnfoldAdminTextInputWidget)


class Act(abc.ABC):
    """`name` stands in URLs; `statuses` are those in which its button is shown."""

    name: ClassVar[str]
    verb: ClassVar[str]
    icon: ClassVar[str]
    consequence: ClassVar[str]
    statuses: ClassVar[frozenset[str]]
    look: ClassVar[str] = ""

    def is_open_to(self, batch: Batch) -> bool:
        return batch.status in self.statuses

    def form(self, batch: Batch, user: User, data: Any = None) -> forms.Form:
        return NoForm(data)

    def obstacle(self, batch: Batch, user: User) -> str:
        """Why it cannot be done by this user, in a sentence; empty where nothing is in the way."""
        return ""

    @abc.abstractmethod
    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        """Do it. Returns a sentence for the log and the page. Raises Refused."""


class Start(Act):
    name = "start"
    verb = "Send now"
    icon = "send"
    consequence = "It begins within seconds. It can be paused and cancelled; what has gone out then stays out."
    statuses = frozenset({Status.READY})
    look = "ntf-primary"

    def is_open_to(self, batch: Batch) -> bool:
        """One whose rows have a time of their own cannot go sooner, but may still wait for somebody's word."""
        waits = not batch.starts_by_itself
        return super().is_open_to(batch) and (waits or not batches.rows_are_timed(batch))

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        if batches.rows_are_timed(batch):
            batches.start(batch.pk)
            return "Released; it goes out from its time on."
        batches.start_at(batch.pk, None)
        return "Started."


class Schedule(Act):
    name = "schedule"
    verb = "Send at a time"
    icon = "schedule_send"
    consequence = "It begins by itself then. Until then it can be cancelled, or sent sooner."
    statuses = frozenset({Status.READY})

    def is_open_to(self, batch: Batch) -> bool:
        return super().is_open_to(batch) and not batches.rows_are_timed(batch)

    def form(self, batch: Batch, user: User, data: Any = None) -> forms.Form:
        return TimeForm(data)

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        batches.start_at(batch.pk, given["at"])
        return f"To start at {given['at']:%Y-%m-%d %H:%M} UTC."


class TestToMyself(Act):
    name = "test"
    verb = "Test to myself"
    icon = "outgoing_mail"
    consequence = (
        "The first row's message, as an ordinary notification of its own. It is no row of the batch, and changes "
        "nothing in it."
    )
    statuses = frozenset({Status.READY, Status.RUNNING, Status.PAUSED})

    def is_open_to(self, batch: Batch) -> bool:
        return super().is_open_to(batch) and bool(batch.report.get("examples"))

    def form(self, batch: Batch, user: User, data: Any = None) -> forms.Form:
        if batch.channel == Channel.EMAIL:
            return NoForm(data)
        form = RecipientForm(data)
        is_sms = batch.channel == Channel.SMS
        form.fields["recipient"].label = "Your phone number" if is_sms else "Your user_id"
        return form

    def obstacle(self, batch: Batch, user: User) -> str:
        if batch.channel == Channel.EMAIL and not user.email:
            return "Your account has no e-mail address. An administrator can enter it, under Users."
        return ""

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        recipient = given.get("recipient") or user.email
        example = batch.report["examples"][0]
        intake.submit(
            Submission(
                project_id=batch.project_id,
                channel=batch.channel,
                recipient=recipient,
                priority=Priority.NORMAL,
                live=batch.live,
                title=example["title"],
                message=example["message"],
                html=example["html"],
                url=batch.url,
                category=batch.category,
                reference=f"[Test] {batch.name}"[:255],
            )
        )
        return f"A test was sent to {recipient}."


class Pause(Act):
    name = "pause"
    verb = "Pause"
    icon = "pause"
    consequence = "Nothing of it begins any more until it is resumed. What waits too long expires."
    statuses = frozenset({Status.READY, Status.RUNNING})

    def is_open_to(self, batch: Batch) -> bool:
        """One that waits for somebody's word stands still already."""
        starts = batch.status == Status.RUNNING or batch.starts_by_itself
        return super().is_open_to(batch) and starts

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        batches.pause(batch.pk)
        return "Paused."


class Resume(Act):
    name = "resume"
    verb = "Resume"
    icon = "play_arrow"
    consequence = "It goes on where it was. Nothing of it is sent twice."
    statuses = frozenset({Status.PAUSED})
    look = "ntf-primary"

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        batches.resume(batch.pk)
        return "Resumed."


class ChangeRate(Act):
    name = "rate"
    verb = "Change the rate"
    icon = "speed"
    consequence = "It holds within seconds, over all workers together."
    statuses = Batch.OPEN

    def form(self, batch: Batch, user: User, data: Any = None) -> forms.Form:
        return RateForm(data, initial={"rate": batch.flow.rate})

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        rate = given["rate"]
        batches.set_rate(batch.pk, rate)
        return f"Rate: at most {rate:g} a second." if rate else "Rate: as fast as it goes."


class Cancel(Act):
    name = "cancel"
    verb = "Cancel"
    icon = "cancel"
    consequence = "Nothing of it begins any more. This cannot be undone."
    statuses = Batch.OPEN

    def perform(self, batch: Batch, user: User, given: dict[str, Any]) -> str:
        batches.cancel(batch.pk)
        return "Cancelled."


_ACTS = (Start(), Resume(), Schedule(), Pause(), TestToMyself(), ChangeRate(), Cancel())
ACTS: dict[str, Act] = {act.name: act for act in _ACTS}
