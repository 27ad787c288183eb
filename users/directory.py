"""The recipients of a project: find them, make them, change them.

Finding runs on every accepted notification, so it is one hand-written statement for each question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, connection, transaction
from uuid_utils.compat import uuid7

from users.models import Address, Recipient
from users.phones import as_e164
from users.refusals import Conflict, Refused


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a notification goes. `recipient_id` is None while the recipient is yet to be made.

    `new_address` is to be stored with a recipient that is made; an address given beside a `user_id` is not.
    """

    user_id: str
    address: str
    recipient_id: int | None = None
    new_address: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """One question: `query` answers with (recipient_id, user_id, address) of a recipient we know, or with no row.

    Intake puts it inside of its INSERT, so that a notification to somebody known is one statement.
    """

    query: str
    project_id: int
    channel: str
    user_id: str = ""
    address: str = ""

    def parameters(self) -> dict[str, str | int]:
        return {
            "project_id": self.project_id,
            "channel": self.channel,
            "user_id": self.user_id,
            "address": self.address,
        }


# An address that was given counts before the one we know.
BY_USER_ID = """
SELECT recipient.id, recipient.user_id, coalesce(nullif(%(address)s, ''), address.value, '')
FROM users_recipient recipient
LEFT JOIN users_address address ON address.recipient_id = recipient.id AND address.channel = %(channel)s
WHERE recipient.user_id = %(user_id)s AND recipient.project_id = %(project_id)s
"""

BY_ADDRESS = """
SELECT recipient.id, recipient.user_id, address.value
FROM users_address address JOIN users_recipient recipient ON recipient.id = address.recipient_id
WHERE address.value = %(address)s AND address.channel = %(channel)s AND address.project_id = %(project_id)s
"""

# A second request may have made the same recipient a moment ago: then this finds that one. Not by setting a column of a
# key, which would wait for everybody who is sending to it.
_MAKE = """
INSERT INTO users_recipient (project_id, user_id, name, locale, timezone, provisional)
VALUES (%s, %s, '', '', '', true)
ON CONFLICT (user_id, project_id) DO UPDATE SET provisional = users_recipient.provisional
RETURNING id
"""


def new_user_id() -> str:
    """An id of ours, for who comes without one."""
    return f"usr_{uuid7().hex}"


def search_for(project_id: int, channel: str, user_id: str, recipient: str) -> Search | None:
    """How to find whom `user_id`, `recipient` or both name; None where it takes more than one question.

    Raises Refused, naming the field.
    """
    if channel == "in_app":
        user_id = _one_user_id(user_id, recipient)
        return Search(BY_USER_ID, project_id, channel, user_id, address=user_id)
    if channel == "sms" and not user_id:
        return None
    address = normalised(channel, recipient, "recipient") if recipient else ""
    query = BY_USER_ID if user_id else BY_ADDRESS
    return Search(query, project_id, channel, user_id, address)


def _one_user_id(user_id: str, recipient: str) -> str:
    if user_id and recipient and user_id != recipient:
        raise Refused(
            "conflicting_recipient",
            "In-app, `recipient` is a user_id; it differs from the `user_id` given.",
            "recipient",
        )
    return user_id or recipient


def find(
    project_id: int,
    channel: str,
    user_id: str,
    recipient: str,
    answer: Callable[[Search], Destination | None] | None = None,
) -> Destination:
    """Where a notification on `channel` goes, by `user_id`, by `recipient` or by both (then: to this address,
    in that user's history). `address` is empty where the user has none on the channel.

    `answer` knows the answers beforehand (finding_many.py); without it, the database is asked.
    Raises Refused, naming the field.
    """
    answer = answer or ask
    search = search_for(project_id, channel, user_id, recipient)
    if search is None:
        return _find_by_phone(project_id, recipient, answer)
    known = answer(search)
    if known:
        return known
    if search.user_id:
        return Destination(search.user_id, search.address)
    return Destination(new_user_id(), search.address, new_address=search.address)


def searches_by_phone(project_id: int, recipient: str) -> tuple[Search | None, Search]:
    """How to find the one whose phone, or whose user_id, this is."""
    phone = as_e164(recipient)
    by_phone = Search(BY_ADDRESS, project_id, "sms", address=phone) if phone else None
    return by_phone, Search(BY_USER_ID, project_id, "sms", user_id=recipient)


def _find_by_phone(
    project_id: int, recipient: str, answer: Callable[[Search], Destination | None]
) -> Destination:
    """A known phone, else a known user_id, else a possible phone."""
    search_by_phone, search_by_id = searches_by_phone(project_id, recipient)
    by_phone = answer(search_by_phone) if search_by_phone else None
    by_id = answer(search_by_id)
    if by_phone and by_id and by_phone.recipient_id != by_id.recipient_id:
        raise Refused(
            "ambiguous_recipient",
            "This is the phone of one user and the user_id of another. Send `user_id` instead, "
            "or the phone with its country code.",
            "recipient",
        )
    if known := by_phone or by_id:
        return known
    phone = normalised("sms", recipient, "recipient")
    return Destination(new_user_id(), phone, new_address=phone)


def ask(search: Search) -> Destination | None:
    """The database's answer."""
    row = _one(search.query, search.parameters())
    return Destination(recipient_id=row[0], user_id=row[1], address=row[2]) if row else None


def _one(statement: str, parameters: tuple[Any, ...] | dict[str, Any]) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cast("tuple[Any, ...] | None", cursor.fetchone())


def make(project_id: int, channel: str, destination: Destination) -> int:
    """The id of the destination's recipient, made now. Call it inside a transaction.

    Raises IntegrityError where somebody else has just taken the new address: find() it again.
    """
    row = _one(_MAKE, (project_id, destination.user_id))
    assert row is not None
    recipient_id = int(row[0])
    if destination.new_address:
        Address.objects.create(
            project_id=project_id,
            recipient_id=recipient_id,
            channel=channel,
            value=destination.new_address,
        )
    return recipient_id


def normalised(channel: str, address: str, field: str) -> str:
    """The address as it is stored. Raises Refused, naming the field.

    The local part of an e-mail address is kept as it is (RFC 5321, section 2.4: it may be case-sensitive), the
    domain is lower-cased.
    """
    if channel == "sms":
        phone = as_e164(address)
        if phone is None:
            raise Refused(
                "invalid_phone",
                "This cannot be a phone number. Give it with its country code, like +15005550006.",
                field,
            )
        return phone
    try:
        validate_email(address)
    except ValidationError:
        raise Refused("invalid_email", "This is not an e-mail address.", field) from None
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.lower()}"


def register(project_id: int, values: dict[str, str]) -> Recipient:
    """POST /users. `values` holds `user_id` (optional), name, locale, timezone, email, phone.

    A recipient that a notification made for an unknown address or id is adopted. Raises Conflict, naming the
    field, where the id or an address is taken.
    """
    user_id = values.get("user_id", "")
    with _conflicts_named(project_id, values), transaction.atomic():
        recipient = _adoptable(project_id, user_id, values) or Recipient(project_id=project_id)
        if user_id or not recipient.user_id:
            recipient.user_id = user_id or new_user_id()
        _store(recipient, values)
    return recipient


def replace(project_id: int, user_id: str, values: dict[str, str]) -> tuple[Recipient, bool]:
    """PUT /users/{user_id}: creates or replaces; what is not given becomes empty. Returns (it, created)."""
    try:
        return _replace(project_id, user_id, values)
    except Conflict as conflict:
        if conflict.field != "user_id":
            raise
    # Another request has made the same user since we looked: that one is replaced.
    return _replace(project_id, user_id, values)


def _replace(project_id: int, user_id: str, values: dict[str, str]) -> tuple[Recipient, bool]:
    blank = {"name": "", "locale": "", "timezone": "", "email": "", "phone": ""}
    with _conflicts_named(project_id, values), transaction.atomic():
        existing = _locked(project_id, user_id)
        recipient = existing or Recipient(project_id=project_id, user_id=user_id)
        _store(recipient, blank | values)
    return recipient, existing is None


def change(project_id: int, user_id: str, values: dict[str, str]) -> Recipient | None:
    """PATCH /users/{user_id}: changes what is given. None where there is no such user."""
    with _conflicts_named(project_id, values), transaction.atomic():
        recipient = _locked(project_id, user_id)
        if recipient:
            _store(recipient, values)
    return recipient


def _locked(project_id: int, user_id: str) -> Recipient | None:
    return (
        Recipient.objects.select_for_update().filter(project_id=project_id, user_id=user_id).first()
    )


def _adoptable(project_id: int, user_id: str, values: dict[str, str]) -> Recipient | None:
    provisional = Recipient.objects.select_for_update(of=("self",)).filter(
        project_id=project_id, provisional=True
    )
    if user_id and (known := provisional.filter(user_id=user_id).first()):
        return known
    for channel, field in _FIELDS.items():
        value = values.get(field)
        by_address = provisional.filter(
            addresses__channel=channel, addresses__value=value or ""
        ).first()
        if value and by_address:
            return by_address
    return None


#: Which field of the API holds the address of a channel.
_FIELDS = {"email": "email", "sms": "phone"}


def _store(recipient: Recipient, values: dict[str, str]) -> None:
    for field in ("name", "locale", "timezone"):
        if field in values:
            setattr(recipient, field, values[field])
    recipient.provisional = False
    recipient.save()
    for channel, field in _FIELDS.items():
        if field in values:
            _store_address(recipient, channel, values[field])


def _store_address(recipient: Recipient, channel: str, value: str) -> None:
    if not value:
        recipient.addresses.filter(channel=channel).delete()
        return
    _take_from_provisional(recipient, channel, value)
    Address.objects.update_or_create(
        recipient=recipient,
        channel=channel,
        defaults={"value": value, "project_id": recipient.project_id},
    )


def _take_from_provisional(recipient: Recipient, channel: str, value: str) -> None:
    """An address that only a notification brought along belongs to whoever registers it first."""
    Address.objects.filter(
        project_id=recipient.project_id,
        channel=channel,
        value=value,
        recipient__provisional=True,
    ).exclude(recipient=recipient).delete()


@contextmanager
def _conflicts_named(project_id: int, values: dict[str, str]) -> Iterator[None]:
    """Turns a violated unique constraint into a Conflict that names the field."""
    try:
        yield
    except IntegrityError as error:
        if "recipient_user_id" in str(error):
            raise Conflict(
                "already_exists", "There is a user with this user_id.", "user_id"
            ) from error
        if "address_value" in str(error):
            field = _taken_field(project_id, values)
            raise Conflict("already_exists", f"Another user has this {field}.", field) from error
        raise


def _taken_field(project_id: int, values: dict[str, str]) -> str:
    email_taken = Address.objects.filter(
        project_id=project_id, channel="email", value=values.get("email", "")
    )
    return "email" if email_taken.exists() else "phone"
