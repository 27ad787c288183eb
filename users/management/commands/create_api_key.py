"""Make an API key. It is printed once and cannot be shown again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from users.management.projects import project_named
from users.models import ApiKey, Scope


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
            project=project_named(options["project"]),
            name=options["name"],
            kind=ApiKey.Kind.TEST if options["test"] else ApiKey.Kind.LIVE,
            scopes=options["scope"] or Scope.values,
        )
        token = key.issue()
        key.save()
        self.stderr.write(f"A {key.kind} key of {key.project}; it cannot be shown again:")
        self.stdout.write(token)
