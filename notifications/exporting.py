"""All notifications that a selection means, as CSV: one line for each, newest first."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from notifications.csv_cells import Line, defused, text
from notifications.models import NotificationQuerySet
from notifications.selecting import chosen

#: Rows that one query reads.
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
    return _lines(chosen(query, project_ids))


def _lines(rows: NotificationQuerySet) -> Iterator[str]:
    out = csv.writer(Line())
    yield out.writerow(COLUMNS)
    chunk = _chunk(rows)
    while chunk:
        for row in chunk:
            yield out.writerow(defused(map(text, row)))
        chunk = _chunk(rows.filter(id__lt=chunk[-1][0]))


def _chunk(rows: NotificationQuerySet) -> list[tuple[Any, ...]]:
    return list(rows.values_list(*COLUMNS.values())[:CHUNK])
