"""Which line of a file had an address first. On disk, so that a million addresses cost no memory."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Self

#: Kilobytes that SQLite keeps in memory; what is more lies in its temporary file.
CACHE = 16_000


class Seen:
    """`with Seen() as seen:`; the file is gone with the block."""

    def __init__(self) -> None:
        # An empty name is a database of its own, on disk as soon as it is large (https://sqlite.org/inmemorydb.html).
        self._keys = sqlite3.connect("", isolation_level=None)
        self._keys.execute(f"PRAGMA cache_size = -{CACHE}")
        self._keys.execute("PRAGMA journal_mode = OFF")
        self._keys.execute("PRAGMA synchronous = OFF")
        self._keys.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        # One transaction that nobody ends: the file is worth nothing afterwards.
        self._keys.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keys.close()

    def first_line(self, key: str, line: int) -> int | None:
        """The line in which the key came first; None where that is this one, which is remembered."""
        added = self._keys.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, line))
        if added.rowcount:
            return None
        [first] = self._keys.execute("SELECT line FROM seen WHERE key = ?", (key,)).fetchone()
        return int(first)
