"""From checked rows to whom they go: the recipient and the address of each, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from notifications.bulk.checking import Checker, Prepared, Rejected
from notifications.bulk.reading import Row
from users.directory import BY_ADDRESS, BY_USER_ID, Destination, Search
from users.finding_many import Known, Newcomer

#: Rows that are placed, and stored, together.
CHUNK = 2000


@dataclass(frozen=True, slots=True)
class Placed:
    """A row, and to whom it goes. `newcomer`: somebody to be made; `new_address`: one to be stored with its recipient."""

    row: Prepared
    address: str
    user_id: str = ""
    recipient_id: int | None = None
    newcomer: Newcomer | None = None
    new_address: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Neighbouring rows; `upto` is the number of the last."""

    upto: int
    placed: list[Placed]
    rejected: list[Rejected]


def in_chunks(rows: Iterable[Row], checker: Checker, project_id: int) -> Iterator[Chunk]:
    """Check the rows and find their recipients. Raises UnreadableFile as `rows` does."""
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        checked = [checker.check(row) for row in chunk]
        prepared = [each for each in checked if isinstance(each, Prepared)]
        rejected = [each for each in checked if isinstance(each, Rejected)]
        placed, nowhere = place(prepared, checker, project_id)
        yield Chunk(chunk[-1].number, placed, sorted(rejected + nowhere, key=lambda r: r.number))


def place(
    rows: list[Prepared], checker: Checker, project_id: int
) -> tuple[list[Placed], list[Rejected]]:
    """To whom each goes, as things are now; and those that go nowhere."""
    known = Known(project_id, (_search(row, checker.channel, project_id) for row in rows))
    placed: list[Placed] = []
    rejected: list[Rejected] = []
    for row in rows:
        found = known.answer(_search(row, checker.channel, project_id))
        answer = _place(row, found, checker, known)
        if isinstance(answer, Placed):
            placed.append(answer)
        else:
            rejected.append(answer)
    return placed, rejected


def _search(row: Prepared, channel: str, project_id: int) -> Search:
    query = BY_USER_ID if row.user_id else BY_ADDRESS
    return Search(query, project_id, channel, row.user_id, row.address)


def _place(
    row: Prepared, found: Destination | None, checker: Checker, known: Known
) -> Placed | Rejected:
    if found is None and not row.address:
        return _no_address(row, checker.channel, "There is no user")
    if found is None:
        return Placed(
            row,
            row.address,
            newcomer=Newcomer(
                row.user_id, "" if checker.channel == "in_app" else row.address, row.locale
            ),
        )
    if not found.address:
        return _no_address(row, checker.channel, "There is no address of the user")
    if not row.address and (first := checker.seen_before(found.address, row.line)):
        return Rejected(
            row.number,
            row.line,
            "user_id",
            "duplicate",
            f"This user's address is that of line {first}.",
            row.raw,
        )
    is_new = bool(row.user_id) and not known.has_address(row.user_id, checker.channel)
    return Placed(
        row,
        found.address,
        found.user_id,
        found.recipient_id,
        new_address=row.address if is_new else "",
    )


def _no_address(row: Prepared, channel: str, problem: str) -> Rejected:
    column = "phone" if channel == "sms" else "email"
    return Rejected(
        row.number,
        row.line,
        "user_id",
        "no_address",
        f"{problem} {row.user_id!r} in this project, and the row names no {column}.",
        row.raw,
    )
