"""Stub until part 1's is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Hour(NamedTuple):
    hour: datetime
    key: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class LaneFigures:
    per_minute: float
    calls: int
    failed: int
    codes: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class ProviderHour:
    began_at: datetime
    calls: int
    accepted: int
    p50_ms: float | None
    p95_ms: float | None


def accepted(
    since: datetime, until: datetime, by: str, project_ids: Sequence[int] | None = None
) -> list[Hour]:
    return []


def lanes(now: datetime) -> dict[str, LaneFigures]:
    return {}


def calls(provider_hours: int, now: datetime) -> dict[str, list[ProviderHour]]:
    return {}
