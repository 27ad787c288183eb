"""Rows by the hundred thousand, stored by the database itself, as intake stores them."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from notifications import intake
from notifications.models import Flow
from users.models import Project, Recipient

FILL = """
INSERT INTO notifications_notification (
    id, project_id, flow_id, recipient_id, user_id, channel, priority, live, address, title, message,
    html, url, category, reference, metadata, status, failure_kind, failure_code, failure_detail,
    provider, provider_message_id, created_at, due_at, fence, attempt_count, lapses, resends)
SELECT uuidv7(), %(project)s, %(flow)s, %(recipient)s, 'user123', 'email', %(priority)s, true,
       'ada@example.com', 'Hello', 'Hello Ada, your order is on its way.', '', '', '', '', '{}',
       'pending', '', '', '', '', '', now(), now() + %(due_in)s::interval, 0, 0, 0, 0
FROM generate_series(1, %(count)s)
"""


def empty() -> None:
    intake.forget_flows()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE notifications_notification, notifications_flow CASCADE")


def paused_flow(lane: str) -> Flow:
    """The bench project's flow of the lane, from which nothing is claimed yet."""
    project, _ = Project.objects.get_or_create(name="bench")
    flow = Flow.objects.get(id=intake.flow_of(project.pk, lane))
    flow.paused = True
    flow.save()
    return flow


def fill(flow: Flow, count: int, due_in: str = "0") -> None:
    """So many waiting rows in the flow."""
    recipient, _ = Recipient.objects.get_or_create(project=flow.project, user_id="user123")
    with connection.cursor() as cursor:
        cursor.execute(
            FILL,
            {
                "project": flow.project_id,
                "flow": flow.pk,
                "recipient": recipient.pk,
                "priority": flow.lane.rpartition(".")[2] if "." in flow.lane else "normal",
                "due_in": due_in,
                "count": count,
            },
        )
        cursor.execute("VACUUM ANALYZE notifications_notification")


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now
