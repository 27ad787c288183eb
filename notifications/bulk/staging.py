"""A file that was uploaded for a batch: in pieces in the database, until a worker has loaded it.

The worker may be on another machine than the web process, and either may die: what was accepted is in PostgreSQL.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from django.db import transaction

from notifications import batches
from notifications.batches import Plan
from notifications.bulk.reading import UnreadableFile
from notifications.bulk.sources import FileSource
from notifications.bulk.templating import TemplateProblem, Templates
from notifications.models import Batch, StagedPart
from users.refusals import Refused

#: Bytes of a piece.
PART = 1 << 20


def refuse_at_once(
    title: str, message: str, html: str, file: BinaryIO, file_name: str, encoding: str
) -> None:
    """What can be said before a worker reads all of it: the templates, and the beginning of the file.

    Raises Refused, naming title, message, html or file.
    """
    try:
        templates = Templates(title, message, html)
        templates.require_columns(FileSource(file, file_name, encoding).columns)
    except TemplateProblem as problem:
        raise Refused(problem.code, str(problem), problem.field) from problem
    except UnreadableFile as error:
        raise Refused("unreadable", str(error), "file") from error


def stage(plan: Plan, file: BinaryIO) -> Batch:
    """Make the batch, with the file for a worker to check and load. The same again is the same batch.

    Raises Conflict as `batches.make` does.
    """
    with transaction.atomic():
        batch = batches.make(plan, staged=True)
        if batch.status == Batch.Status.LOADING and not batch.parts.exists():
            _store(batch, file)
    return batch


def _store(batch: Batch, file: BinaryIO) -> None:
    file.seek(0)
    number = 0
    while content := file.read(PART):
        StagedPart.objects.create(batch=batch, number=number, content=content)
        number += 1


@contextmanager
def unstaged(batch: Batch) -> Iterator[BinaryIO]:
    """The file as it was uploaded, on this machine's disk until the block ends."""
    with tempfile.TemporaryFile() as file:
        parts = StagedPart.objects.filter(batch=batch).order_by("number")
        for number in range(parts.count()):
            file.write(bytes(parts.get(number=number).content))
        file.seek(0)
        yield file
