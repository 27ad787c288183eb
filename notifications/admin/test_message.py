"""Sending a message to oneself, to see that it goes out and what it looks like."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.contrib.admin.models import ADDITION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold import widgets

from notifications import intake
from notifications.intake import Submission
from notifications.models import Channel, Notification
from users.models import Project, User
from users.reach import within
from users.refusals import Refused

SEND = "notifications.send_batch"
TITLE = "A test of the notification service"
MESSAGE = "This is a test message. Whoever reads it may ignore it: it was sent from the console to see that it arrives."
REFERENCE = "[Test]"
LONGEST_USER_ID = 255


class TestMessageForm(forms.Form):
    """What is wrong with the recipient is known only when it is stored."""

    __test__ = False

    project = forms.ModelChoiceField(Project.objects.none(), widget=widgets.UnfoldAdminSelectWidget)
    channel = forms.ChoiceField(choices=Channel.choices, widget=widgets.UnfoldAdminSelectWidget)
    recipient = forms.CharField(
        max_length=320,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="An e-mail address, a phone number, or for in-app a user_id. A new one is kept as a recipient of the project.",
    )
    live = forms.ChoiceField(
        label="Kind",
        choices=[
            ("test", "Test: to the sandbox"),
            ("live", "Live: to the provider"),
        ],
        widget=widgets.UnfoldAdminSelectWidget,
        help_text="Of a test nothing leaves this machine. A live one is really sent, with high priority.",
    )

    def __init__(self, user: User, data: Any = None) -> None:
        super().__init__(data)
        project = cast("forms.ModelChoiceField[Project]", self.fields["project"])
        project.queryset = within(user, Project.objects.order_by("name"), "pk")
        if len(project.queryset) == 1:
            project.initial = project.queryset[0]

    def clean_recipient(self) -> str:
        """As the API refuses it: in-app, nothing looks whether such a user_id could ever be."""
        recipient = str(self.cleaned_data["recipient"])
        if self.cleaned_data.get("channel") != Channel.IN_APP:
            return recipient
        if len(recipient) > LONGEST_USER_ID or "/" in recipient or recipient in {".", ".."}:
            raise forms.ValidationError(
                f"In-app, this is a user_id: at most {LONGEST_USER_ID} characters, without a slash."
            )
        return recipient

    def submission(self) -> Submission:
        """Of a form that is valid."""
        given = self.cleaned_data
        return Submission(
            project_id=given["project"].pk,
            channel=given["channel"],
            recipient=given["recipient"],
            live=given["live"] == "live",
            priority="high",
            title="" if given["channel"] == Channel.SMS else TITLE,
            message=MESSAGE,
            reference=REFERENCE,
        )

    def refuse(self, refusal: Refused) -> None:
        self.add_error(refusal.field if refusal.field in self.fields else None, refusal.detail)


def page(request: HttpRequest) -> HttpResponse:
    """Asks by GET, sends by POST, and goes on to the notification, where one sees what becomes of it."""
    if not request.user.has_perm(SEND):
        raise PermissionDenied
    if request.method not in {"GET", "HEAD", "POST"}:
        return HttpResponseNotAllowed(["GET", "POST"])
    user = cast("User", request.user)
    form = TestMessageForm(user, request.POST if request.method == "POST" else None)
    sent = _sent(user, form) if form.is_valid() else None
    if sent:
        return redirect("admin:notifications_notification_change", sent.pk)
    context = {
        **admin.site.each_context(request),
        "title": "Send a test message",
        "form": form,
        "message": MESSAGE,
    }
    return TemplateResponse(request, "admin/overview/test_message.html", context)


def _sent(user: User, form: TestMessageForm) -> Notification | None:
    try:
        with transaction.atomic():
            notification = intake.submit(form.submission()).notification
            LogEntry.objects.log_actions(
                user.pk, [notification], ADDITION, "Sent as a test message.", single_object=True
            )
    except Refused as refusal:
        form.refuse(refusal)
        return None
    return notification
