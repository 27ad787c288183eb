"""One row of a file: what it would say and to which address, or why it cannot be sent. Asks no database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from notifications.bulk.duplicates import Seen
from notifications.bulk.reading import Row, spreadsheet_number
from notifications.bulk.templating import Content, TemplateProblem, Templates
from notifications.limits import LONGEST_SMS, LONGEST_TITLE
from notifications.models import Channel
from users.api.fields import CONTROL_CHARACTER
from users.directory import normalised
from users.refusals import Refused

LONGEST_USER_ID, LONGEST_LOCALE = 255, 35

#: An ordinary address: its domain is checked once, its local part needs no more than this.
_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+\-]+(?:\.[A-Za-z0-9_+\-]+)*")

_COLUMN = {Channel.EMAIL: "email", Channel.SMS: "phone"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A row that can be sent. `address` is empty where only the user is named."""

    number: int
    line: int
    user_id: str
    address: str
    locale: str
    title: str
    message: str
    html: str
    raw: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot, and why; `raw` as it came."""

    number: int
    line: int
    field: str
    code: str
    detail: str
    raw: tuple[str, ...]


@contextmanager
def checking(channel: str, templates: Templates, once_per_address: bool) -> Iterator[Checker]:
    """A checker for one reading of a file: what it has seen is forgotten with the block."""
    with Seen() as seen:
        yield Checker(channel, templates, once_per_address, seen)


class Checker:
    """Checks the rows of one batch, one after the other: a second row to an address is known by the first."""

    def __init__(
        self, channel: str, templates: Templates, once_per_address: bool, seen: Seen
    ) -> None:
        self.channel = channel
        self.templates = templates
        self._once_per_address = once_per_address
        self._seen = seen

    def check(self, row: Row) -> Prepared | Rejected:
        if row.problem:
            return Rejected(row.number, row.line, row.field, row.code, row.problem, row.raw)
        try:
            return self._checked(row)
        except Refused as refusal:
            field, code, detail = refusal.field, refusal.code, refusal.detail
        except TemplateProblem as problem:
            field, code, detail = problem.field, problem.code, problem.detail
        return Rejected(row.number, row.line, field, code, detail, row.raw)

    def seen_before(self, address: str, line: int) -> int | None:
        """The line of the first row to this address, unless it is this one or an address may come twice."""
        if not self._once_per_address:
            return None
        return self._seen.first_line(address.lower(), line)

    def _checked(self, row: Row) -> Prepared:
        user_id = _user_id(row.values.get("user_id"))
        address = self._address(row.values, user_id)
        content = self.templates.render(row.values)
        _check_content(content, self.channel, row.values)
        # Last: only what can be sent keeps another from being sent.
        if address and (first := self.seen_before(address, row.line)):
            raise Refused(
                "duplicate", f"It goes to the same address as line {first}.", self._column
            )
        return Prepared(
            row.number,
            row.line,
            user_id,
            address,
            _locale(row.values.get("locale")),
            content.title,
            content.message,
            content.html,
            row.raw,
        )

    @property
    def _column(self) -> str:
        return _COLUMN.get(Channel(self.channel), "user_id")

    def _address(self, values: Mapping[str, Any], user_id: str) -> str:
        """Raises Refused where it is none, or where neither it nor a user is named."""
        if self.channel == Channel.IN_APP:
            if not user_id:
                raise Refused("required", "It names no user_id.", "user_id")
            return user_id
        given = values.get(self._column)
        if given is None and user_id:
            return ""
        if given is None:
            raise Refused(
                "required",
                f"It names neither a user_id nor {_AN[Channel(self.channel)]}.",
                self._column,
            )
        return _normalised(self.channel, str(given), self._column)


_AN = {Channel.EMAIL: "an email", Channel.SMS: "a phone"}


def _normalised(channel: str, address: str, field: str) -> str:
    if channel == Channel.SMS and spreadsheet_number(address):
        raise Refused(
            "spreadsheet_number",
            f"{address} is what a spreadsheet made of a phone number. Format the column as text, and export it again.",
            field,
        )
    local, at, domain = address.rpartition("@")
    if channel == Channel.EMAIL and at and len(local) <= 64 and _PLAIN_LOCAL.fullmatch(local):
        return f"{local}@{_domain(domain, field)}"
    return normalised(channel, address, field)


@lru_cache(maxsize=10_000)
def _domain(domain: str, field: str) -> str:
    """As it is stored. Most addresses of a file share a few. Raises Refused."""
    return normalised("email", f"a@{domain}", field).removeprefix("a@")


def _user_id(given: Any) -> str:
    """The rules of users/api/fields.py. Raises Refused."""
    if given is None:
        return ""
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise Refused("invalid", "A user_id is an integer or a string.", "user_id")
    user_id = str(given)
    if len(user_id) > LONGEST_USER_ID:
        raise Refused(
            "max_length", f"A user_id has at most {LONGEST_USER_ID} characters.", "user_id"
        )
    if "/" in user_id or user_id in {".", ".."} or CONTROL_CHARACTER.search(user_id):
        raise Refused(
            "unreachable",
            "A user_id has no slash, no line break, and is not '.' or '..'.",
            "user_id",
        )
    return user_id


def _locale(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or len(given) > LONGEST_LOCALE or CONTROL_CHARACTER.search(given):
        raise Refused(
            "invalid", f"A locale has at most {LONGEST_LOCALE} characters, like en-GB.", "locale"
        )
    return given


def _check_content(content: Content, channel: str, values: Mapping[str, Any]) -> None:
    """Raises Refused, naming the part."""
    if CONTROL_CHARACTER.search(content.title):
        raise Refused("line_break", _line_break(values), "title")
    if len(content.title.encode()) > LONGEST_TITLE:
        raise Refused("max_length", f"The title comes to more than {LONGEST_TITLE} bytes.", "title")
    if not content.message.strip():
        raise Refused("blank", "The message comes to nothing.", "message")
    if channel == Channel.SMS and len(content.message) > LONGEST_SMS:
        raise Refused(
            "max_length",
            f"The message comes to {len(content.message):,} characters; an SMS has at most {LONGEST_SMS:,}.",
            "message",
        )
    for part in ("message", "html"):
        if "\0" in getattr(content, part):
            raise Refused("nul", "It has a NUL character.", part)


def _line_break(values: Mapping[str, Any]) -> str:
    broken = [
        name
        for name, value in values.items()
        if isinstance(value, str) and CONTROL_CHARACTER.search(value)
    ]
    words = "The title comes to more than one line, or has a control character"
    return f"{words}; perhaps by {', '.join(broken)}." if broken else f"{words}."
