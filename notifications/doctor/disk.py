"""Room on the disk: for our own files, and for the database's where it is on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError

from notifications.doctor import database
from notifications.doctor.findings import Finding, error, ok, warning

MB = 1024**2
GB = 1024**3


def examine(data_directory: str | None = None) -> Iterator[Finding]:
    """VAR_DIR's disk, and that of the database's `data_directory`, where it is given and can be seen."""
    places = {"our own files": settings.VAR_DIR, "the database": data_directory}
    for what, place in places.items():
        if place is not None and (existing := _existing(Path(place))):
            yield _room(what, existing)


def examine_both() -> Iterator[Finding]:
    """The same, asking the database where its data is."""
    try:
        data_directory = database.data_directory()
    except DatabaseError:
        data_directory = None
    yield from examine(data_directory)


def _room(what: str, place: Path) -> Finding:
    total, _, free = shutil.disk_usage(place)
    detail = f"{place}: {free / GB:.1f} of {total / GB:.1f} GB free"
    if free < _error_below(total):
        return error(
            "disk",
            "disk_full",
            f"The disk for {what} is almost full.",
            "Make room, or a larger disk, now: a database without room stops, and accepts nothing until there is "
            "some. RETENTION_DAYS has old notifications deleted; VACUUM FULL gives their room back to the system.",
            detail,
        )
    if free < _warning_below(total):
        return warning(
            "disk",
            "disk_low",
            f"The disk for {what} is filling up.",
            "Make room before it is full. RETENTION_DAYS has old notifications deleted.",
            detail,
        )
    return ok("disk", "There is room on the disk.", detail)


def _error_below(total: int) -> float:
    """A twentieth, but no more than 5 GB of a large disk, and no less than 256 MB of a small one."""
    return max(256 * MB, min(total / 20, 5 * GB))


def _warning_below(total: int) -> float:
    """A tenth, but no more than 20 GB, and no less than 1 GB."""
    return max(GB, min(total / 10, 20 * GB))


def _existing(place: Path) -> Path | None:
    """The place, or the nearest folder above it that is there; None where we may not look."""
    try:
        return next(path for path in (place, *place.parents) if path.exists())
    except OSError:
        return None
