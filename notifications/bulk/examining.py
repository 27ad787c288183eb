"""What would be sent, and what is wrong: all rows of a source, checked before anything is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from django.db import connection

from notifications import suppressions
from notifications.bulk.checking import Rejected
from notifications.bulk.placing import Chunk, Placed
from notifications.explaining import counted
from notifications.models import Channel
from notifications.sms_segments import segments

#: Rejected rows and rendered rows that a report shows; it counts all of them.
MOST_ERRORS, MOST_EXAMPLES = 1000, 3

_COUNT_SUPPRESSED = f"""
SELECT count(*) FROM unnest(%(addresses)s::text[]) AS given (address), users_project project
WHERE project.id = %(project_id)s
  AND EXISTS ({suppressions.stopped_by("given.address", "%(channel)s", "%(category)s::text")})
"""  # noqa: S608  (constants)


@dataclass(slots=True)
class Report:
    """`valid` includes `suppressed`: their rows are stored, and cancelled instead of sent. `segments`: of all SMS."""

    rows: int = 0
    valid: int = 0
    invalid: int = 0
    suppressed: int = 0
    segments: int = 0
    new_recipients: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def problem(self, skip_invalid: bool) -> str:
        """Why nothing of it is sent; "" where it can be."""
        if self.invalid and not skip_invalid:
            return f"{counted(self.invalid, 'row')} of {self.rows:,} cannot be sent, so none was."
        if not self.valid:
            return "No row of it can be sent."
        return ""

    def as_json(self) -> dict[str, Any]:
        # asdict() makes no sense of a Counter.
        return {each.name: getattr(self, each.name) for each in fields(self)}


def examine(
    chunks: Iterable[Chunk],
    project_id: int,
    channel: str,
    category: str = "",
    on_rejected: Callable[[Rejected], None] = lambda rejected: None,
    on_chunk: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Read all chunks. `on_rejected` gets each row that cannot be sent, in order. Raises UnreadableFile."""
    report = Report()
    for chunk in chunks:
        _add_rejected(report, chunk.rejected, on_rejected)
        _add_placed(report, chunk.placed, channel)
        report.suppressed += _count_suppressed(chunk.placed, project_id, channel, category)
        on_chunk(report)
    return report


def _add_rejected(
    report: Report, rejected: list[Rejected], on_rejected: Callable[[Rejected], None]
) -> None:
    for each in rejected:
        report.rows += 1
        report.invalid += 1
        report.codes[each.code] += 1
        on_rejected(each)
        if len(report.errors) < MOST_ERRORS:
            report.errors.append(
                {
                    "line": each.line,
                    "field": each.field,
                    "code": each.code,
                    "detail": each.detail,
                }
            )


def _add_placed(report: Report, placed: list[Placed], channel: str) -> None:
    report.rows += len(placed)
    report.valid += len(placed)
    report.new_recipients += sum(each.newcomer is not None for each in placed)
    if channel == Channel.SMS:
        report.segments += sum(segments(each.row.message).count for each in placed)
    for each in placed[: MOST_EXAMPLES - len(report.examples)]:
        report.examples.append(
            {
                "line": each.row.line,
                "recipient": each.address,
                "title": each.row.title,
                "message": each.row.message,
                "html": each.row.html,
            }
        )


def _count_suppressed(placed: list[Placed], project_id: int, channel: str, category: str) -> int:
    parameters: dict[str, Any] = {
        "addresses": [each.address for each in placed],
        "project_id": project_id,
        "channel": channel,
        "category": category,
    }
    with connection.cursor() as cursor:
        cursor.execute(_COUNT_SUPPRESSED, parameters)
        return int(cursor.fetchone()[0])
