"""What a new installation needs once: an operator, a project, a live and a test key."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction
from django.urls import reverse

from users.models import ApiKey, Project, User

_SHOWN_ONCE = """
────────────────────────────────────────────────────────────────────────────────
 This is shown once. Nothing below is stored in a form that could be read again.

   Admin        {url}{admin}
   User         {username}
   Password     {password}
   Try it       {url}/try/

   Live key     {live}
   Test key     {test}

 Send a first notification:

   curl -i {url}/api/v1/notifications \\
     -H "Authorization: Bearer {live}" \\
     -H "Content-Type: application/json" \\
     -d '{{"channel": "email", "recipient": "ada@example.com",
          "title": "Hello", "message": "It works."}}'

 Lost?  New password: .venv/bin/python manage.py changepassword {username}
        New key:      .venv/bin/python manage.py create_api_key [--test]
────────────────────────────────────────────────────────────────────────────────
"""


class Command(BaseCommand):
    help = (
        "On an empty installation: makes an administrator, a project with a live and a test key, and prints "
        "them once. Where there is a user or a project already, it does nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--url", default="http://127.0.0.1:8000", help="where the service answers"
        )
        parser.add_argument("--username", default="admin")
        parser.add_argument("--project", default="My project")

    def handle(self, *args: Any, **options: Any) -> None:
        if User.objects.exists() or Project.objects.exists():
            self.stderr.write(
                "There is an operator already. Lost the password or a key? "
                ".venv/bin/python manage.py changepassword admin, .venv/bin/python manage.py create_api_key"
            )
            return
        with transaction.atomic():
            password = secrets.token_urlsafe(12)
            User.objects.create_superuser(options["username"], password=password)
            project = Project.objects.create(name=options["project"])
            live, test = _key(project, ApiKey.Kind.LIVE), _key(project, ApiKey.Kind.TEST)
        self.stdout.write(
            _SHOWN_ONCE.format(
                url=options["url"],
                admin=reverse("admin:index"),
                username=options["username"],
                password=password,
                live=live,
                test=test,
            )
        )


def _key(project: Project, kind: ApiKey.Kind) -> str:
    key = ApiKey(project=project, name=f"first {kind} key", kind=kind)
    token = key.issue()
    key.save()
    return token
