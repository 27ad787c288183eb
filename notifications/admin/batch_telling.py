"""How far a batch is, for the console: in words, and as what its page shows and keeps showing anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString
from django.utils.text import Truncator

from notifications import batches
from notifications.admin.preview import harmless
from notifications.batches import Progress
from notifications.explaining import counted, moment
from notifications.models import Batch, Channel, Status

#: Notifications' statuses as parts of the bar, in the order in which it shows them.
_BAR = ("delivered", "sent", "failed", "unknown", "expired", "cancelled", "sending", "waiting")
#: Where the notifications of such a part are listed by another status.
_LISTED_AS = {"waiting": Status.PENDING.value}


@dataclass(frozen=True, slots=True)
class Part:
    """Rows in one state. `start` and `width`: its share of the bar, in per cent; `status`: what the list is filtered by."""

    name: str
    count: int
    start: str
    width: str
    status: str


@dataclass(frozen=True, slots=True)
class Example:
    """One rendered row, as its receiver would see it; `frame` is its HTML part, made harmless to show."""

    line: int
    recipient: str
    title: str
    message: str
    frame: str


def how_far(batch: Batch) -> str:
    """For a list: by what stands in the batch's own row."""
    match batch.status:
        case Batch.Status.LOADING:
            stored = f"{batch.loaded:,} stored" if batch.cursor else "being checked"
            return f"{stored}; nothing has gone out"
        case Batch.Status.READY:
            return _starts(batch)
        case Batch.Status.RUNNING:
            return f"since {moment(batch.started_at)}" if batch.started_at else "running"
        case Batch.Status.COMPLETED:
            return f"{moment(batch.finished_at)}" if batch.finished_at else "completed"
        case _:
            return Truncator(batch.reason).chars(80) or "by a person"


def explain(batch: Batch) -> str:
    """One sentence or two on where it is and what comes next."""
    match batch.status:
        case Batch.Status.LOADING:
            return _loading(batch)
        case Batch.Status.READY:
            left_out = (
                f" {counted(batch.rejected, 'row')} left out as invalid." if batch.rejected else ""
            )
            return f"{counted(batch.loaded, 'row')} stored, nothing sent: it {_starts(batch)}.{left_out}"
        case Batch.Status.RUNNING:
            rate = batch.flow.rate
            return f"It goes out, {f'at most {rate:g} a second' if rate else 'as fast as it goes'}."
        case Batch.Status.PAUSED:
            return f"Nothing of it begins until it is resumed. {batch.reason}".strip()
        case Batch.Status.COMPLETED:
            return "Nothing of it moves by itself any more."
        case _:
            return _cancelled(batch)


def _starts(batch: Batch) -> str:
    if not batch.starts_by_itself:
        return "waits for somebody to start it"
    return f"starts at {moment(batch.scheduled_for)}" if batch.scheduled_for else "starts at once"


def _loading(batch: Batch) -> str:
    if batch.cursor:
        return "The file is checked, and its rows are being stored. Nothing goes out yet."
    checked = batch.report.get("checked")
    if checked:
        return f"The file is being checked: {checked:,} rows so far. Nothing is stored yet."
    return "The file waits for a worker to check it: within seconds, if one runs."


def _cancelled(batch: Batch) -> str:
    if is_refused(batch):
        return f"Nothing of it was sent: {batch.reason}"
    if batch.finished_at is None:
        return "Cancelled. What is on its way still counts; the last rows are being cancelled."
    return "Cancelled. What had gone out counts."


def is_refused(batch: Batch) -> bool:
    """Its file was no good: it ended before it began."""
    return batch.status == Batch.Status.CANCELLED and bool(batch.reason) and not batch.cursor


def live_facts(batch: Batch, badge: SafeString) -> dict[str, Any]:
    """What live.html shows. Counts each of the batch's rows."""
    progress = batches.progress(batch)
    return {
        "batch": batch,
        "badge": badge,
        "explanation": explain(batch),
        "progress": progress,
        "parts": _parts(progress),
        "failures": list(progress.failures.items())[:20],
        "loading": _share_loaded(batch),
        "refused": is_refused(batch),
        "finished": is_refused(batch) or batch.finished_at is not None,
    }


def examples_of(batch: Batch) -> list[Example]:
    return [
        Example(
            line=example["line"],
            recipient=example["recipient"],
            title=example["title"],
            message=example["message"],
            frame=harmless(example["html"])
            if example["html"] and batch.channel == Channel.EMAIL
            else "",
        )
        for example in batch.report.get("examples", [])
    ]


def _parts(progress: Progress) -> list[Part]:
    counts = progress.as_json()
    # Suppressed ones are cancelled, with a reason of their own.
    counts["cancelled"] += counts["suppressed"]
    parts, before = [], 0
    for name in _BAR:
        if counts[name]:
            start, width = (100 * rows / progress.total for rows in (before, counts[name]))
            listed_as = _LISTED_AS.get(name, name)
            parts.append(Part(name, counts[name], f"{start:.2f}", f"{width:.2f}", listed_as))
            before += counts[name]
    return parts


def _share_loaded(batch: Batch) -> str:
    """Per cent of the rows; empty where it is not loading, or nobody knows."""
    rows = batch.report.get("rows")
    if batch.status != Batch.Status.LOADING or not rows:
        return ""
    return f"{min(100 * batch.cursor / rows, 100):.1f}"
