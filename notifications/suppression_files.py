"""Suppressions as CSV: read line by line, and written so that reading gives the same again."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TextIO

from notifications import suppressions
from notifications.models import Suppression
from notifications.suppressions import Entry
from users.models import Address
from users.refusals import Refused

COLUMNS = ("channel", "address", "reason", "detail")
#: What else the column with the address may be called, as providers' exports do; and the channel it then means.
ALIASES = {"email": Address.Channel.EMAIL, "phone": Address.Channel.SMS}
#: Rows that are read from the table together.
CHUNK = 5000


class UnreadableFile(Exception):
    """Not CSV in UTF-8 with a column that holds addresses."""


class Line(NamedTuple):
    """One row of the file: its entry, or what is wrong with it."""

    number: int
    entry: Entry | None = None
    problem: str = ""


def read(file: TextIO, reason: str) -> Iterator[Line]:
    """The rows, one after the other; `reason` is for those that give none. Raises UnreadableFile."""
    rows = csv.DictReader(file, skipinitialspace=True)
    try:
        channel = _channel_by_header(rows.fieldnames or ())
        for row in rows:
            yield _line(rows.line_num, row, channel, reason)
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"It is not UTF-8 (after line {rows.line_num}).") from error
    except csv.Error as error:
        raise UnreadableFile(f"Line {rows.line_num} is not CSV: {error}.") from error


def _channel_by_header(header: Iterable[str]) -> str:
    """The channel of all rows, where a column's name says it; else "". Raises UnreadableFile."""
    names = list(header)
    if "address" in names:
        return "" if "channel" in names else Address.Channel.EMAIL
    for alias, channel in ALIASES.items():
        if alias in names:
            return channel
    raise UnreadableFile(
        f"Its first line names no column 'address', 'email' or 'phone', but: {', '.join(names)}."
    )


def _line(number: int, row: Mapping[Any, Any], channel: str, reason: str) -> Line:
    values = {name: value.strip() for name, value in row.items() if isinstance(value, str)}
    channel = channel or values.get("channel", "")
    reason = values.get("reason") or reason
    address = next((values[name] for name in ("address", *ALIASES) if values.get(name)), "")
    if channel not in Address.Channel.values:
        return Line(number, problem=f"channel: {channel!r} is neither email nor sms")
    if reason not in Suppression.Reason.values:
        return Line(number, problem=f"reason: there is no {reason!r}")
    try:
        entry = suppressions.entry_for(channel, address, reason, values.get("detail", ""))
    except Refused as refusal:
        return Line(number, problem=f"address: {refusal.detail}")
    return Line(number, entry)


def write(project_id: int, file: TextIO) -> int:
    """Write the project's list, oldest first. Returns how many there are."""
    out = csv.writer(file)
    out.writerow(COLUMNS)
    written = 0
    for listed in _oldest_first(project_id):
        out.writerow([getattr(listed, column) for column in COLUMNS])
        written += 1
    return written


def _oldest_first(project_id: int) -> Iterator[Suppression]:
    """By their ids, chunk by chunk: the list may be long, and a cursor would need a long transaction."""
    of_project = Suppression.objects.filter(project_id=project_id).order_by("id")
    chunk = list(of_project[:CHUNK])
    while chunk:
        yield from chunk
        chunk = list(of_project.filter(id__gt=chunk[-1].id)[:CHUNK])
