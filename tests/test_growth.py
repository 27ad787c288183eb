"""What a list reads does not grow with the table: pages of 8 KB, counted by EXPLAIN (ANALYZE, BUFFERS).

At a small scale, but with the rows where PostgreSQL's statistics mislead it: one project's are all older than another's bulk.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient
from uuid_utils.compat import uuid7

from notifications import finding, queue, receipts, suppressions
from notifications.ids import first_of
from notifications.intake import Submission, submit
from notifications.models import Notification
from notifications.suppressions import Entry
from tests.factories import AddressFactory, NotificationFactory, RecipientFactory, UserFactory
from users.models import Project, Recipient

pytestmark = pytest.mark.django_db

URL = "/api/v1/notifications"
BULK, OLD = 12_000, 6_000
#: A page has 50 rows and may find each on a page of its own.
MOST_PAGES = 150
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)

FILL = """
INSERT INTO notifications_notification (
    id, project_id, flow_id, recipient_id, user_id, channel, priority, live, address, title, message, html, url,
    category, reference, metadata, status, failure_kind, failure_code, failure_detail, provider,
    provider_message_id, created_at, due_at, sent_at, fence, attempt_count, lapses, resends)
SELECT uuidv7(%(from)s - now() + i * interval '1 minute'), project_id, flow_id, recipient_id, user_id, channel,
       priority, live, address, title, repeat('Hello ', 40), html, url, category, reference, metadata,
       CASE WHEN i < 60 THEN 'failed' ELSE 'sent' END, CASE WHEN i < 60 THEN 'permanent' ELSE '' END, '', '', '', '',
       %(from)s + i * interval '1 minute', due_at, now(), 0, 1, 0, 0
FROM notifications_notification, generate_series(1, %(count)s) i WHERE id = %(like)s
"""


def _fill(recipient: Recipient, count: int, first_day: datetime, reference: str) -> None:
    like = NotificationFactory(
        recipient=recipient, reference=reference, status="cancelled", id=first_of(first_day)
    )
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"from": first_day, "count": count, "like": like.id})


@pytest.fixture
def old_and_bulk(alice: Project, stranger: Project) -> None:
    """Alice's 6,000 rows are older than the stranger's 12,000."""
    ann = RecipientFactory(project=alice, user_id="ann")
    _fill(ann, OLD, FIRST_DAY, "newsletter")
    _fill(RecipientFactory(project=stranger), BULK, FIRST_DAY + timedelta(days=1), "")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_notification")


def pages_read(ask: Any) -> int:
    """By all that is asked of the ledger, the worst first; a plan that is short of time is nobody's excuse."""
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if sql.lstrip("(").startswith("SELECT") and "notifications_notification" in sql:
            asked.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        ask()
    assert asked
    return max(_pages_of(*statement) for statement in asked)


def _pages_of(sql: str, parameters: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", parameters)
        plan = cursor.fetchone()[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (URL, {}),
        (URL, {"status": "failed"}),
        (URL, {"reference": "newsletter"}),
        (URL, {"user_id": "ann"}),
        (URL, {"created_after": "2026-01-01T01:00:00Z"}),
        (URL, {"created_before": "2026-01-01T03:00:00Z"}),
        ("/api/v1/users/ann/notifications", {}),
    ],
    ids=str,
)
def test_a_list_reads_few_pages_however_old_its_rows_are(
    client_of_alice: APIClient, old_and_bulk: None, path: str, query: dict[str, str]
) -> None:
    def ask() -> None:
        first = client_of_alice.get(path, query).json()
        assert len(first["results"]) >= 50
        if first["next"]:
            second = client_of_alice.get(first["next"]).json()
            assert second["results"]
            assert client_of_alice.get(second["previous"]).json()["results"] == first["results"]

    assert pages_read(ask) < MOST_PAGES


def test_the_last_hour_of_a_bulk_is_found_without_the_rest(
    make_client: Any, old_and_bulk: None, stranger: Project
) -> None:
    client = make_client(stranger)
    early = {"created_before": (FIRST_DAY + timedelta(days=1, hours=2)).isoformat()}

    def ask() -> None:
        assert len(client.get(URL, early).json()["results"]) == 50

    assert pages_read(ask) < MOST_PAGES


def test_the_consoles_list_of_a_project_reads_few_pages(
    client: Client, old_and_bulk: None, alice: Project
) -> None:
    client.force_login(UserFactory(is_superuser=True))

    def ask() -> None:
        page = client.get(f"/admin/notifications/notification/?project={alice.pk}")
        assert len(page.context["cl"].result_list) == 50

    assert pages_read(ask) < MOST_PAGES


def test_the_consoles_search_reads_few_pages(old_and_bulk: None) -> None:
    """It asks several indexes, one after the other."""
    assert pages_read(lambda: finding.found("newsletter")) < 2 * MOST_PAGES
    assert Notification.objects.filter(reference="newsletter").count() > OLD


def test_a_create_reads_few_pages_however_many_rows_there_are(
    client_of_alice: APIClient, old_and_bulk: None
) -> None:
    inserts: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if "INSERT INTO notifications_notification" in sql:
            inserts.append((sql, parameters | {"id": uuid7()}))
        return execute(sql, parameters, many, context)

    body = {"user_id": "ann", "channel": "in_app", "message": "Hello"}
    with connection.execute_wrapper(note):
        assert client_of_alice.post(URL, body, format="json").status_code == 201
    (insert,) = inserts
    assert _pages_of(*insert) < 60


# --- Suppressions ---------------------------------------------------------------------------------------


@pytest.fixture
def long_list(alice: Project) -> Recipient:
    """Alice suppresses 5,000 addresses, and Ann's is none of them."""
    entries = [Entry("email", f"nobody{number}@example.com") for number in range(5000)]
    suppressions.add(alice.pk, entries, "import")
    address = AddressFactory(recipient__project=alice, value="ann@example.com")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE notifications_suppression")
    return address.recipient


def plan_of(ask: Callable[[], Any], of: str) -> str:
    """The plan of the statement that has this text in it."""
    asked: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        if of in sql:
            asked.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(note):
        ask()
    [(sql, parameters), *_] = asked
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", parameters)
        return "\n".join(row[0] for row in cursor.fetchall())


def test_accepting_looks_an_address_up_in_a_long_list_by_its_index(
    long_list: Recipient, alice: Project
) -> None:
    submission = Submission(
        project_id=alice.pk, channel="email", recipient="ann@example.com", message="Hello"
    )
    plan = plan_of(lambda: submit(submission), "INSERT INTO notifications_notification")
    assert "using suppression_address" in plan
    assert "Seq Scan on notifications_suppression" not in plan


def test_claiming_looks_an_address_up_in_a_long_list_by_its_index(long_list: Recipient) -> None:
    NotificationFactory(recipient=long_list, address="ann@example.com")
    plan = plan_of(lambda: queue.claim("email.normal", "smtp", 64, 60), "leased_until =")
    assert "using suppression_address" in plan
    assert "Seq Scan on notifications_suppression" not in plan


def test_receipts_that_are_due_are_found_among_many_that_are_not(alice: Project) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO notifications_receipt (provider, event_id, event, reject_reason, code, detail, occurred_at,
                                               provider_message_id, raw, applied_at, due_at)
            SELECT 'mailgun', i::text, 'delivered', '', '', '', now(), i::text, '',
                   CASE WHEN i % 2 = 0 THEN now() END, now() + interval '1 day'
            FROM generate_series(1, 6000) i
            """
        )
        cursor.execute("ANALYZE notifications_receipt")
    plan = plan_of(receipts.apply, "applied_at IS NULL AND due_at <= now()")
    assert "receipt_due" in plan
    assert "Seq Scan on notifications_receipt" not in plan
