"""The recipients of many notifications, found and made by a few statements, by the rules of directory.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import IntegrityError, connection

from users.directory import BY_ADDRESS, BY_USER_ID, Destination, Search, new_user_id

_BY_USER_IDS = """
SELECT recipient.user_id, recipient.id, address.channel, address.value
FROM users_recipient recipient LEFT JOIN users_address address ON address.recipient_id = recipient.id
WHERE recipient.user_id = ANY(%s) AND recipient.project_id = %s
"""

_BY_ADDRESSES = """
SELECT address.channel, address.value, recipient.id, recipient.user_id
FROM users_address address JOIN users_recipient recipient ON recipient.id = address.recipient_id
WHERE address.value = ANY(%s) AND address.project_id = %s
"""

# In one order for all, so that two who make the same recipients do not wait for each other. `user_id` is part of a key:
# an update that names it would lock out the foreign keys of those who send to them at this moment, and they us.
_MAKE = """
INSERT INTO users_recipient (project_id, user_id, name, locale, timezone, provisional)
SELECT %(project_id)s, given.user_id, '', given.locale, '', true
FROM unnest(%(user_ids)s::text[], %(locales)s::text[]) AS given (user_id, locale)
ORDER BY given.user_id
ON CONFLICT (user_id, project_id) DO UPDATE SET provisional = users_recipient.provisional
RETURNING user_id, id
"""

# Neither another's address nor a second one of the same person.
_ADD_ADDRESSES = """
INSERT INTO users_address (project_id, recipient_id, channel, value)
SELECT %(project_id)s, given.recipient_id, %(channel)s, given.value
FROM unnest(%(recipient_ids)s::bigint[], %(values)s::text[]) AS given (recipient_id, value)
ORDER BY given.value
ON CONFLICT DO NOTHING
RETURNING value
"""


class Known:
    """The answers to many searches of one project, asked for at once. `answer` is for `directory.find`."""

    def __init__(self, project_id: int, searches: Iterable[Search]) -> None:
        searches = list(searches)
        self._by_user_id: dict[str, int] = {}
        self._address_of: dict[tuple[str, str], str] = {}
        self._by_address: dict[tuple[str, str], tuple[int, str]] = {}
        self.expected: list[Expected] = []
        with connection.cursor() as cursor:
            user_ids = {each.user_id for each in searches if each.query == BY_USER_ID}
            if user_ids:
                cursor.execute(_BY_USER_IDS, (sorted(user_ids), project_id))
                for user_id, recipient_id, channel, value in cursor.fetchall():
                    self._by_user_id[user_id] = recipient_id
                    self._address_of[user_id, channel] = value
            addresses = {each.address for each in searches if each.query == BY_ADDRESS}
            if addresses:
                cursor.execute(_BY_ADDRESSES, (sorted(addresses), project_id))
                for channel, value, recipient_id, user_id in cursor.fetchall():
                    self._by_address[channel, value] = recipient_id, user_id

    def answer(self, search: Search) -> Destination | None:
        if search.query == BY_ADDRESS:
            found = self._by_address.get((search.channel, search.address))
            return found and Destination(found[1], search.address, found[0])
        recipient_id = self._by_user_id.get(search.user_id)
        if recipient_id is None:
            return None
        address = search.address or self._address_of.get((search.user_id, search.channel), "")
        return Destination(search.user_id, address, recipient_id)

    def expect(self, channel: str, destination: Destination) -> Destination:
        """The destination of somebody who is yet to be made; from now on `answer` knows them, as if they were there.

        Until `make_expected` has made them, a number below 0 stands for their id.
        """
        user_id, address = destination.user_id, destination.new_address
        number = -1 - len(self.expected)
        self.expected.append(Expected(number, user_id, channel, address))
        self._by_user_id[user_id] = number
        if address:
            self._by_address[channel, address] = number, user_id
            self._address_of[user_id, channel] = address
        return Destination(user_id, destination.address, number)

    def has_address(self, user_id: str, channel: str) -> bool:
        return (user_id, channel) in self._address_of


@dataclass(frozen=True, slots=True)
class Expected:
    """Somebody whom a notification will make. `new_address` is empty for who is known by a user_id."""

    number: int
    user_id: str
    channel: str
    new_address: str


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Somebody to be made. `user_id` is empty for who is known by the address alone."""

    user_id: str = ""
    address: str = ""
    locale: str = ""


def make_many(
    project_id: int, channel: str, newcomers: Sequence[Newcomer]
) -> list[tuple[int, str]]:
    """The (recipient_id, user_id) of each, made now where they are not there. Call it inside a transaction.

    Whoever comes without a user_id is one person for each address. Raises IntegrityError where somebody else has just
    taken such an address: find them again.
    """
    ids_of_addresses = {each.address: new_user_id() for each in newcomers if not each.user_id}
    user_ids = [each.user_id or ids_of_addresses[each.address] for each in newcomers]
    made = _make(project_id, dict(zip(user_ids, newcomers, strict=True)))
    add_addresses(
        project_id,
        channel,
        {made[user_id]: each.address for user_id, each in zip(user_ids, newcomers, strict=True)},
        must_be_free=set(ids_of_addresses),
    )
    return [(made[user_id], user_id) for user_id in user_ids]


def make_expected(project_id: int, expected: Sequence[Expected]) -> dict[int, int]:
    """The recipient ids of those expected, by their numbers. Call it inside a transaction.

    First all the people, then all the addresses, each in one order: two that make the same ones do not wait for each
    other. Raises IntegrityError where somebody else has just taken an address: find them again.
    """
    if not expected:
        return {}
    made = _make(project_id, {each.user_id: Newcomer(each.user_id) for each in expected})
    for channel in sorted({each.channel for each in expected}):
        new = {
            made[each.user_id]: each.new_address
            for each in expected
            if each.channel == channel and each.new_address
        }
        add_addresses(project_id, channel, new, must_be_free=set(new.values()))
    return {each.number: made[each.user_id] for each in expected}


def _make(project_id: int, newcomers: dict[str, Newcomer]) -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            _MAKE,
            {
                "project_id": project_id,
                "user_ids": list(newcomers),
                "locales": [each.locale for each in newcomers.values()],
            },
        )
        return dict(cursor.fetchall())


def add_addresses(
    project_id: int,
    channel: str,
    addresses: dict[int, str],
    must_be_free: set[str] | frozenset[str] = frozenset(),
) -> None:
    """Store the address of each recipient id that has none on the channel, unless it is somebody else's.

    Raises IntegrityError where one that must be free is somebody else's.
    """
    given = {recipient_id: value for recipient_id, value in addresses.items() if value}
    if channel == "in_app" or not given:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _ADD_ADDRESSES,
            {
                "project_id": project_id,
                "channel": channel,
                "recipient_ids": list(given),
                "values": list(given.values()),
            },
        )
        stored = {row[0] for row in cursor.fetchall()}
    if not must_be_free <= stored:
        raise IntegrityError("an address was taken meanwhile")
