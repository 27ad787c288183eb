"""The rows of a batch, stored: a chunk of them and the batch's cursor in one transaction.

So it may break off anywhere, and be done by several at once: whoever finds the cursor beyond its chunk goes on with the
next. Nothing goes out before all are stored, since the batch's flow is paused until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from notifications.batches import loading_lease
from notifications.bulk.checking import Checker
from notifications.bulk.placing import Chunk, Placed, place
from notifications.intake_many import insert_rows
from notifications.models import Batch, Flow
from users.finding_many import add_addresses, make_many


class NoLongerLoading(Exception):
    """Somebody has cancelled the batch, or another has loaded the rest of it."""


def load(
    batch: Batch,
    chunks: Iterable[Chunk],
    checker: Checker,
    on_chunk: Callable[[int], None] = lambda upto: None,
) -> None:
    """Store what of the chunks is not stored yet. `on_chunk` gets the number up to which all is.

    Raises NoLongerLoading, or UnreadableFile as `chunks` does.
    """
    flow = Flow.objects.get(batch=batch)
    cursor = batch.cursor
    for chunk in chunks:
        if chunk.upto > cursor:
            cursor = _store_whatever_races(batch, flow, chunk, checker)
        on_chunk(cursor)


def _store_whatever_races(batch: Batch, flow: Flow, chunk: Chunk, checker: Checker) -> int:
    """A recipient may be made or forgotten between our look and our insert: then look again."""
    for last_try in (False, False, True):
        try:
            with transaction.atomic():
                return _store(batch, flow, chunk)
        except IntegrityError:
            if last_try:
                raise
            placed, nowhere = place([each.row for each in chunk.placed], checker, batch.project_id)
            chunk = Chunk(chunk.upto, placed, chunk.rejected + nowhere)
    raise AssertionError("unreachable")


def _store(batch: Batch, flow: Flow, chunk: Chunk) -> int:
    """Returns the cursor, which another may have moved further."""
    now = Batch.objects.select_for_update().get(pk=batch.pk)
    if now.status != Batch.Status.LOADING:
        raise NoLongerLoading(now.status)
    if now.cursor >= chunk.upto:
        return now.cursor
    placed = [each for each in chunk.placed if each.row.number > now.cursor]
    rejected = sum(each.number > now.cursor for each in chunk.rejected)
    loaded = insert_rows(_rows(batch, placed), _common(batch, flow))
    # What is not stored came to the same address as another row: somebody has changed it since the check.
    rejected += len(placed) - loaded
    Batch.objects.filter(pk=batch.pk).update(
        cursor=chunk.upto,
        loaded=F("loaded") + loaded,
        rejected=F("rejected") + rejected,
        **loading_lease(now),
    )
    return chunk.upto


def _rows(batch: Batch, placed: list[Placed]) -> list[dict[str, Any]]:
    """Their columns, once their recipients and addresses are stored."""
    newcomers = [each.newcomer for each in placed if each.newcomer]
    made = iter(make_many(batch.project_id, batch.channel, newcomers) if newcomers else ())
    addresses = {each.recipient_id: each.new_address for each in placed if each.recipient_id}
    add_addresses(batch.project_id, batch.channel, addresses)
    return [
        _row(each, *(next(made) if each.newcomer else (each.recipient_id, each.user_id)))
        for each in placed
    ]


def _row(placed: Placed, recipient_id: int | None, user_id: str) -> dict[str, Any]:
    return {
        "row_number": placed.row.number,
        "recipient_id": recipient_id,
        "user_id": user_id,
        "address": placed.address,
        "title": placed.row.title,
        "message": placed.row.message,
        "html": placed.row.html,
    }


def _common(batch: Batch, flow: Flow) -> dict[str, Any]:
    return {
        "project_id": batch.project_id,
        "flow_id": flow.pk,
        "channel": batch.channel,
        "priority": batch.priority,
        "live": batch.live,
        "api_key_id": batch.api_key_id,
        "once_per_address": batch.once_per_address,
        "url": batch.url,
        "category": batch.category,
        "scheduled_for": batch.scheduled_for,
        "expires_at": batch.expires_at,
    }
