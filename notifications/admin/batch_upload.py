"""The form that makes a batch. What it may say and what its file must be is checked by the code that the API uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, cast

from django import forms
from django.conf import settings
from django.template.defaultfilters import filesizeformat
from rest_framework.exceptions import ValidationError
from unfold import widgets

from notifications.api.batches import BatchInput
from notifications.batches import LONGEST_NAME, Plan
from notifications.bulk.sources import digest_of
from notifications.bulk.staging import refuse_at_once
from notifications.models import Channel, Priority
from users.models import Project, User
from users.refusals import Refused

if TYPE_CHECKING:
    from django.core.files.uploadedfile import UploadedFile
    from django.db.models import QuerySet

_INPUT = BatchInput()
#: Fields that are passed on to the API's check as they are, unless they are empty.
_SAME = (
    "name", "channel", "title", "message", "html", "url", "category", "priority", "rate",
    "encoding", "skip_invalid", "allow_duplicates",
)  # fmt: skip


class DateTimeInput(widgets.UnfoldAdminTextInputWidget):  # type: ignore[misc]
    """The browser's own picker."""

    input_type = "datetime-local"


def _area(rows: int) -> Any:
    widget = widgets.UnfoldAdminTextareaWidget()
    widget.attrs["rows"] = rows
    return widget


class UploadForm(forms.Form):
    """One message to many. Its errors stand at the field at fault."""

    project = forms.ModelChoiceField(Project.objects.none(), widget=widgets.UnfoldAdminSelectWidget)
    name = forms.CharField(
        max_length=LONGEST_NAME,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="For you; unique in the project. The same batch again sends nothing twice.",
    )
    channel = forms.ChoiceField(choices=Channel.choices, widget=widgets.UnfoldAdminSelectWidget)
    file = forms.FileField(
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,.tsv,.txt,.ndjson,.jsonl"}),
    )
    encoding = forms.CharField(
        required=False,
        max_length=40,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="Empty for UTF-8. Else its name, such as cp1252.",
    )
    title = forms.CharField(
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="A mail's subject. Columns are variables here, too.",
    )
    message = forms.CharField(
        strip=False, widget=_area(8), help_text="The text: Hello {{ first_name }}!"
    )
    html = forms.CharField(
        label="HTML part", required=False, strip=False, widget=_area(5), help_text="E-mail only."
    )
    url = forms.CharField(
        label="Link",
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="In-app only: where the message leads.",
    )
    category = forms.CharField(
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="One of the project's mandatory categories also goes to who unsubscribed.",
    )
    priority = forms.ChoiceField(
        choices=Priority.choices,
        initial=Priority.LOW,
        widget=widgets.UnfoldAdminSelectWidget,
        help_text="Low never delays a password reset.",
    )
    rate = forms.FloatField(
        label="At most so many a second",
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text="Empty: as fast as it goes.",
    )
    skip_invalid = forms.BooleanField(
        label="Leave out rows that cannot be sent",
        required=False,
        widget=widgets.UnfoldBooleanWidget,
        help_text="Else one such row is enough for nothing to be sent.",
    )
    allow_duplicates = forms.BooleanField(
        label="An address may come more than once",
        required=False,
        widget=widgets.UnfoldBooleanWidget,
    )
    live = forms.ChoiceField(
        label="Kind",
        choices=[("live", "Live: it reaches people"), ("test", "Test: all goes to the sandbox")],
        widget=widgets.UnfoldAdminSelectWidget,
    )
    scheduled_for = forms.DateTimeField(
        label="Starts at (UTC)",
        required=False,
        widget=DateTimeInput,
        help_text="Empty: when you say so, having seen the preview. A time: by itself.",
    )

    def __init__(self, projects: QuerySet[Project], *args: Any, **kwargs: Any) -> None:
        """`projects` are those to choose from."""
        super().__init__(*args, **kwargs)
        most = filesizeformat(settings.MAX_BATCH_BYTES)
        self.fields[
            "file"
        ].help_text = f"CSV or NDJSON, at most {most}. A column user_id, email or phone says to whom; every other is a variable."
        project = cast("forms.ModelChoiceField[Project]", self.fields["project"])
        project.queryset = projects
        if len(projects) == 1:
            project.initial = projects[0]

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if self.errors:
            return given
        try:
            given["asked"] = _INPUT.run_validation(self._as_api_input(given))
        except ValidationError as error:
            self._add_api_errors(error)
        else:
            self._check_file(given["asked"], given["file"])
        return given

    def plan(self, user: User) -> Plan:
        """Of a form that is valid."""
        given, asked = self.cleaned_data, dict(self.cleaned_data["asked"])
        once_per_address = not asked.pop("allow_duplicates")
        del asked["start"]
        return Plan(
            **asked,
            project_id=given["project"].pk,
            created_by_id=user.pk,
            live=given["live"] == "live",
            digest=digest_of(self.uploaded),
            once_per_address=once_per_address,
            starts_by_itself=given["scheduled_for"] is not None,
        )

    def refuse(self, refusal: Refused) -> None:
        """What was learned only when it was made."""
        field = refusal.field if refusal.field in self.fields else None
        self.add_error(field, refusal.detail)

    @property
    def uploaded(self) -> BinaryIO:
        return cast("BinaryIO", self.cleaned_data["file"])

    def _as_api_input(self, given: dict[str, Any]) -> dict[str, Any]:
        values = {name: given[name] for name in _SAME if given[name] not in (None, "")}
        if given["scheduled_for"]:
            values["scheduled_for"] = given["scheduled_for"].isoformat()
        # A browser sends line breaks as CR LF.
        for part in {"message", "html"} & values.keys():
            values[part] = values[part].replace("\r\n", "\n")
        return values | {"file_name": given["file"].name[:LONGEST_NAME]}

    def _add_api_errors(self, error: ValidationError) -> None:
        details = cast("dict[str, list[str]]", error.detail)
        for name, words in details.items():
            for each in words:
                self.add_error(name if name in self.fields else None, str(each))

    def _check_file(self, asked: dict[str, Any], file: UploadedFile[Any]) -> None:
        if (file.size or 0) > settings.MAX_BATCH_BYTES:
            self.add_error("file", too_large())
            return
        try:
            refuse_at_once(
                asked["title"],
                asked["message"],
                asked["html"],
                cast("BinaryIO", file),
                asked["file_name"],
                asked["encoding"],
            )
        except Refused as refusal:
            self.refuse(refusal)


def too_large() -> str:
    most = filesizeformat(settings.MAX_BATCH_BYTES)
    return f"This is more than {most}. Send it in parts, or with manage.py send_bulk."
