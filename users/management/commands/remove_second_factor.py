"""Who has lost the app and the recovery codes gets in again with the password."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from users import second_factor
from users.models import User


class Command(BaseCommand):
    help = (
        "Removes an account's second factor and recovery codes; it then signs in with its password alone, and can "
        "set up a new one. Make sure first that it is the person who asks."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        username = options["username"]
        user = User.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no account {username!r}.")
        if not second_factor.remove(user):
            self.stdout.write(f"{username} has no second factor.")
            return
        self.stdout.write(f"{username} signs in with the password alone from now on.")
