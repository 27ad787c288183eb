"""What a shell is told of a batch, its check and its progress. Pure: words and numbers from values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from notifications.batches import Progress
from notifications.explaining import counted
from notifications.models import Batch

#: Lines with errors, and failures by code, that are shown.
MOST_ERRORS, MOST_CODES = 20, 5
#: Characters of an example's message.
LONGEST_EXAMPLE = 600

_CHANNEL = {"email": "e-mail", "sms": "SMS message", "in_app": "in-app message"}


def one_line(batch: Batch) -> str:
    """For a list."""
    return f"{batch.created_at:%Y-%m-%d %H:%M}  {batch.status:<9}  {batch.loaded:>9,}  {batch.name}"


def lines_about(batch: Batch, progress: Progress) -> Iterator[str]:
    """All about one."""
    yield f"{batch.name}: {batch.status}{_test(batch)}"
    if batch.reason:
        yield f"  {batch.reason}"
    yield f"  {batch.channel}, priority {batch.priority}, from {batch.file_name or batch.get_source_display().lower()}"
    yield f"  {_rate(batch.flow.rate)}"
    for name, moment in _moments(batch):
        yield f"  {name} {moment:%Y-%m-%d %H:%M:%S} UTC"
    yield f"  {summary(progress)}"
    for code, count in list(progress.failures.items())[:MOST_CODES]:
        yield f"    {count:,} failed: {code}"
    if progress.unknown:
        yield "    Nobody knows whether the unknown ones arrived; see manage.py settle_unknown."


def _test(batch: Batch) -> str:
    return "" if batch.live else " (a test: everything goes to the sandbox)"


def _rate(rate: float | None) -> str:
    return f"at most {rate:g} a second" if rate else "as fast as it goes"


def _moments(batch: Batch) -> Iterator[tuple[str, datetime]]:
    moments = {
        "created": batch.created_at,
        "loaded": batch.loaded_at,
        "to start": None if batch.started_at else batch.scheduled_for,
        "started": batch.started_at,
        "finished": batch.finished_at,
    }
    yield from ((name, moment) for name, moment in moments.items() if moment)


def summary(progress: Progress) -> str:
    """`1,000 rows: 900 sent, 50 delivered, 50 waiting`: what there is none of is left out."""
    counts = {
        "sent": progress.sent,
        "delivered": progress.delivered,
        "failed": progress.failed,
        "suppressed": progress.suppressed,
        "expired": progress.expired,
        "cancelled": progress.cancelled,
        "unknown": progress.unknown,
        "being sent": progress.sending,
        "waiting": progress.waiting,
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return f"{counted(progress.total, 'row')}: {told or 'none'}"


def about_check(report: dict[str, Any], channel: str) -> Iterator[str]:
    """What the check of a source found (examining.Report.as_json())."""
    for error in report["errors"][:MOST_ERRORS]:
        field = f"{error['field']}: " if error["field"] else ""
        yield f"line {error['line']}: {field}{error['detail']}"
    if report["invalid"] > MOST_ERRORS:
        codes = ", ".join(f"{count:,} {code}" for code, count in report["codes"].items())
        yield f"... and more: {codes}"
    for example in report["examples"]:
        yield from _about_example(example)
    yield _counts(report, channel)


def _about_example(example: dict[str, Any]) -> Iterator[str]:
    yield f"--- line {example['line']}, to {example['recipient']}"
    if example["title"]:
        yield f"    {example['title']}"
    message = example["message"]
    shown = message if len(message) <= LONGEST_EXAMPLE else message[:LONGEST_EXAMPLE] + " …"
    for line in shown.splitlines():
        yield f"    {line}"


def _counts(report: dict[str, Any], channel: str) -> str:
    told = [f"{counted(report['valid'], _CHANNEL[channel])} to send"]
    if report["suppressed"]:
        told.append(f"{report['suppressed']:,} of them suppressed (they are not written to)")
    if report["segments"]:
        told.append(f"{counted(report['segments'], 'SMS segment')}")
    if report["invalid"]:
        told.append(f"{counted(report['invalid'], 'row')} that cannot be sent")
    return ", ".join(told) + "."
