"""After a restore, before the first worker starts: hold what may have gone out since the backup."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications import restoring
from notifications.doctor import processes


class Command(BaseCommand):
    help = (
        "For a database restored from a backup: makes unknown, and holds for an operator, all that was due or being "
        "sent at the time of the backup, since it may have gone out after that. Has browsers load their inboxes anew. Sends nothing, loses nothing. Run it "
        "before a worker starts; running it twice does no harm."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        running = [process.name for process in processes.alive() if process.kind == "worker"]
        if running:
            raise CommandError(
                f"Workers run and send: {', '.join(running)}. Stop them first; if they were only just stopped, wait "
                "20 s. (On a database that was not restored, this command has no business.)"
            )
        held = restoring.hold()
        self.stdout.write(
            f"Held: {held.due:,} that were due, {held.sending:,} that a worker had, {held.unknown:,} unknown ones that "
            "the policy would have sent again."
        )
        self.stdout.write(
            f"Moved ahead: {held.inboxes:,} inboxes, whose open pages load their lists anew."
        )
        self.stdout.write(
            "Now the workers may start. Find these in the admin by status unknown; manage.py reconcile "
            "--provider-log names those that did go out."
        )
