"""Let a paused lane, provider or flow go out again: `manage.py resume sms.high`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications import pausing
from notifications.management.pausable import flow_named
from users.refusals import Refused


class Command(BaseCommand):
    help = (
        "Lets a lane, a provider or a project's flow (PROJECT/LANE), that manage.py pause or the console has paused, go "
        "out again, within seconds: the workers' sweep finds what is due. Exit code 1 where there is no such target; resuming what is not paused is fine."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", help="a lane, a provider, or PROJECT/LANE")

    def handle(self, *args: Any, **options: Any) -> None:
        target = options["target"]
        flow_id = flow_named(target)
        try:
            if flow_id is None:
                was_paused = pausing.resume(target, None)
            else:
                was_paused = pausing.resume_flow(flow_id, None)
        except Refused as refusal:
            raise CommandError(refusal.detail) from refusal
        done = "goes out again" if was_paused else "was not paused"
        self.stdout.write(f"{target} {done}.")
