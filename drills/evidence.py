"""What the judge is shown: the clients' records, the vendors' ledger, the database's rows and their changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from drills.judge import Acceptance, Answer, Change, Row

#: Keeps every change of a status, made by whomever. One row a statement's row, in the same transaction.
RECORD_CHANGES = """
CREATE TABLE drills_change (
    number bigint GENERATED ALWAYS AS IDENTITY, id uuid, old text, new text,
    at timestamptz DEFAULT clock_timestamp()
);
CREATE FUNCTION drills_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO drills_change (id, old, new)
    SELECT id, was.status, became.status FROM was JOIN became USING (id)
    WHERE was.status <> became.status;
    RETURN NULL;
END $$;
CREATE TRIGGER drills_record AFTER UPDATE ON notifications_notification
REFERENCING OLD TABLE AS was NEW TABLE AS became
FOR EACH STATEMENT EXECUTE FUNCTION drills_record();
"""


#: A row of a batch has no reference of its own; its ref is in its address.
ROWS = """
SELECT id::text, CASE WHEN row_number IS NULL THEN reference ELSE split_part(address, '@', 1) END, status
FROM notifications_notification
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One call as a vendor saw it; `at` is when it came in, in seconds since 1970."""

    vendor: str
    ref: str
    id: str
    at: float
    outcome: str

    @property
    def refused_for_good(self) -> bool:
        """Whether the vendor said that this message, as distinct from our account or the moment, is not wanted."""
        how, _, code = self.outcome.partition(" ")
        if how != "refuse":
            return False
        if self.vendor == "smtp":
            return code.startswith("5") and code not in _OUR_ACCOUNT
        return code.startswith("4") and code not in _OUR_ACCOUNT | _THE_MOMENT


@dataclass(frozen=True, slots=True)
class Told:
    """One webhook as a vendor told it once; `status` None when no answer came."""

    ref: str
    event: str
    event_id: str
    status: int | None
    at: float
    seconds: float

    @property
    def was_taken(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


#: Mailgun's and Twilio's words, and ours, for what was taken and came back.
BOUNCED = frozenset({"failed", "bounced"})

_OUR_ACCOUNT = {"530", "534", "535", "538", "401", "402", "403", "407"}
_THE_MOMENT = {"408", "421", "425", "429"}


def answers(folder: Path) -> list[Answer]:
    """Of all clients that recorded into the folder."""
    files = sorted(folder.glob("clients-*.jsonl"))
    return [Answer(**line) for file in files for line in _lines(file)]


def ledger(folder: Path) -> list[Acceptance]:
    return [Acceptance(**line) for line in _lines(folder / "ledger.jsonl")]


def calls(folder: Path) -> list[Call]:
    return [Call(**line) for line in _lines(folder / "calls.jsonl")]


def webhooks(folder: Path) -> list[Told]:
    """Of all vendors and storms that reported from the folder, in the order of each."""
    files = sorted(folder.glob("webhooks*.jsonl"))
    return [Told(**line) for file in files for line in _lines(file)]


def bounced(folder: Path) -> set[str]:
    """Refs that a vendor has reported as bounced, and was heard."""
    return {told.ref for told in webhooks(folder) if told.event in BOUNCED and told.was_taken}


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def rows(connection: psycopg.Connection[Any]) -> list[Row]:
    found = connection.execute(ROWS)
    return [Row(*row) for row in found]


def changes(connection: psycopg.Connection[Any]) -> list[Change]:
    found = connection.execute("SELECT id::text, old, new FROM drills_change ORDER BY number")
    return [Change(*row) for row in found]
