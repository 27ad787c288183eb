"""A provider's export of the message ids it has taken: one a line, or CSV. Millions of them need little memory."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar
from uuid import UUID

#: Ids that are asked for together.
ASKED_TOGETHER = 500
#: What vendors call the column, without what is no letter.
COLUMNS = ("messageid", "messagesid", "sid", "id")

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
T = TypeVar("T")


class UnreadableLog(Exception):
    """The file cannot be read, or holds no id. Its words are for the person who named it."""


class ProviderLog:
    """The ids in a provider's export, and which of them we know. On disk, so that there may be millions.

    `key` makes of each what it is compared by, or nothing where it does not count. Close it after use.
    """

    def __init__(self, written: Iterable[str], key: Callable[[str], str] | None = None) -> None:
        key = key or key_of
        # A file that SQLite removes by itself.
        self._store = sqlite3.connect("", isolation_level=None)
        self._store.execute(
            "CREATE TABLE log (key TEXT PRIMARY KEY, written TEXT, known INTEGER DEFAULT 0) WITHOUT ROWID"
        )
        self._store.execute("BEGIN")
        self._store.executemany(
            "INSERT OR IGNORE INTO log (key, written) VALUES (?, ?)",
            ((made, each.strip()) for each in written if (made := key(each))),
        )

    @classmethod
    def read(
        cls, path: Path, column: str | None = None, key: Callable[[str], str] | None = None
    ) -> Self:
        """Raises UnreadableLog."""
        try:
            log = cls(message_ids(path, column), key)
        except OSError as error:
            raise UnreadableLog(f"{path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UnreadableLog(f"{path} is no text in UTF-8; export it as CSV.") from error
        except csv.Error as error:
            raise UnreadableLog(f"{path} cannot be read as CSV: {error}.") from error
        if not len(log):
            log.close()
            raise UnreadableLog(f"{path} holds no message id.")
        return log

    def __len__(self) -> int:
        return int(self._store.execute("SELECT count(*) FROM log").fetchone()[0])

    def know(self, keys: list[str]) -> set[str]:
        """Note that we know these, and return those of them that are in the log."""
        found: set[str] = set()
        for some in batches(keys, ASKED_TOGETHER):
            marks = ",".join("?" * len(some))
            found |= {
                key
                for (key,) in self._store.execute(
                    f"UPDATE log SET known = 1 WHERE key IN ({marks}) RETURNING key",  # noqa: S608
                    some,
                )
            }
        return found

    def not_known(self) -> Iterator[str]:
        """As they are written in the export."""
        for (written,) in self._store.execute(
            "SELECT written FROM log WHERE NOT known ORDER BY key"
        ):
            yield written

    def close(self) -> None:
        self._store.close()


def key_of(written: str) -> str:
    """A message id as both sides mean it: without angle brackets, whatever its case."""
    return written.strip().strip("\"'").strip().removeprefix("<").removesuffix(">").strip().lower()


def notification_in(written: str) -> UUID | None:
    """Our Message-ID of an e-mail holds the notification's own id."""
    found = _UUID.search(key_of(written))
    return UUID(found[0]) if found else None


def message_ids(path: Path, column: str | None) -> Iterator[str]:
    """Of CSV, where a column is named or the first line is a header; else the lines themselves."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = next((each for each in (",", ";", "\t") if each in first), ",")
        header = next(csv.reader([first], delimiter=separator), [])
        name = column if column is not None else _column_of(header)
        if name is None and separator in first:
            raise UnreadableLog(
                f"Which column of {path} has the message id? Name it: --column. {_named(header)}"
            )
        if name is None:
            yield from file
            return
        if name not in header:
            raise UnreadableLog(f"{path} has no column {name!r}. {_named(header)}")
        for row in csv.DictReader(file, delimiter=separator):
            yield row[name] or ""


def _column_of(header: list[str]) -> str | None:
    names = {re.sub("[^a-z]", "", name.lower()): name for name in header}
    return next((names[known] for known in COLUMNS if known in names), None)


def _named(header: list[str]) -> str:
    return f"It has: {', '.join(header)}."


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
