"""Take along the addresses that must not be written to."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications.suppression_files import write
from users.management.projects import project_named


class Command(BaseCommand):
    help = (
        "Writes a project's list of addresses that must not be written to, as CSV, which import_suppressions reads "
        "again. Nothing in it is defused for spreadsheets: open it in one as text."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", help="the project's name; needed where there are several")
        parser.add_argument("--output", metavar="FILE", help="default: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        project = project_named(options["project"])
        if not options["output"]:
            write(project.pk, self.stdout)  # type: ignore[arg-type]  # it has the one method that is needed
            return
        try:
            with open(options["output"], "w", encoding="utf-8", newline="") as file:
                written = write(project.pk, file)
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror}.") from error
        self.stderr.write(f"{written:,} written to {options['output']}.")
