"""All notifications that a selection means, as CSV: one line for each, newest first."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from notifications.csv_cells import Line, defused, text
from notifications.ids import FIRST, LAST
from notifications.models import Notification, NotificationQuerySet
from notifications.selecting import Selection, chosen, read

#: Rows that one query looks at.
CHUNK = 2000
#: The file's columns, and where each stands. Without the content: a ledger of what became of whom.
COLUMNS = {
    "id": "id",
    "created_at": "created_at",
    "project": "project__name",
    "channel": "channel",
    "priority": "priority",
    "live": "live",
    "user_id": "user_id",
    "address": "address",
    "status": "status",
    "failure_kind": "failure_kind",
    "failure_code": "failure_code",
    "failure_detail": "failure_detail",
    "provider": "provider",
    "provider_message_id": "provider_message_id",
    "attempt_count": "attempt_count",
    "sent_at": "sent_at",
    "delivered_at": "delivered_at",
    "read_at": "read_at",
    "category": "category",
    "reference": "reference",
    "batch_id": "flow__batch_id",
    "resend_of": "resend_of_id",
}


def lines(query: Mapping[str, str], project_ids: Sequence[int] | None) -> Iterator[str]:
    """The file, line by line. Read chunk by chunk, each going on below the last id, so that neither memory nor a
    transaction grows with it, and what is accepted meanwhile is not in it.

    Raises Refused at once, naming the parameter. A database that goes away breaks the stream off: a file that ends early
    must not look complete.
    """
    return _lines(chosen(query, project_ids), read(query).within(project_ids))


def _lines(rows: NotificationQuerySet, selection: Selection) -> Iterator[str]:
    out = csv.writer(Line())
    yield out.writerow(COLUMNS)
    until = LAST
    while until != FIRST:
        since = _since(rows, selection, until)
        for row in _chunk(rows.filter(id__lt=until, id__gte=since)):
            yield out.writerow(defused(map(text, row)))
        until = since


def _since(rows: NotificationQuerySet, selection: Selection, until: UUID) -> UUID:
    """The id with which the chunk below `until` begins; the lowest of all for the last one.

    Counted among what an index finds: where few of many match, a statement that looked for `CHUNK` of these would run
    into the web process's deadline. What is searched for has an index of its own, and leads to few.
    """
    counted = rows if selection.term else selection.by_index(Notification.objects.all())
    ids = counted.filter(id__lt=until).values_list("id", flat=True)
    return next(iter(ids[CHUNK - 1 : CHUNK]), FIRST)


def _chunk(rows: NotificationQuerySet) -> list[tuple[Any, ...]]:
    return list(rows.values_list(*COLUMNS.values()))
