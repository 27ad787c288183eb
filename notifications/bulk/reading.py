"""A file of rows, read line by line: CSV of any usual kind, or NDJSON. Knows no model and no database.

What is wrong with the whole file is raised, with its line; what is wrong with one row is said of that row, and reading
goes on. Memory does not grow with the file: no line and no record is longer than a megabyte.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from charset_normalizer import from_bytes

#: Bytes of a line, and characters of a record that goes over several lines.
LONGEST_LINE = LONGEST_RECORD = 1 << 20
#: Characters of one value.
LONGEST_VALUE = 100_000
#: Bytes by which an encoding is guessed.
SAMPLE = 1 << 16
DELIMITERS = ",;\t|"
#: Columns that say to whom a row goes; a file without any of them is of no use.
WHOM = ("user_id", "email", "phone")
_ALIASES = {"e_mail": "email"}

_MAGIC = {
    b"PK\x03\x04": "This is an Excel workbook or another zip file; save it as CSV (UTF-8).",
    b"\xd0\xcf\x11\xe0": "This is an old Excel workbook; save it as CSV (UTF-8).",
    b"\x1f\x8b": "It is compressed (gzip); unpack it first.",
    b"%PDF": "This is a PDF.",
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: `=SUM(A1)`, `=cmd|'/c calc'!A0`, and what other spreadsheets take for a formula; no phone, no number, no @name.
_FORMULA = re.compile(r"=|[+\-@][A-Za-z_]*[(|!]")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_SPREADSHEET_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?[eE][+-]?\d+")


class UnreadableFile(Exception):
    """The file is of no use; the message is for whoever sends it."""


@dataclass(frozen=True, slots=True)
class Source:
    """How a file is written. `columns` are names of variables; empty for NDJSON, which has none beforehand."""

    format: str
    encoding: str
    columns: tuple[str, ...] = ()
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `number` among the rows, from 1; `line` in the file; `values` by column, without the empty ones.

    `raw`: as it came. `problem`, with its `field` and `code`: why it is of no use.
    """

    number: int
    line: int
    values: dict[str, Any]
    raw: tuple[str, ...] = ()
    problem: str = ""
    field: str = ""
    code: str = ""


def recognise(file: BinaryIO, encoding: str = "") -> Source:
    """How the file is written, by its beginning. Raises UnreadableFile."""
    with _readable():
        file.seek(0)
        beginning = file.read(SAMPLE)
        file.seek(0)
        encoding = _encoding_of(beginning, encoding)
        lines = _Lines(file, encoding)
        first = next((line for line in lines if line.strip()), "")
        if not first:
            raise UnreadableFile("It is empty.")
        if first.lstrip().startswith("{"):
            return Source("ndjson", encoding)
        delimiter = max(DELIMITERS, key=lambda each: len(_cells(first, each)))
        header = _header(lines, first, delimiter)
        source = Source("csv", encoding, _columns(header), delimiter)
    if next(rows(file, source), None) is None:
        raise UnreadableFile("It has a header and no rows.")
    return source


def rows(file: BinaryIO, source: Source) -> Iterator[Row]:
    """The rows from the file's start. Raises UnreadableFile."""
    with _readable():
        file.seek(0)
        lines = _Lines(file, source.encoding)
        read = _ndjson_rows if source.format == "ndjson" else _csv_rows
        yield from read(lines, source)


def spreadsheet_number(value: str) -> bool:
    """Whether a spreadsheet has made a number of what was a phone: `1.2E+09`."""
    return bool(_SPREADSHEET_NUMBER.fullmatch(value))


class _readable:
    """A disk or a share that goes away in mid-read is said, not thrown."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | ValueError) and not isinstance(error, UnicodeError):
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise UnreadableFile(f"It cannot be read any more: {reason}.") from error


# -- Encodings and lines ------------------------------------------------------------------------------------


def _encoding_of(beginning: bytes, given: str) -> str:
    """Python's name of the encoding. Raises UnreadableFile."""
    if not beginning:
        raise UnreadableFile("It is empty.")
    for magic, words in _MAGIC.items():
        if beginning.startswith(magic):
            raise UnreadableFile(words)
    if given:
        return _known(given, beginning)
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            if encoding == "utf-8-sig":
                return encoding
            raise UnreadableFile(f"It is {encoding.upper()}, not UTF-8. Add --encoding {encoding}.")
    if b"\0" in beginning:
        raise UnreadableFile("It is binary, not text: it has NUL bytes.")
    return "utf-8"


def _known(given: str, beginning: bytes) -> str:
    try:
        name = codecs.lookup(given).name
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise UnreadableFile(f"There is no encoding {given!r}.") from error
    return "utf-8-sig" if name == "utf-8" and beginning.startswith(codecs.BOM_UTF8) else name


class _Lines:
    """The file's lines as text, each with its end. Raises UnreadableFile."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file = file
        self._encoding = encoding
        self._wide = encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32"))
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        # Line by line in bytes, so that a line without an end is noticed before it fills the memory.
        return self._wide_lines() if self._wide else self._narrow_lines()

    def _narrow_lines(self) -> Iterator[str]:
        first = True
        while raw := self._file.readline(LONGEST_LINE + 1):
            self.number += 1
            if len(raw) > LONGEST_LINE:
                raise UnreadableFile(f"Line {self.number} has more than {LONGEST_LINE:,} bytes.")
            yield self._decoded(raw, first)
            first = False

    def _decoded(self, raw: bytes, first: bool) -> str:
        encoding = self._encoding
        if encoding == "utf-8-sig" and not first:
            encoding = "utf-8"
        try:
            return raw.decode(encoding)
        except UnicodeError:
            raise UnreadableFile(self._wrong_encoding(raw)) from None

    def _wrong_encoding(self, raw: bytes) -> str:
        wrong = f"Line {self.number} is not {self._encoding.removesuffix('-sig').upper()}"
        if not self._encoding.startswith("utf-8"):
            return f"{wrong}."
        guessed = from_bytes(raw + self._file.read(SAMPLE)).best()
        if guessed is None:
            return f"{wrong}; if it is text, name its encoding with --encoding."
        return (
            f"{wrong}; it looks like {guessed.encoding}. If so, add --encoding {guessed.encoding}."
        )

    def _wide_lines(self) -> Iterator[str]:
        try:
            reader = codecs.getreader(self._encoding)(self._file)
            while line := reader.readline(LONGEST_LINE, keepends=True):
                self.number += 1
                if len(line) >= LONGEST_LINE:
                    raise UnreadableFile(f"Line {self.number} is too long.")
                yield line
        except UnicodeError:
            raise UnreadableFile(
                f"Line {self.number + 1} is not {self._encoding.upper()}."
            ) from None


# -- CSV ----------------------------------------------------------------------------------------------------


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _header(lines: _Lines, first: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([first], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UnreadableFile(f"Line {lines.number} is no header of a CSV: {error}.") from error


def _columns(header: list[str]) -> tuple[str, ...]:
    """The names of the variables. Raises UnreadableFile."""
    names = [name_of(cell) for cell in header]
    if any("@" in cell for cell in header):
        raise UnreadableFile("Its first line must name the columns, and looks like a row.")
    for number, (cell, name) in enumerate(zip(header, names, strict=True), start=1):
        if not name:
            raise UnreadableFile(f"Column {number} has no usable name: {cell!r}.")
    for name, count in Counter(names).items():
        if count > 1:
            same = ", ".join(repr(cell) for cell in header if name_of(cell) == name)
            raise UnreadableFile(f"Two columns have one name, {name}: {same}.")
    if not set(names) & set(WHOM):
        raise UnreadableFile(
            f"It names no column user_id, email or phone, but: {', '.join(names)[:300]}."
        )
    return tuple(names)


def name_of(header: str) -> str:
    """`First Name` -> `first_name`: a name that a template can use. Empty where there is none in it."""
    plain = unicodedata.normalize("NFKD", header).encode("ascii", "ignore").decode().lower()
    name = _NOT_IN_NAMES.sub("_", plain).strip("_")
    name = _ALIASES.get(name, name)
    return f"_{name}" if name[:1].isdigit() else name


@dataclass(slots=True)
class _Record:
    """The lines of one record, handed to csv one by one. A quote that is never closed must not swallow the file."""

    lines: Iterator[str]
    source: _Lines
    began: int = 0
    length: int = 0

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            if not self.length:
                self.began = self.source.number
            self.length += len(line)
            if self.length > LONGEST_RECORD:
                raise UnreadableFile(f"A quote that begins in line {self.began} is never closed.")
            yield line


def _csv_rows(lines: _Lines, source: Source) -> Iterator[Row]:
    record = _Record(iter(lines), lines)
    csv.field_size_limit(LONGEST_RECORD)
    reader = csv.reader(record, delimiter=source.delimiter, strict=True)
    number = 0
    header_seen = False
    while True:
        record.length = 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UnreadableFile(_csv_problem(error, record)) from error
        if cells is None:
            return
        if not any(cells):
            continue
        if not header_seen:
            header_seen = True
            continue
        number += 1
        yield _csv_row(number, record.began, cells, source.columns)


def _csv_problem(error: csv.Error, record: _Record) -> str:
    if "unexpected end of data" in str(error):
        return f"A quote that begins in line {record.began} is never closed."
    return f"The row that begins in line {record.began} is not CSV: {error}."


def _csv_row(number: int, line: int, cells: list[str], columns: tuple[str, ...]) -> Row:
    raw = tuple(cells)
    if len(cells) != len(columns):
        problem = f"It has {len(cells)} cells, and the header {len(columns)}."
        return Row(number, line, {}, raw, problem, "", "ragged")
    values = {
        name: text for name, cell in zip(columns, cells, strict=True) if (text := cell.strip())
    }
    for name, text in values.items():
        if found := _problem_of_cell(text):
            return Row(number, line, values, raw, found[1], name, found[0])
    return Row(number, line, values, raw)


def _problem_of_cell(text: str) -> tuple[str, str] | None:
    """Its code and a sentence."""
    if text[0] in "=+-@" and _FORMULA.match(text):
        return "formula", f"This is a formula, not its value: {text[:40]}"
    return _problem_of_text(text)


def _problem_of_text(text: str) -> tuple[str, str] | None:
    if "\0" in text:
        return "nul", "It has a NUL byte."
    if len(text) > LONGEST_VALUE:
        return "too_long", f"It has {len(text):,} characters, more than {LONGEST_VALUE:,}."
    return None


# -- NDJSON -------------------------------------------------------------------------------------------------


def _ndjson_rows(lines: _Lines, source: Source) -> Iterator[Row]:
    number = 0
    for line in lines:
        text = line.strip()
        if text:
            number += 1
            yield _ndjson_row(number, lines.number, text)


def _ndjson_row(number: int, line: int, text: str) -> Row:
    try:
        document = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return Row(number, line, {}, (text,), f"This is not JSON: {reason}.", "", "invalid_json")
    if not isinstance(document, dict):
        return Row(number, line, {}, (text,), "This is no JSON object.", "", "invalid_json")
    values: dict[str, Any] = {}
    for key, value in document.items():
        name = name_of(key)
        if not name or name in values:
            problem = f"Two names are one, {name}." if name else f"No usable name: {key!r}."
            return Row(number, line, values, (text,), problem, name, "invalid_name")
        if problem_of := _problem_of_value(value):
            return Row(number, line, values, (text,), problem_of[1], name, problem_of[0])
        if value is not None and value != "":
            values[name] = value.strip() if isinstance(value, str) else value
    return Row(number, line, values, (text,))


def _problem_of_value(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str):
        return _problem_of_text(value) or _half_a_character(value)
    if isinstance(value, dict | list):
        inner: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
        return next((found for each in inner if (found := _problem_of_value(each))), None)
    return None


def _half_a_character(text: str) -> tuple[str, str] | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "invalid_json", "It has half of a surrogate pair."
    return None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = Counter(name for name, _ in pairs)
    if doubled := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{doubled[0]!r} is there twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_doubles, parse_constant=_no_constant)
