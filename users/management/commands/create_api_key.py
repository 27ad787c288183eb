"""Make an API key. It is printed once and cannot be shown again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from users.models import ApiKey, Project, Scope


class Command(BaseCommand):
    help = "Makes an API key for a project and prints it, once. Only a digest of it is stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", help="the project's name; needed where there are several")
        parser.add_argument("--name", default="made by create_api_key", help="what uses the key")
        parser.add_argument(
            "--test", action="store_true", help="everything it sends goes to the sandbox"
        )
        parser.add_argument(
            "--scope",
            action="append",
            choices=Scope.values,
            help="what it may do; may be given several times (default: everything)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        key = ApiKey(
            project=_project(options["project"]),
            name=options["name"],
            kind=ApiKey.Kind.TEST if options["test"] else ApiKey.Kind.LIVE,
            scopes=options["scope"] or Scope.values,
        )
        token = key.issue()
        key.save()
        self.stderr.write(f"A {key.kind} key of {key.project}; it cannot be shown again:")
        self.stdout.write(token)


def _project(name: str | None) -> Project:
    projects = list(Project.objects.filter(name=name) if name else Project.objects.all()[:2])
    if len(projects) == 1:
        return projects[0]
    if name:
        raise CommandError(f"There is no project named {name!r}.")
    if projects:
        raise CommandError("There are several projects; name one with --project.")
    raise CommandError(
        "There is no project yet; make one in the admin or with manage.py first_start."
    )
