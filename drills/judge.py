"""The judge of all drills: who got what they were promised.

It believes three witnesses: the clients' own record of the answers they got, the vendors' ledger (written to disk
before they answer), and the rows with the record of their changes that a trigger of the drill keeps. What the
application says of itself in logs, metrics or pages does not count. Pure: data in, verdict out.

A message is recognised by its `ref`, which the client makes up and writes into the notification's `reference` and
recipient, so that the vendor sees it as well. One ref is one thing that somebody wanted to be told once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got for one request; `status` None when the answer never came."""

    ref: str
    status: int | None
    id: str = ""
    at: float = 0.0
    seconds: float = 0.0

    @property
    def promised(self) -> bool:
        return self.status in (200, 201) and bool(self.id)

    @property
    def leaves_open(self) -> bool:
        """Cut off, or a 5xx: perhaps stored, and a client would ask again with its Idempotency-Key."""
        return self.status is None or self.status >= 500


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A vendor took one copy. `id` is empty where the vendor's API has no place for ours."""

    ref: str
    id: str = ""
    vendor: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A notification as the database has it at the end."""

    id: str
    ref: str
    status: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a row's status, recorded by a trigger at the moment it was made."""

    id: str
    old: str
    new: str


#: Every change that docs/lifecycle.md allows; all others go backwards, or sideways. `pending` may be one that the
#: policy made due again: an answer that comes late, before it is claimed, still counts, and so does a receipt. What
#: was sent or delivered fails by a receipt alone.
FORWARD = frozenset(
    {
        *(("pending", new) for new in ("sending", "cancelled", "expired", "failed")),
        *(("pending", new) for new in ("sent", "delivered", "unknown")),
        *(("sending", new) for new in ("sent", "delivered", "pending", "failed", "unknown")),
        *(("unknown", new) for new in ("sent", "delivered", "pending", "failed")),
        ("sending", "expired"),
        *(("sent", new) for new in ("delivered", "failed")),
        ("delivered", "failed"),
    }
)
OPEN = frozenset({"pending", "sending"})
TAKEN = frozenset({"sent", "delivered"})
UNSENT = frozenset({"failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found. The tuples are faults, each a ref (`regressed`: with the change); the rest are counts."""

    #: Promised, and neither in the ledger nor in a named end nor `unknown`; or its row is gone.
    lost: tuple[str, ...]
    #: More copies than one, beyond those that a resend from `unknown` accounts for.
    doubled: tuple[str, ...]
    #: Said to be sent, and no vendor took it.
    phantom: tuple[str, ...]
    #: Still waiting or being sent after the quiet time.
    stuck: tuple[str, ...]
    #: Taken by a vendor although the client was told no, or nobody had asked.
    ghost: tuple[str, ...]
    #: A status that went backwards.
    regressed: tuple[str, ...]
    #: Said to have ended unsent, and a vendor took it, and did not say later that it bounced.
    denied: tuple[str, ...]

    #: Answers that promised.
    promised: int
    #: Copies that vendors took.
    accepted: int
    #: Rows that are `unknown` at the end, and those that ever were.
    unknown: int
    went_unknown: int
    #: Refs of which a second copy went out because the policy resent from `unknown`.
    resent: int
    #: The most copies of one ref.
    most_copies: int
    #: Sent although no promise was heard: the answer was cut, or a 5xx.
    unconfirmed: int

    @property
    def faults(self) -> dict[str, tuple[str, ...]]:
        """Every kind of fault, with the refs."""
        return {
            field.name: value
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), tuple)
        }

    @property
    def is_clean(self) -> bool:
        return not any(self.faults.values())


def judge(
    answers: Collection[Answer],
    ledger: Collection[Acceptance],
    rows: Collection[Row],
    changes: Collection[Change] = (),
    *,
    refused: Collection[str] = (),
    ends: Collection[str] = (),
    bounced: Collection[str] = (),
) -> Verdict:
    """Weigh the witnesses.

    `refused`: refs that a vendor refused for good, by its own record; only for them is `failed` an end.
    `bounced`: refs that a vendor took and later reported as bounced; only for them is `failed` the truth.
    `ends`: other statuses that are an end in this drill (`cancelled` and `expired` are none unless named).
    """
    copies = Counter(acceptance.ref for acceptance in ledger)
    ref_of = {row.id: row.ref for row in rows}
    resends = Counter(
        ref_of.get(change.id, "")
        for change in changes
        if (change.old, change.new) == ("unknown", "pending")
    )
    promised = {answer.id: answer.ref for answer in answers if answer.promised}
    return Verdict(
        lost=_refs(_lost(promised, rows, copies, refused, ends)),
        doubled=_refs(ref for ref, count in copies.items() if count > 1 + resends[ref]),
        phantom=_refs(row.ref for row in rows if row.status in TAKEN and not copies[row.ref]),
        stuck=_refs(row.ref for row in rows if row.status in OPEN),
        ghost=_refs(_ghosts(answers, copies)),
        regressed=_refs(
            f"{ref_of.get(change.id, change.id)}: {change.old} -> {change.new}"
            for change in changes
            if (change.old, change.new) not in FORWARD
        ),
        denied=_refs(_denied(rows, copies, bounced)),
        promised=len(promised),
        accepted=copies.total(),
        unknown=sum(row.status == "unknown" for row in rows),
        went_unknown=len({change.id for change in changes if change.new == "unknown"}),
        resent=sum(1 < count <= 1 + resends[ref] for ref, count in copies.items()),
        most_copies=max(copies.values(), default=0),
        unconfirmed=len(set(copies) - set(promised.values()) - set(_ghosts(answers, copies))),
    )


def _lost(
    promised: dict[str, str],
    rows: Collection[Row],
    copies: Counter[str],
    refused: Collection[str],
    ends: Collection[str],
) -> Iterable[str]:
    status_of = {row.id: row.status for row in rows}
    refused = frozenset(refused)
    for id, ref in promised.items():
        status = status_of.get(id)
        ended = status == "unknown" or status in ends or (status == "failed" and ref in refused)
        if status is None or not (copies[ref] or ended):
            yield ref


def _denied(rows: Collection[Row], copies: Counter[str], bounced: Collection[str]) -> Iterable[str]:
    bounced = frozenset(bounced)
    for row in rows:
        is_true = row.status == "failed" and row.ref in bounced
        if row.status in UNSENT and copies[row.ref] and not is_true:
            yield row.ref


def _ghosts(answers: Collection[Answer], copies: Counter[str]) -> Iterable[str]:
    explained = {answer.ref for answer in answers if answer.promised or answer.leaves_open}
    return (ref for ref in copies if ref not in explained)


def _refs(refs: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(refs)))
