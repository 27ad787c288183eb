"""Hold a lane, a provider or a project's flow: `manage.py pause sms.high --reason "wrong texts"`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from notifications import pausing
from notifications.explaining import paused_by
from notifications.management.pausable import flow_named
from notifications.models import Flow
from users.refusals import Refused


class Command(BaseCommand):
    help = (
        "Holds a lane (sms.high), a provider (twilio) or a project's flow (PROJECT/LANE): nothing of it is sent from now "
        "on, until manage.py resume. What waits loses no attempt, but expires in time. Without a target, lists what is "
        "paused. Exit code 1 where there is no such target."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", nargs="?", help="a lane, a provider, or PROJECT/LANE")
        parser.add_argument("--reason", default="", help="told to everybody who asks why it waits")

    def handle(self, *args: Any, **options: Any) -> None:
        target = options["target"]
        if not target:
            return self._list()
        flow_id = flow_named(target)
        try:
            if flow_id is None:
                pausing.pause(target, None, options["reason"])
            else:
                pausing.pause_flow(flow_id, None, options["reason"])
        except Refused as refusal:
            raise CommandError(refusal.detail) from refusal
        self.stdout.write(f"{target} is paused. manage.py resume {target} lets it go out again.")

    def _list(self) -> None:
        now = timezone.now()
        of_projects = Flow.objects.filter(paused=True, batch=None).select_related("project")
        lines = [f"{paused_by(pause, now)}." for pause in pausing.pauses()]
        lines += [f"{flow.project}/{flow.lane} is paused." for flow in of_projects.order_by("id")]
        for line in lines or ["Nothing is paused."]:
            self.stdout.write(line)
