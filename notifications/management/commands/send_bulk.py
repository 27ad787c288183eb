"""One message to many, from a file or to all recipients: checked whole, stored whole, then sent."""

from __future__ import annotations

import csv
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from notifications import batches
from notifications.batches import Plan, Progress
from notifications.bulk import telling
from notifications.bulk.checking import Checker, Rejected, checking
from notifications.bulk.examining import Report, examine
from notifications.bulk.loading import NoLongerLoading, load
from notifications.bulk.placing import in_chunks
from notifications.bulk.reading import UnreadableFile
from notifications.bulk.sources import (
    FileSource,
    RecipientsSource,
    Source,
    UserIdsSource,
    name_of,
    opened,
)
from notifications.bulk.templating import TemplateProblem, Templates
from notifications.csv_cells import defused
from notifications.doctor import processes
from notifications.management.text_files import text_in
from notifications.models import Batch, Channel, Priority
from users.management.projects import project_named
from users.models import Project
from users.refusals import Refused

#: Seconds between two looks at how far the sending is.
LOOK_EVERY = 2.0

# What the process ends with; in docs/bulk.md as well.
NOTHING_SENT, SOME_FAILED, STOPPED, INTERRUPTED = 1, 3, 4, 130


class Command(BaseCommand):
    help = (
        "Sends one message to many: to the rows of a CSV or NDJSON file, to a list of user ids, or to all recipients "
        "of a project. All rows are checked before anything is stored, and stored before anything is sent. The same "
        "command again goes on where it was broken off, or reports: it never sends twice. Exit codes: 0 all is well; "
        "1 nothing was sent, the output says why; 2 a wrong call; 3 sent, and some failed; 4 the batch was paused or "
        "cancelled; 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        source = parser.add_argument_group("to whom (one of these)")
        source.add_argument("file", nargs="?", help="CSV or NDJSON; - for standard input")
        source.add_argument("--users", metavar="FILE", help="a list of user ids, one a line")
        source.add_argument(
            "--all-recipients", action="store_true", help="everybody in the project"
        )
        source.add_argument("--encoding", default="", help="of the file, where it is not UTF-8")
        parser.add_argument("--project", help="the project's name; needed where there are several")
        message = parser.add_argument_group(
            "what",
            "Liquid templates: {{ first_name }} is the column `First Name`. See docs/bulk.md.",
        )
        message.add_argument("--channel", choices=Channel.values, default=Channel.EMAIL)
        for part in ("title", "message", "html"):
            message.add_argument(f"--{part}", default="")
            message.add_argument(f"--{part}-file", metavar="FILE", help=f"the {part} from a file")
        message.add_argument("--url", default="", help="in-app: where a click leads")
        message.add_argument("--category", default="")
        how = parser.add_argument_group("how")
        how.add_argument(
            "--name", help="unique in the project; default: the file's name and digest"
        )
        how.add_argument("--priority", choices=Priority.values, default=Priority.LOW)
        how.add_argument(
            "--rate", type=_rate, metavar="N", help="at most so many a second, e.g. 50 or 50/s"
        )
        how.add_argument(
            "--at", type=_moment, metavar="TIME", help="not before, e.g. 2030-01-31T09:00Z"
        )
        how.add_argument("--expires", type=_moment, metavar="TIME", help="not after")
        how.add_argument("--test", action="store_true", help="everything goes to the sandbox")
        how.add_argument(
            "--skip-invalid",
            action="store_true",
            help="send the good rows; FILE.rejected.csv gets the others",
        )
        how.add_argument(
            "--allow-duplicates", action="store_true", help="an address may come more than once"
        )
        how.add_argument(
            "--max-failed",
            type=_share,
            metavar="SHARE",
            help="pause when more of the last 1,000 calls fail, e.g. 0.2",
        )
        how.add_argument("--dry-run", action="store_true", help="only check, and show")
        how.add_argument("--yes", action="store_true", help="do not ask")
        how.add_argument("--detach", action="store_true", help="return once all is stored")

    def handle(self, *args: Any, **options: Any) -> None:
        self.options = options
        self.bars = sys.stderr.isatty()
        try:
            self._handle(project_named(options["project"]))
        except UnreadableFile as error:
            raise CommandError(f"{self._path()} cannot be used. {error}") from error
        except TemplateProblem as error:
            raise CommandError(f"--{error.field}: {error}") from error
        except Refused as error:
            raise CommandError(error.detail) from error
        except OSError as error:
            raise CommandError(f"{error.filename or 'A file'}: {error.strerror}.") from error

    def _handle(self, project: Project) -> None:
        self._refuse_contradictions()
        texts = self._texts()
        templates = Templates(texts["title"], texts["message"], texts["html"])
        with ExitStack() as files:
            source = self._source(project, files)
            templates.require_columns(source.columns)
            plan = self._plan(project, source, texts)
            batch = batches.named(project.pk, plan.name)
            if batch is None or self.options["dry_run"]:
                self._check(project, source, templates)
                if self.options["dry_run"]:
                    return self.stdout.write("Only checked: nothing was stored, nothing is sent.")
                self._ask()
            batch = batches.make(plan)
            self._load(batch, source, templates)
        self._follow(batch)

    # -- what is asked for ---------------------------------------------------------------------------------

    def _refuse_contradictions(self) -> None:
        given = [name for name in ("file", "users", "all_recipients") if self.options[name]]
        if len(given) != 1:
            raise CommandError("Name a FILE, or --users FILE, or --all-recipients: one of these.")
        if self._path() == "-" and not self.options["yes"] and not self.options["dry_run"]:
            raise CommandError("With standard input nobody can be asked: add --yes.")

    def _path(self) -> str:
        return self.options["file"] or self.options["users"] or "The list of recipients"

    def _texts(self) -> dict[str, str]:
        return {part: self._text(part) for part in ("title", "message", "html")}

    def _text(self, part: str) -> str:
        path = self.options[f"{part}_file"]
        if not path:
            return str(self.options[part])
        if self.options[part]:
            raise CommandError(f"Give --{part} or --{part}-file, not both.")
        return text_in(path)

    def _source(self, project: Project, files: ExitStack) -> Source:
        if self.options["all_recipients"]:
            batch = batches.named(project.pk, self.options["name"] or "")
            last_id = batch.last_recipient_id if batch else None
            return RecipientsSource(project.pk, self.options["channel"], last_id)
        file = files.enter_context(opened(self._path()))
        name = Path(self._path()).name
        if self.options["users"]:
            return UserIdsSource(file, name)
        return FileSource(file, name, self.options["encoding"])

    def _plan(self, project: Project, source: Source, texts: dict[str, str]) -> Plan:
        digest = source.digest()
        name = self.options["name"]
        if not name and self.options["all_recipients"]:
            raise CommandError("--all-recipients needs a --name, by which the same is known again.")
        return Plan(
            project_id=project.pk,
            name=name or name_of(self._path(), digest),
            channel=self.options["channel"],
            digest=digest,
            title=texts["title"],
            message=texts["message"],
            html=texts["html"],
            url=self.options["url"],
            category=self.options["category"],
            priority=self.options["priority"],
            live=not self.options["test"],
            source=source.kind,
            file_name=source.name,
            encoding=self.options["encoding"],
            last_recipient_id=getattr(source, "last_id", None),
            skip_invalid=self.options["skip_invalid"],
            once_per_address=not self.options["allow_duplicates"],
            scheduled_for=self.options["at"],
            expires_at=self.options["expires"],
            rate=self.options["rate"],
            failure_limit=self.options["max_failed"],
        )

    # -- check ---------------------------------------------------------------------------------------------

    def _check(self, project: Project, source: Source, templates: Templates) -> None:
        with (
            self._bar("Checking", source.size) as bar,
            self._rejects() as on_rejected,
            self._checker(templates) as checker,
        ):
            report = examine(
                in_chunks(source.rows(), checker, project.pk),
                project.pk,
                self.options["channel"],
                self.options["category"],
                on_rejected,
                lambda report: _move_to(bar, source.position()),
            )
        self._tell_check(report)

    def _tell_check(self, report: Report) -> None:
        for line in telling.about_check(report.as_json(), self.options["channel"]):
            self.stdout.write(line)
        if problem := report.problem(self.options["skip_invalid"]):
            hint = " See --skip-invalid." if report.valid else ""
            raise CommandError(problem + hint, returncode=NOTHING_SENT)

    @contextmanager
    def _rejects(self) -> Iterator[Callable[[Rejected], None]]:
        """Where rejected rows are written with the reason, if anywhere: complete before anything is stored."""
        if not self.options["skip_invalid"] or self.options["dry_run"]:
            yield lambda rejected: None
            return
        path = "stdin.rejected.csv" if self._path() == "-" else f"{self._path()}.rejected.csv"
        if self.options["all_recipients"]:
            path = "recipients.rejected.csv"
        with open(path, "w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(("line", "field", "code", "detail", "row"))
            yield lambda each: out.writerow(
                defused((each.line, each.field, each.code, each.detail, *each.raw))
            )
        if not Path(path).stat().st_size:
            raise CommandError(f"{path} could not be written.")
        self.stdout.write(f"Rejected rows are written to {path}.")

    def _checker(self, templates: Templates) -> AbstractContextManager[Checker]:
        return checking(self.options["channel"], templates, not self.options["allow_duplicates"])

    def _ask(self) -> None:
        if self.options["yes"]:
            return
        if not sys.stdin.isatty():
            raise CommandError("Nobody can be asked here: add --yes.")
        try:
            answer = input("Send? [y/N] ")
        except (EOFError, KeyboardInterrupt):
            answer = ""
        if answer.strip().lower() not in {"y", "yes"}:
            raise CommandError("Nothing was sent.")

    # -- store ---------------------------------------------------------------------------------------------

    def _load(self, batch: Batch, source: Source, templates: Templates) -> None:
        if batch.status != Batch.Status.LOADING:
            return self.stdout.write(f"{batch.name!r} was loaded before; nothing is sent twice.")
        try:
            with (
                self._bar("Loading", source.size) as bar,
                self._checker(templates) as checker,
            ):
                chunks = in_chunks(source.rows(), checker, batch.project_id)
                load(batch, chunks, checker, lambda upto: _move_to(bar, source.position()))
            if source.digest() != bytes(batch.digest):
                raise CommandError(
                    f"{self._path()} was changed while it was read; nothing was sent."
                )
            batches.loaded(batch.pk)
        except NoLongerLoading:
            self.stdout.write(f"{batch.name!r} is loaded by another.")
        except KeyboardInterrupt:
            self._end_interrupted("Nothing was sent. The same command again goes on from here.")

    # -- watch ---------------------------------------------------------------------------------------------

    def _follow(self, batch: Batch) -> None:
        batch.refresh_from_db()
        if self.options["detach"]:
            self.stdout.write(
                f"{batch.name!r} is {batch.status}. See: manage.py batch show {batch.name!r}"
            )
            return
        if batch.status == Batch.Status.READY and batch.scheduled_for:
            self.stdout.write(
                f"It starts at {batch.scheduled_for:%Y-%m-%d %H:%M:%S} UTC; Ctrl-C only stops watching."
            )
        if not processes.serves(batch.flow.lane):
            self.stdout.write(
                "No worker runs that would send it: it waits until one does (script/server), or send it from another "
                "shell with manage.py drain."
            )
        try:
            progress = self._watch(batch)
        except KeyboardInterrupt:
            self._end_interrupted(
                "The sending goes on; this only stops watching. To stop it: "
                f"manage.py batch pause {batch.name!r}, or cancel."
            )
        for line in telling.lines_about(batch, progress):
            self.stdout.write(line)
        if batch.status != Batch.Status.COMPLETED:
            sys.exit(STOPPED)
        if progress.failed or progress.unknown or progress.expired:
            sys.exit(SOME_FAILED)

    def _watch(self, batch: Batch) -> Progress:
        """Until it moves no more."""
        with self._bar("Sending", batch.loaded, unit=" rows") as bar:
            while True:
                batch.refresh_from_db()
                progress = batches.progress(batch)
                bar.total = progress.total
                _move_to(bar, progress.done)
                moving = batch.status in (Batch.Status.READY, Batch.Status.RUNNING)
                if not moving and (batch.finished_at or batch.status == Batch.Status.PAUSED):
                    return progress
                time.sleep(LOOK_EVERY)

    # -- around --------------------------------------------------------------------------------------------

    def _bar(self, title: str, total: int, unit: str = "B") -> Any:
        """A progress bar with rate and remaining time, where somebody sees it."""
        return tqdm(
            desc=title,
            total=total,
            unit=unit,
            unit_scale=True,
            disable=not self.bars,
            file=sys.stderr,
        )

    def _end_interrupted(self, message: str) -> NoReturn:
        self.stdout.write(f"\n{message}")
        sys.exit(INTERRUPTED)


def _move_to(bar: Any, position: int) -> None:
    bar.update(max(position - bar.n, 0))


def _rate(text: str) -> float:
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 100_000:
        raise ArgumentTypeError(f"{text!r} is not a number of messages a second, like 50 or 50/s")
    return rate


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentTypeError(f"{text!r} is not a share from 0 to 1, like 0.2")
    return share


def _moment(text: str) -> datetime:
    """With a time zone; without one, UTC."""
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is not a time like 2030-01-31T09:00Z")
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment < timezone.now():
        raise ArgumentTypeError(f"{text!r} is in the past")
    return moment
