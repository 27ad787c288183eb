"""Where the rows of a batch come from: a file, a list of user ids, or all recipients of a project.

A source can be read any number of times, and says the same each time: `digest` tells whether it still does.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from notifications.bulk import reading
from notifications.bulk.reading import Row, UnreadableFile
from notifications.models import Batch, Channel
from users.models import Recipient

#: Recipients that one query reads.
CHUNK = 5000
#: Characters of a line in a list of user ids.
LONGEST_ID_LINE = 1000


class Source(Protocol):
    """`size` and `position()` are in one unit, for a progress bar. `columns` is empty where rows differ."""

    kind: str
    name: str
    columns: tuple[str, ...]
    size: int

    def digest(self) -> bytes: ...
    def rows(self) -> Iterator[Row]: ...
    def position(self) -> int: ...


class FileSource:
    """A CSV or NDJSON file. Raises UnreadableFile."""

    kind: str = Batch.Source.FILE

    def __init__(self, file: BinaryIO, name: str, encoding: str = "") -> None:
        self.name = name
        self.file = file
        self.size = size_of(file)
        self.recognised = reading.recognise(file, encoding)
        self.columns = self.recognised.columns

    def digest(self) -> bytes:
        return digest_of(self.file)

    def rows(self) -> Iterator[Row]:
        return reading.rows(self.file, self.recognised)

    def position(self) -> int:
        return _position(self.file)


class UserIdsSource:
    """A list of user ids, one a line. Raises UnreadableFile."""

    kind: str = Batch.Source.FILE
    columns: tuple[str, ...] = ("user_id",)

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.file = file
        self.size = size_of(file)
        if not self.size:
            raise UnreadableFile("It is empty.")

    def digest(self) -> bytes:
        return digest_of(self.file)

    def rows(self) -> Iterator[Row]:
        self.file.seek(0)
        number = line = 0
        while raw := self.file.readline(LONGEST_ID_LINE + 1):
            line += 1
            if user_id := _as_text(raw, line):
                number += 1
                yield Row(number, line, {"user_id": user_id}, (user_id,))

    def position(self) -> int:
        return _position(self.file)


class RecipientsSource:
    """All recipients of a project who can be reached on the channel, up to the newest there was when the batch was made.

    A row's number is the recipient's id: it means the same person whenever it is read.
    """

    kind: str = Batch.Source.RECIPIENTS
    name = "all recipients"
    columns: tuple[str, ...] = ("user_id", "name", "locale")

    def __init__(self, project_id: int, channel: str, last_id: int | None = None) -> None:
        self._recipients = Recipient.objects.filter(project_id=project_id).order_by("id")
        if channel != Channel.IN_APP:
            self._recipients = self._recipients.filter(addresses__channel=channel)
        if last_id is None:
            last_id = self._recipients.values_list("id", flat=True).last() or 0
        self.last_id = last_id
        self._recipients = self._recipients.filter(id__lte=self.last_id, forgetting=None)
        self.size = self._recipients.count()
        self._position = 0

    def digest(self) -> bytes:
        return hashlib.sha256(self.name.encode()).digest()

    def rows(self) -> Iterator[Row]:
        self._position = after = 0
        while chunk := list(
            self._recipients.filter(id__gt=after).values_list("id", "user_id", "name", "locale")[
                :CHUNK
            ]
        ):
            for after, *values in chunk:
                self._position += 1
                given = dict(zip(self.columns, values, strict=True))
                yield Row(
                    after, self._position, {k: v for k, v in given.items() if v}, (values[0],)
                )

    def position(self) -> int:
        return self._position


def opened(path: str) -> BinaryIO:
    """The file, or a copy of standard input (`-`): it is read twice. Raises UnreadableFile."""
    try:
        if path != "-":
            return open(path, "rb")
        with open("/dev/stdin", "rb") as pipe:
            return staged(pipe)
    except OSError as error:
        raise UnreadableFile(f"It cannot be opened: {error.strerror}.") from error


def staged(stream: BinaryIO) -> BinaryIO:
    """A copy on disk, which is gone when it is closed."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def name_of(path: str, digest: bytes) -> str:
    """What a batch is called whose name is not given: by its file and what is in it."""
    stem = "stdin" if path == "-" else Path(path).name
    return f"{stem[:200]} {digest.hex()[:12]}"


def digest_of(file: BinaryIO) -> bytes:
    """SHA-256 of the whole file, which is at its beginning afterwards."""
    file.seek(0)
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    file.seek(0)
    return digest.digest()


def size_of(file: BinaryIO) -> int:
    """In bytes; the file is at its beginning afterwards."""
    # Django's uploaded files tell their position, and not what seek() returns.
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    return size


def _position(file: BinaryIO) -> int:
    try:
        return file.tell()
    except ValueError:
        return 0


def _as_text(raw: bytes, line: int) -> str:
    if len(raw) > LONGEST_ID_LINE:
        raise UnreadableFile(
            f"Line {line} is no user_id: it has more than {LONGEST_ID_LINE} bytes."
        )
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        raise UnreadableFile(f"Line {line} is not UTF-8.") from None
    if "\0" in text:
        raise UnreadableFile(f"Line {line} has a NUL byte: this is no list of user ids.")
    return text
