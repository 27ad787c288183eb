"""The console's search: what is typed is recognised by its form, and found through an index, or not at all.

The newest ids of each kind are fetched first, by an index that ends in `id`. The list then asks for these ids:
a plan that PostgreSQL cannot get wrong, however few or many match.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from notifications.models import Notification
from notifications.newest import newest
from users import directory
from users.console import MOST_COUNTED
from users.models import Recipient
from users.phones import as_e164
from users.refusals import Refused

#: Recipients with the same user_id, each in a project of its own, that are looked at.
MOST_RECIPIENTS = 20

Ids = QuerySet[Notification, UUID]


def found(term: str) -> list[UUID]:
    """The newest notifications that match, at most `MOST_COUNTED`."""
    ids = {id for lookup in lookups(term) for id in lookup[:MOST_COUNTED]}
    return sorted(ids, reverse=True)[:MOST_COUNTED]


def lookups(term: str) -> Iterator[Ids]:
    """One query for each thing that the term can be, over all projects."""
    term = term.strip()
    if not term or "\x00" in term:
        return
    if id := as_uuid(term):
        yield _ids(id=id)
    for spelling in addresses(term):
        yield _ids(address=spelling)
    yield _ids(reference=term)
    for recipient_id in _recipients(term):
        yield _ids(recipient_id=recipient_id)


def _ids(**column: Any) -> Ids:
    ids: Ids = newest(Notification.objects.all(), **column).values_list("id", flat=True)
    return ids


def as_uuid(term: str) -> UUID | None:
    try:
        return UUID(term)
    except ValueError:
        return None


def addresses(term: str) -> set[str]:
    """The term as an e-mail address or a phone number, in the spelling that is stored. As typed, too: a
    person's capitals before the @ are kept, the searcher's may be missing."""
    if "@" in term:
        spellings = {term, _normalised(term), _normalised(term.lower())}
        return {spelling for spelling in spellings if spelling}
    phone = as_e164(term)
    return {phone} if phone else set()


def _normalised(address: str) -> str:
    try:
        return directory.normalised("email", address, "q")
    except Refused:
        return ""


def _recipients(user_id: str) -> QuerySet[Recipient, int]:
    ids: QuerySet[Recipient, int] = Recipient.objects.filter(user_id=user_id).values_list(
        "id", flat=True
    )
    return ids.order_by("-id")[:MOST_RECIPIENTS]
