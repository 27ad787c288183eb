"""Searching notifications: what is typed is recognised by its form, and found through an index, or not at all.

The newest ids of each kind are fetched first, by an index that ends in `id`. A list then asks for these ids:
a plan that PostgreSQL cannot get wrong, however few or many match. Who acts on all of them asks `all_with()`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import IntegerField, Q, QuerySet, Value

from notifications.models import Notification
from notifications.newest import newest
from users import directory
from users.models import Recipient
from users.phones import as_e164
from users.refusals import Refused

#: Notifications that a search finds for a list, the newest ones.
MOST_FOUND = 1_000
#: Recipients with the same user_id, each in a project of its own, that a list looks at.
MOST_RECIPIENTS = 20
#: No column that is searched is longer, in characters.
LONGEST_TERM = 500

Ids = QuerySet[Notification, UUID]


@dataclass(frozen=True, slots=True)
class Reading:
    """One thing that a term can be, in words, and what the column then has."""

    words: str
    column: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The newest notifications that match, at most `MOST_FOUND`; as what they do, and what else was looked for."""

    ids: list[UUID]
    matched: list[str]
    looked_for: list[str]

    @property
    def may_be_more(self) -> bool:
        return len(self.ids) >= MOST_FOUND

    @property
    def sentence(self) -> str:
        """What the term was taken for."""
        if self.matched:
            return f"Found as {_either(self.matched)}."
        if self.looked_for:
            return f"Nothing found. It was looked for as {_either(self.looked_for)}."
        return "Nothing found: this cannot be anything that is searched for."


def _either(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def found(term: str, project_ids: Sequence[int] | None = None) -> Found:
    """What the term finds, newest first; of these projects alone, where they are given."""
    known = readings(term, MOST_RECIPIENTS)
    queries = [
        each[:MOST_FOUND].values_list("id", Value(number, IntegerField()))
        for number, reading in enumerate(known)
        for each in _lookups(reading, project_ids)
    ]
    rows = queries[0].union(*queries[1:], all=True) if queries else []
    kinds: dict[UUID, int] = {}
    for id, number in rows:
        kinds.setdefault(id, number)
    ids = sorted(kinds, reverse=True)[:MOST_FOUND]
    matched = {kinds[id] for id in ids}
    return Found(
        ids=ids,
        matched=[reading.words for number, reading in enumerate(known) if number in matched],
        looked_for=[reading.words for reading in known],
    )


def lookups(term: str, project_ids: Sequence[int] | None = None) -> list[QuerySet[Notification]]:
    """One query for each thing that the term can be, newest first, each by its index."""
    known = readings(term, MOST_RECIPIENTS)
    return [each for reading in known for each in _lookups(reading, project_ids)]


def all_with(term: str) -> Q:
    """The condition that the term matches, however many have it. Matches nothing where it can be nothing."""
    conditions = [Q(**{f"{each.column}__in": each.values}) for each in readings(term)]
    return reduce(or_, conditions, Q(pk__in=[]))


def _lookups(reading: Reading, project_ids: Sequence[int] | None) -> list[QuerySet[Notification]]:
    rows = Notification.objects.all()
    if project_ids is not None:
        rows = rows.filter(project_id__in=project_ids)
    return [newest(rows, **{reading.column: value}) for value in reading.values]


def readings(term: str, most_recipients: int | None = None) -> list[Reading]:
    """What the term can be, the likeliest first. Asks the database who has such a user id."""
    term = term.strip()
    if not term or "\x00" in term or len(term) > LONGEST_TERM:
        return []
    id = as_uuid(term)
    user_id = Reading("a user id", "recipient_id", tuple(_recipients(term, most_recipients)))
    possible = (
        Reading("the id of a notification", "id", (id,) if id else ()),
        *_addresses(term),
        Reading("a reference", "reference", (term,)),
        user_id,
        Reading("a provider's message id", "provider_message_id", _message_ids(term)),
    )
    return [reading for reading in possible if reading.values or reading is user_id]


def _addresses(term: str) -> tuple[Reading, ...]:
    spellings = sorted(addresses(term))
    kind = "an e-mail address" if "@" in term else "a phone number"
    # The domain is in lower case and the number has its country code: that is what was looked for.
    shown = min(spellings, key=str.swapcase, default="")
    return (Reading(f"{kind} ({shown})", "address", tuple(spellings)),) if spellings else ()


def as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None


def as_row_id(term: str) -> int | None:
    """The number by which a row of a project, a recipient and the like is known."""
    return int(term) if term.isascii() and term.isdigit() and len(term) < 19 else None


def addresses(term: str) -> set[str]:
    """The term as an e-mail address or a phone number, in the spelling that is stored."""
    return _emails(term) if "@" in term else _phones(term)


def _emails(term: str) -> set[str]:
    """As typed, and as it may have been typed before: a person's capitals before the @ are kept, the searcher's
    may be missing. Also out of `Ada <ada@example.com>`."""
    bare = parseaddr(term)[1] or term
    bare = (
        re.sub(r"\s", "", bare if "@" in bare else term).removeprefix("mailto:").strip("<>,;.'\"")
    )
    local, _, domain = bare.rpartition("@")
    locals_ = {local, local.lower(), local.upper(), local.capitalize(), local.title()}
    spellings = {term, *(_normalised(f"{each}@{domain}") for each in locals_)}
    return {spelling for spelling in spellings if spelling}


def _normalised(address: str) -> str:
    try:
        return directory.normalised("email", address, "q")
    except Refused:
        return ""


def _phones(term: str) -> set[str]:
    """Of this country or any: `00` stands for `+` to who types it, and a leading `+` is easily lost."""
    digits = re.sub(r"\D", "", term)
    spellings = {as_e164(term)}
    if digits.startswith("00"):
        spellings.add(as_e164(f"+{digits[2:]}"))
    elif re.fullmatch(r"[\d\s()./-]{8,}", term):
        spellings.add(as_e164(f"+{digits}"))
    return {spelling for spelling in spellings if spelling}


def _message_ids(term: str) -> tuple[str, ...]:
    """Mail programs show it with angle brackets, logs without."""
    bare = term.removeprefix("<").removesuffix(">")
    return tuple(dict.fromkeys((term, bare, f"<{bare}>")))


def _recipients(user_id: str, most: int | None) -> QuerySet[Recipient, int]:
    ids = Recipient.objects.filter(user_id=user_id).values_list("id", flat=True)
    return ids.order_by("-id")[:most]
