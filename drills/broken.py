"""The service with its engine broken on purpose: does the judge notice? (tests/test_drills_catch_a_broken_engine.py)

    celery -A drills.broken worker ...      BROKEN=fence_ignored|settle_without_condition|claim_without_begin

With the faults of drills/faults.py, which bring about the situation in which the missing guard matters.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from drills.faults import app
from notifications import queue

__all__ = ["app"]


def ignore_the_fence() -> None:
    """BEGIN takes whatever was claimed once. Status and lease are asked with the fence, and go with it."""
    mine = """n.fence = claimed.fence AND n.status = 'pending'
      AND n.leased_until > clock_timestamp()"""
    assert mine in queue.BEGIN
    assert "RETURNING n.id, n.fence" in queue.BEGIN
    queue.BEGIN = queue.BEGIN.replace(mine, "true").replace(
        "RETURNING n.id, n.fence", "RETURNING n.id, claimed.fence"
    )


def settle_without_condition() -> None:
    """The last answer wins, whatever has become of the row."""
    condition = queue.SETTLE.rpartition("WHERE n.id = s.id AND")[2]
    assert "n.fence = s.fence" in condition
    queue.SETTLE = queue.SETTLE.replace(condition, " true")


def claim_without_begin() -> None:
    """What is claimed is sent, and nothing says so before."""

    def begin(rows: Sequence[queue.Claimed], provider: str, lease: float) -> set[UUID]:
        return {row.id for row in rows}

    queue.begin = begin


_WAYS: dict[str, Any] = {
    "": lambda: None,
    "fence_ignored": ignore_the_fence,
    "settle_without_condition": settle_without_condition,
    "claim_without_begin": claim_without_begin,
}

_WAYS[os.environ.get("BROKEN", "")]()
