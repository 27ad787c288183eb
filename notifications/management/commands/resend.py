"""Send many notifications once more, chosen by filters: the console's bulk action, from the shell."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from tqdm import tqdm

from notifications import batches, bulk_actions
from notifications.acts import ACTS, LONGEST_REASON
from notifications.bulk_actions import HIGHEST_RATE, USUAL_RATE, Preview
from notifications.carrying import Carrier, take
from notifications.explaining import counted, duration
from notifications.finding import as_uuid
from notifications.management.commands.reconcile import moment
from notifications.models import BulkAction, Channel, Status
from users.management.projects import project_named
from users.models import Project, User
from users.reach import project_ids_of
from users.refusals import Refused

RESEND = ACTS["resend"]

# What the process ends with, beside 0; in docs/operations.md as well.
INTERRUPTED, NOT_ENDED = 130, 4


class Command(BaseCommand):
    help = (
        "Sends many notifications once more, chosen by filters, as the console does: each once, with a reason and a "
        "name in the log, at a rate. Without --yes it only shows what would be sent. Ctrl-C pauses it; --go-on "
        "resumes it, and so does its page in the console. Exit codes: 0 done; 1 nothing was done, the output says why; "
        "4 it was paused or stopped by somebody else; 130 interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_argument_group("which (at least one of these)")
        which.add_argument("--status", choices=Status.values)
        which.add_argument("--channel", choices=Channel.values)
        which.add_argument("--since", type=moment, metavar="TIME", help="accepted then or later")
        which.add_argument("--until", type=moment, metavar="TIME", help="accepted before then")
        which.add_argument("--provider", help="the last one it was given to")
        which.add_argument("--project", help="the project's name")
        which.add_argument("--failure-code")
        which.add_argument("--category")
        which.add_argument("--batch", help="a batch's id, or with --project its name")
        how = parser.add_argument_group("how")
        how.add_argument(
            "--include-arrived",
            action="store_true",
            help="a second copy also for those whose person has the message already",
        )
        how.add_argument(
            "--rate", type=_rate, default=USUAL_RATE, metavar="N", help="a second; default: 50"
        )
        how.add_argument("--reason", default="", help="why; it stands in the log")
        how.add_argument("--as", dest="username", metavar="USERNAME", help="who it is, in the log")
        how.add_argument("--dry-run", action="store_true", help="only show; so it is without --yes")
        how.add_argument("--yes", action="store_true", help="do it")
        how.add_argument("--go-on", type=UUID, metavar="ID", help="with one that was broken off")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            user = _staff(options["username"])
            if options["go_on"]:
                self._carry_out(_again(options["go_on"], user))
            else:
                self._resend(user, options)
        except Refused as refusal:
            field = f"--{refusal.field.replace('_', '-')}: " if refusal.field else ""
            raise CommandError(f"{field}{refusal.detail}") from refusal

    def _resend(self, user: User, options: dict[str, Any]) -> None:
        """Show it, and with --yes do it. Raises Refused."""
        query, reach = _query(options), project_ids_of(user)
        arrived = options["include_arrived"]
        found = bulk_actions.preview(RESEND, query, reach, arrived)
        for line in _told(found, options["rate"]):
            self.stdout.write(line)
        if options["dry_run"] or not options["yes"]:
            self.stdout.write("Nothing was done. With --yes (and without --dry-run) it is.")
        elif not found.count:
            self.stdout.write("There is nothing to resend.")
        else:
            asked = (RESEND, query, reach, arrived, _reason(options["reason"]), user)
            # In one, so that no worker takes it before we do.
            with transaction.atomic():
                taken = take(bulk_actions.make(*asked, options["rate"]).pk)
            self._carry_out(taken)

    def _carry_out(self, bulk_action: BulkAction | None) -> None:
        """In this process. Interrupted, it is paused, so that no worker goes on with it unasked."""
        if bulk_action is None:
            raise CommandError("A worker has it already; watch it in the console.")
        try:
            with _progress() as on_progress:
                Carrier(bulk_action, on_progress).carry_on()
        except KeyboardInterrupt:
            bulk_actions.pause(bulk_action, reason="interrupted")
            self._tell(bulk_action)
            self.stdout.write(_how_to_go_on(bulk_action))
            sys.exit(INTERRUPTED)
        self._tell(bulk_action)
        if bulk_action.status != BulkAction.Status.COMPLETED:
            self.stdout.write(_how_to_go_on(bulk_action))
            sys.exit(NOT_ENDED)

    def _tell(self, bulk_action: BulkAction) -> None:
        bulk_action.refresh_from_db()
        self.stdout.write(f"{bulk_action.done:,} resent, {bulk_action.refused:,} refused.")
        for reason, count in bulk_actions.refusals(bulk_action):
            self.stdout.write(f"  {count:,}: {reason}")


def _rate(text: str) -> float:
    """50, or 50/s. For argparse."""
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0 < rate <= HIGHEST_RATE:
        raise ArgumentTypeError(f"{text!r} is no number above 0, at most {HIGHEST_RATE:,g}")
    return rate


def _staff(username: str | None) -> User:
    """Who may resend. Raises CommandError."""
    if not username:
        raise CommandError("Say who you are with --as USERNAME: the log names a person.")
    user = User.objects.filter(username=username, is_active=True, is_staff=True).first()
    if user is None:
        raise CommandError(f"--as: there is no active member of staff {username!r}.")
    if not user.has_perm(RESEND.permission):
        raise CommandError(f"--as: {username!r} may not resend.")
    return user


def _reason(text: str) -> str:
    """Raises Refused."""
    if len(text) > LONGEST_REASON:
        raise Refused("too_long", f"At most {LONGEST_REASON} characters.", "reason")
    return text


def _query(options: dict[str, Any]) -> dict[str, str]:
    """The parameters of the console's list. Raises CommandError."""
    query = {
        name: options[name]
        for name in ("status", "channel", "provider", "failure_code", "category")
        if options[name]
    }
    if options["project"]:
        query["project"] = str(project_named(options["project"]).pk)
    if options["batch"]:
        query["batch"] = _batch_id(options["batch"], options["project"])
    return query | _period(options["since"], options["until"])


def _period(since: datetime | None, until: datetime | None) -> dict[str, str]:
    """To the moment: a day by itself would count whole."""
    ends = {"created_from": since, "created_to": until}
    return {name: end.isoformat() for name, end in ends.items() if end}


def _batch_id(given: str, project: str | None) -> str:
    if as_uuid(given):
        return given
    if not project:
        raise CommandError("--batch: to find a batch by its name, say its --project too.")
    batch = batches.named(Project.objects.get(name=project).pk, given)
    if batch is None:
        raise CommandError(f"--batch: there is no batch named {given!r} in {project}.")
    return str(batch.pk)


def _again(id: UUID, user: User) -> BulkAction | None:
    """One that was broken off, within the user's reach; None where a worker has it. Raises CommandError or Refused."""
    reach = project_ids_of(user)
    rows = BulkAction.objects.filter(pk=id, act=RESEND.name)
    if reach is not None:
        rows = rows.filter(project_ids__contained_by=reach)
    bulk_action = rows.first()
    if bulk_action is None:
        raise CommandError(f"--go-on: there is no resend {id}.")
    if bulk_action.finished_at:
        raise CommandError(f"--go-on: it is {bulk_action.status}.")
    with transaction.atomic():
        if bulk_action.status == BulkAction.Status.PAUSED:
            bulk_actions.resume(bulk_action, user)
        return take(id)


def _told(found: Preview, rate: float) -> list[str]:
    """What would be sent, and what not."""
    channels = ", ".join(f"{count:,} {channel}" for channel, count in found.by_channel)
    lines = [
        f"{counted(found.count, 'notification')} to resend"
        + (f": {channels}." if channels else ".")
    ]
    if found.more:
        lines.append(
            f"Only the newest {bulk_actions.MOST_COUNTED:,} were looked at; there are more."
        )
    if found.arrived:
        meant = "would get a second copy" if found.include_arrived else "are left out"
        lines.append(f"{found.arrived:,} went out already: they {meant} (--include-arrived).")
    if found.perhaps_arrived:
        lines.append(f"{found.perhaps_arrived:,} may have arrived already: nobody knows.")
    lines += [f"{count:,} left out: {reason}." for reason, count in found.left_out]
    return [*lines, f"It takes about {duration(_time(found.count, rate))}, at {rate:g} a second."]


def _time(count: int, rate: float) -> timedelta:
    return timedelta(seconds=count / rate)


def _how_to_go_on(bulk_action: BulkAction) -> str:
    if bulk_action.status != BulkAction.Status.PAUSED:
        return f"It is {bulk_action.status}; its page in the console says more."
    return (
        f"It is paused, and nothing is lost. To go on: manage.py resend --go-on {bulk_action.pk} --as USERNAME, or "
        "Resume on its page in the console."
    )


@contextmanager
def _progress() -> Any:
    """A bar on a terminal, and nothing elsewhere."""
    with tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar:
        yield _mover_of(bar)


def _mover_of(bar: Any) -> Callable[[BulkAction], None]:
    def move(bulk_action: BulkAction) -> None:
        bar.total = bulk_action.selected
        bar.update(bulk_action.done + bulk_action.refused - bar.n)

    return move
