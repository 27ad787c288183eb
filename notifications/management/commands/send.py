"""One notification from a shell script or cron."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import ValidationError

from notifications import intake
from notifications.api.serializers import NotificationInput
from notifications.management.text_files import text_in
from notifications.models import Channel, Priority
from users.management.projects import project_named
from users.refusals import Refused

#: Options that are fields of a notification.
_FIELDS = ("user_id", "recipient", "channel", "title", "url", "priority", "category", "reference")


class Command(BaseCommand):
    help = (
        "Sends one notification, as POST /api/v1/notifications does, and prints its id. With --key the same call again "
        "sends nothing and prints the same id. Exit code 1 when it was refused; the output says why."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user_id", nargs="?", help="your own id of the person")
        parser.add_argument("--recipient", help="an address, instead of USER_ID or beside it")
        parser.add_argument("--project", help="the project's name; needed where there are several")
        parser.add_argument("--channel", choices=Channel.values, required=True)
        parser.add_argument("--title")
        parser.add_argument("--message", required=True, help="- reads it from standard input")
        parser.add_argument("--html-file", metavar="FILE", help="e-mail: the HTML part")
        parser.add_argument("--url", help="in-app: where a click leads")
        parser.add_argument("--priority", choices=Priority.values)
        parser.add_argument("--category")
        parser.add_argument("--reference", help="your own reference; searchable")
        parser.add_argument("--at", metavar="TIME", help="not before, e.g. 2030-01-31T09:00:00Z")
        parser.add_argument("--expires", metavar="TIME", help="not after")
        parser.add_argument("--key", default="", help="an idempotency key")
        parser.add_argument("--test", action="store_true", help="it goes to the sandbox")

    def handle(self, *args: Any, **options: Any) -> None:
        project = project_named(options["project"])
        values = self._values(options)
        try:
            checked = NotificationInput().run_validation(values)
            accepted = intake.submit(
                intake.Submission(
                    project_id=project.pk,
                    live=not options["test"],
                    idempotency_key=options["key"],
                    fingerprint=intake.fingerprint(values, not options["test"]),
                    **checked,
                )
            )
        except ValidationError as error:
            raise CommandError(_in_words(error)) from error
        except Refused as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(str(accepted.notification.id))

    def _values(self, options: dict[str, Any]) -> dict[str, Any]:
        """What the API would get."""
        values = {name: options[name] for name in _FIELDS}
        values |= {"scheduled_for": options["at"], "expires_at": options["expires"]}
        message = options["message"]
        values["message"] = sys.stdin.read() if message == "-" else message
        if options["html_file"]:
            values["html"] = text_in(options["html_file"])
        return {name: value for name, value in values.items() if value is not None}


def _in_words(error: ValidationError) -> str:
    details: Any = error.detail
    return " ".join(f"{field}: {' '.join(map(str, texts))}" for field, texts in details.items())
