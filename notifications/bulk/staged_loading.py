"""Uploads, checked and loaded by a worker: what `manage.py send_bulk` does for a file, without anybody watching."""

from __future__ import annotations

import threading

import structlog
from django.db import connection
from django.db.models.functions import Now

from notifications import batches
from notifications.batches import LOADING_LEASE
from notifications.bulk.checking import checking
from notifications.bulk.examining import Report, examine
from notifications.bulk.loading import NoLongerLoading, load
from notifications.bulk.placing import in_chunks
from notifications.bulk.reading import UnreadableFile
from notifications.bulk.sources import FileSource, Source
from notifications.bulk.staging import unstaged
from notifications.bulk.templating import TemplateProblem, Templates
from notifications.models import Batch

log = structlog.get_logger(__name__)

_busy = threading.Lock()


def load_next() -> bool:
    """Check and load one upload that waits for it. False where none does, or this process is at one already."""
    if not _busy.acquire(blocking=False):
        return False
    try:
        batch = batches.take_staged()
        if batch:
            load_staged(batch)
        return batch is not None
    finally:
        _busy.release()


def start_loading() -> None:
    """load_next() until none waits, in a thread of its own."""
    if not _busy.locked() and Batch.objects.filter(**batches.STAGED).exists():
        threading.Thread(target=_load_all, name="load-batches", daemon=True).start()


def _load_all() -> None:
    try:
        while load_next():
            pass
    except Exception as error:
        # The database is away, or a bug: the lease ends, and a worker goes on where this one stopped.
        log.warning("loading_failed", error=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def load_staged(batch: Batch) -> None:
    """Check all rows; store them, or refuse the batch with what is wrong. May be done any number of times."""
    try:
        with unstaged(batch) as file:
            _check_and_load(batch, FileSource(file, batch.file_name, batch.encoding))
    except (UnreadableFile, TemplateProblem) as error:
        batches.refuse(batch.pk, str(error), {})
    except NoLongerLoading as ended:
        log.info("loading_ended", batch=str(batch.pk), status=str(ended))


def _check_and_load(batch: Batch, source: Source) -> None:
    templates = Templates(batch.title, batch.message, batch.html)
    if not batch.cursor and not _is_good(batch, source, templates):
        return
    with checking(batch.channel, templates, batch.once_per_address) as checker:
        load(batch, in_chunks(source.rows(), checker, batch.project_id), checker)
    batches.loaded(batch.pk)


def _is_good(batch: Batch, source: Source, templates: Templates) -> bool:
    """Keeps the report with the batch, and refuses one with nothing to send, or with errors that are not to be skipped."""

    def on_chunk(report: Report) -> None:
        Batch.objects.filter(pk=batch.pk).update(
            leased_until=Now() + LOADING_LEASE, report={"checked": report.rows}
        )

    with checking(batch.channel, templates, batch.once_per_address) as checker:
        chunks = in_chunks(source.rows(), checker, batch.project_id)
        report = examine(chunks, batch.project_id, batch.channel, batch.category, on_chunk=on_chunk)
    if problem := report.problem(batch.skip_invalid):
        batches.refuse(batch.pk, problem, report.as_json())
        return False
    Batch.objects.filter(pk=batch.pk).update(report=report.as_json())
    return True
