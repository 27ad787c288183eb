"""Who got a batch: one line for each of its rows, as CSV, in the order of its source."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from notifications.batches import rows_of
from notifications.csv_cells import Line, defused, text
from notifications.models import Batch

#: Rows that one query reads.
CHUNK = 5000
COLUMNS = (
    "row_number",
    "user_id",
    "address",
    "status",
    "failure_code",
    "failure_detail",
    "sent_at",
    "delivered_at",
    "provider",
    "provider_message_id",
    "id",
)


def lines(batch: Batch) -> Iterator[str]:
    """The file, line by line: by row number, chunk by chunk, so that neither memory nor a transaction grows."""
    out = csv.writer(Line())
    yield out.writerow(COLUMNS)
    after = -1
    while chunk := _chunk(batch, after):
        for row in chunk:
            yield out.writerow(defused(map(text, row)))
        after = chunk[-1][0]


def _chunk(batch: Batch, after: int) -> list[tuple[Any, ...]]:
    rows = rows_of(batch).filter(row_number__gt=after).order_by("row_number")
    return list(rows.values_list(*COLUMNS)[:CHUNK])
