"""Look at batches and move them: `manage.py batch list|show|start|pause|resume|cancel|rate`."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications import batches
from notifications.bulk.telling import lines_about, one_line
from notifications.models import Batch
from users.management.projects import project_named
from users.models import Project
from users.refusals import Conflict

#: Batches that `list` shows.
MOST = 50

_MOVES = {
    "start": batches.start,
    "pause": batches.pause,
    "resume": batches.resume,
    "cancel": batches.cancel,
}


class Command(BaseCommand):
    help = (
        "Looks at batches and moves them. `pause` takes effect at once, `resume` goes on where it was, `cancel` is "
        "final. `rate` changes how many a second go out (0: as fast as it goes). Exit code 1 where the batch's status "
        "does not allow it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", help="the project's name; needed where there are several")
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        verbs.add_parser("list", help=f"the newest {MOST}")
        for verb in ("show", *_MOVES):
            verbs.add_parser(verb, help=f"{verb} one").add_argument("name")
        rate = verbs.add_parser("rate", help="change how many a second go out")
        rate.add_argument("name")
        rate.add_argument("per_second", type=float)

    def handle(self, *args: Any, **options: Any) -> None:
        project = project_named(options["project"])
        verb = options["verb"]
        if verb == "list":
            return self._list(project)
        batch = self._named(project, options["name"])
        try:
            if verb in _MOVES:
                _MOVES[verb](batch.pk)
            elif verb == "rate":
                self._set_rate(batch, options["per_second"])
        except Conflict as conflict:
            raise CommandError(conflict.detail) from conflict
        batch.refresh_from_db()
        for line in lines_about(batch, batches.progress(batch)):
            self.stdout.write(line)

    def _list(self, project: Project) -> None:
        found = Batch.objects.filter(project=project).order_by("-id")[:MOST]
        for batch in found:
            self.stdout.write(one_line(batch))
        if not found:
            self.stdout.write("There are no batches yet; manage.py send_bulk makes one.")

    def _named(self, project: Project, name: str) -> Batch:
        batch = batches.named(project.pk, name)
        if batch is None:
            raise CommandError(f"There is no batch named {name!r} in {project}.")
        return batch

    def _set_rate(self, batch: Batch, per_second: float) -> None:
        if per_second < 0:
            raise CommandError("A rate is a number of messages a second, or 0 for no limit.")
        batches.set_rate(batch.pk, per_second or None)
