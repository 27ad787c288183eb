"""What one can send, as a form. Whether it may be sent says the API's own serializer, in the API's own words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from notifications.api.errors import explained
from notifications.api.serializers import NotificationInput
from notifications.intake import Submission
from notifications.models import Channel, Priority
from notifications.playground.carriers import carrier_of
from users.refusals import Refused

_INPUT = NotificationInput()
#: Which fields a channel does not have. The page hides them, and whatever they hold is left out.
_NOT_OF: dict[str, set[str]] = {
    Channel.EMAIL: {"url"},
    Channel.SMS: {"title", "html", "url"},
    Channel.IN_APP: {"html"},
}
_ALWAYS = {"channel", "recipient", "message"}
#: Where the page shows what the API says of a field that has another name here.
_SHOWN_AT = {"user_id": "recipient", "scheduled_for": "delay"}


class TryForm(forms.Form):
    """Every field is text, taken as it was typed."""

    channel = forms.CharField(required=False, initial=Channel.IN_APP.value)
    recipient = forms.CharField(required=False, strip=False)
    title = forms.CharField(required=False, strip=False, initial="Your order has shipped")
    message = forms.CharField(
        required=False, strip=False, initial="It is on its way, and arrives on Thursday."
    )
    html = forms.CharField(required=False, strip=False)
    url = forms.CharField(required=False, strip=False)
    priority = forms.CharField(required=False, initial=Priority.NORMAL.value)
    delay = forms.TypedChoiceField(
        required=False,
        coerce=int,
        choices=[("0", "now"), ("10", "in 10 seconds"), ("60", "in 1 minute")],
        initial="0",
    )

    def clean(self) -> dict[str, Any]:
        self.checked: dict[str, Any] = {}
        try:
            self.checked = _INPUT.run_validation(self.body())
        except ValidationError as error:
            for item in explained(error)["errors"]:
                self._refuse(item["field"], item["detail"])
        return self.cleaned_data

    def body(self) -> dict[str, str]:
        """What one would post to the API: what is empty, usual or not of the channel is left out."""
        given = {name: str(self[name].value() or "") for name in self.fields}
        delay = given.pop("delay")
        # A browser sends each line break as CR LF, whatever one has typed.
        body = {name: text.replace("\r\n", "\n") for name, text in given.items()}
        if body["priority"] == Priority.NORMAL:
            body["priority"] = ""
        if delay in _DELAYS:
            moment = timezone.now() + timedelta(seconds=int(delay))
            body["scheduled_for"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        left_out = _NOT_OF.get(body["channel"], set())
        return {
            name: text
            for name, text in body.items()
            if name in _ALWAYS or (text and name not in left_out)
        }

    def submission(self, project_id: int, *, is_staff: bool) -> Submission:
        """Of a form that is valid."""
        live = carrier_of(self.checked["channel"], is_staff=is_staff).live
        return Submission(project_id=project_id, live=live, **self.checked)

    def refuse(self, refusal: Refused) -> None:
        self._refuse(refusal.field, refusal.detail)

    def _refuse(self, field: str, detail: str) -> None:
        name = _SHOWN_AT.get(field, field)
        self.add_error(name if name in self.fields else None, detail)


_DELAYS = {"10", "60"}
