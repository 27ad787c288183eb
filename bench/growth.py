"""What the table's size costs: milliseconds in the database (planning and execution, medians) and pages read.

At 10 thousand, 1 million and 5 million rows, then with a million future and a million paused rows besides. The rows are
made by the database, as old as if 100,000 came a day. `old project` has a good share of the rows, none of them new: the
case in which walking back from the newest row looks quick to PostgreSQL, and is not.

What an API call asks is taken from the call itself and asked again under EXPLAIN (ANALYZE, BUFFERS).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from django.db import connection
from django.db.models.functions import Now
from rest_framework.test import APIClient

from bench import rows
from bench.figures import Figures
from notifications import intake, invariants, queue, sweeping
from notifications.doctor import backlog
from notifications.models import Flow, Notification
from users import directory
from users.models import ApiKey, Project, Recipient

FIRST, MIDDLE = 10_000, 1_000_000
RECIPIENTS = 100_000
#: The old project's rows: so many at first, then all up to this share of the total.
OLDEST, OLD_SHARE = 4_000, 0.08
DAILY = 100_000
DUE = 10_000
#: How often each is asked; a claim takes `CHUNK` rows.
CREATES, CLAIMS, READS, CHUNK = 200, 50, 30, 100

EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "

MAKE_RECIPIENTS = """
INSERT INTO users_recipient (project_id, user_id, name, locale, timezone, provisional, created_at)
SELECT %(project)s, 'user' || i, '', '', '', false, now() FROM generate_series(1, %(count)s) i
"""

# Rows i of (first, last], the higher the newer. Every fiftieth belongs to a small project, every tenth to ten people
# who have more than a page from the start.
FILL = """
INSERT INTO notifications_notification (
    id, project_id, flow_id, recipient_id, user_id, channel, priority, live, address, title, message,
    html, url, category, reference, metadata, status, failure_kind, failure_code, failure_detail, provider,
    provider_message_id, created_at, due_at, expires_at, sent_at, fence, attempt_count, lapses, resends)
SELECT uuidv7(age), owner.project, owner.flow, %(recipient)s + person, 'user' || person, 'email', 'normal',
       true, 'user' || person || '@example.com', 'Hello', 'Hello Ada, your order is on its way.', '', '', '',
       CASE WHEN i %% 4 = 0 THEN 'order-' || i ELSE '' END, '{}',
       state, CASE state WHEN 'failed' THEN 'permanent' ELSE '' END, '', '', 'smtp', 'message-' || i,
       now() + age, now() + age, now() + age + interval '3 days',
       CASE state WHEN 'sent' THEN now() + age END, 1, 1, 0, 0
FROM generate_series(%(first)s::bigint + 1, %(last)s) i
CROSS JOIN LATERAL (SELECT make_interval(secs => (i - %(total)s) * 86400.0 / %(daily)s) AS age,
                           CASE i %% 10 WHEN 3 THEN 1 + i / 10 %% 10
                                ELSE 1 + i * 7919 %% %(recipients)s END AS person,
                           CASE WHEN i %% 100 = 7 THEN 'failed' ELSE 'sent' END AS state,
                           CASE WHEN i <= %(oldest)s OR i > %(first_size)s AND i <= %(old)s THEN 0 WHEN i %% 50 = 0 THEN 1 ELSE 2 END AS kind) row
JOIN unnest(%(projects)s::bigint[], %(flows)s::bigint[]) WITH ORDINALITY AS owner (project, flow, number)
  ON owner.number = kind + 1
"""

#: Database milliseconds and pages (of 8 KB) of one statement or one call.
Cost = tuple[float, float]


def run(rows: int, beside: int) -> Figures:
    growth = Growth(rows, beside)
    costs: dict[str, dict[str, Cost]] = {}
    for name, grow in growth.stages():
        began = time.monotonic()
        grow()
        made = time.monotonic()
        costs[name] = growth.measure()
        print(
            f"{name}: made in {made - began:.0f} s, asked in {time.monotonic() - made:.0f} s",
            flush=True,
        )
    growth.clean_up()
    return _figures(costs)


def _figures(costs: dict[str, dict[str, Cost]]) -> Figures:
    """Rows of a table by what was asked; columns: ms and pages at each size, and what growth multiplies ms by."""
    first, grown = list(costs)[0], list(costs)[2]
    figures: Figures = {}
    for asked in costs[first]:
        figures |= {f"{asked}: {name} ms": cost[asked][0] for name, cost in costs.items()}
        figures[f"{asked}: {grown}/{first}"] = costs[grown][asked][0] / costs[first][asked][0]
        figures |= {f"{asked}: {name} pages": cost[asked][1] for name, cost in costs.items()}
    return figures


class Growth:
    """The table at one size after the other, and the calls that are made at each."""

    def __init__(self, total: int, beside: int) -> None:
        rows.empty()
        self.total = total
        self.beside = beside
        self.filled = 0
        self.projects = [
            Project.objects.create(name=f"{name} project") for name in ("old", "small", "bulk")
        ]
        self.flows = [intake.flow_of(project.pk, "email.normal") for project in self.projects]
        with connection.cursor() as cursor:
            cursor.execute(MAKE_RECIPIENTS, {"project": self.projects[2].pk, "count": RECIPIENTS})
        first = Recipient.objects.order_by("id").values_list("id", flat=True)[0]
        self.before_first_recipient = first - 1
        self.clients = {project.name: _client(project) for project in self.projects}

    def stages(self) -> Iterable[tuple[str, Callable[[], None]]]:
        yield "10k", lambda: self._fill(FIRST)
        yield "1M", lambda: self._fill(min(MIDDLE, self.total))
        yield f"{self.total / 1e6:g}M", lambda: self._fill(self.total)
        yield "+future", lambda: self._fill_beside("1 day", paused=False)
        yield "+paused", lambda: self._fill_beside("-1 day", paused=True)

    def measure(self) -> dict[str, Cost]:
        costs = {"create": self._create(), "claim of 100": self._claim()}
        costs |= {name: self._read(*call) for name, call in self._reads().items()}
        carried = {"lanes": ["email.normal"], "providers": ["smtp"]}
        overdue = carried | {"overdue": sweeping.OVERDUE, "unswept": invariants.UNSWEPT}
        costs["health, its lanes"] = _median(
            _explained(backlog.LANES, overdue) for _ in range(READS)
        )
        costs["sweep, overdue lanes"] = _median(
            _explained(sweeping.OVERDUE_LANES, overdue) for _ in range(READS)
        )
        return costs

    def clean_up(self) -> None:
        rows.empty()
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
            cursor.execute("CHECKPOINT")

    def _fill(self, last: int) -> None:
        parameters = {
            "first": self.filled,
            "last": last,
            "total": self.total,
            "daily": DAILY,
            "recipient": self.before_first_recipient,
            "recipients": RECIPIENTS,
            "oldest": OLDEST,
            "first_size": FIRST,
            "old": int(self.total * OLD_SHARE),
            "projects": [project.pk for project in self.projects],
            "flows": self.flows,
        }
        _run(FILL, parameters)
        _run("VACUUM ANALYZE notifications_notification")
        self.filled = last

    def _fill_beside(self, age: str, *, paused: bool) -> None:
        """More that wait: for their day, or in a flow that is paused."""
        flow = Flow.objects.get(pk=self.flows[1 if paused else 2])
        rows.fill(flow, self.beside, due_in=age)
        Flow.objects.filter(pk=flow.pk).update(paused=paused)

    def _reads(self) -> dict[str, tuple[str, str]]:
        """What is asked: name -> whose key, path."""
        list_ = "/api/v1/notifications"
        return {
            "list": ("bulk project", list_),
            "list, old project": ("old project", list_),
            "list, old project, page 2": ("old project", self._page_2(list_)),
            "list, ?status=failed": ("bulk project", f"{list_}?status=failed"),
            "list, ?status=failed, old project": ("old project", f"{list_}?status=failed"),
            "list, ?reference=": ("bulk project", f"{list_}?reference=order-4004"),
            "list, ?created_before=": (
                "bulk project",
                f"{list_}?created_before={self._first_hour()}",
            ),
            "history": ("bulk project", "/api/v1/users/user3/notifications"),
            "history, ?user_id=": ("bulk project", f"{list_}?user_id=user3"),
        }

    def _page_2(self, path: str) -> str:
        answer = self.clients["old project"].get(path, HTTP_HOST="localhost").json()
        return str(answer["next"])

    def _first_hour(self) -> str:
        oldest = Notification.objects.order_by("id").first()
        assert oldest is not None
        end = oldest.created_at.timestamp() + 3600
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end))

    def _read(self, owner: str, path: str) -> Cost:
        """All that the call asks of the ledger."""
        asked: list[tuple[str, Any]] = []

        def note(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
            if sql.startswith("SELECT") and "notifications_notification" in sql:
                asked.append((sql, parameters))
            return execute(sql, parameters, many, context)

        with connection.execute_wrapper(note):
            answer = self.clients[owner].get(path, HTTP_HOST="localhost")
        assert answer.json()["results"], (path, answer.content)
        costs = [_median(_explained(*statement) for _ in range(READS)) for statement in asked]
        return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)

    def _create(self) -> Cost:
        return _median(_explained(*self._statement(number)) for number in range(CREATES))

    def _statement(self, number: int) -> tuple[str, dict[str, Any]]:
        """All that intake asks of the database for a notification to somebody known."""
        person = 1 + number * 499 % RECIPIENTS
        submission = intake.Submission(
            project_id=self.projects[2].pk,
            user_id=f"user{person}",
            recipient=f"user{person}@example.com",
            channel="email",
            message="Hello",
        )
        search = directory.search_for(
            submission.project_id, submission.channel, submission.user_id, submission.recipient
        )
        assert search is not None
        values = intake._values(submission, self.flows[2], in_sandbox=False)
        return intake.INSERTS[search.query], values | search.parameters()

    def _claim(self) -> Cost:
        """Of rows that are put there for it and finished afterwards."""
        flow = Flow.objects.get(pk=self.flows[2])
        rows.fill(flow, DUE)
        parameters = {"lane": flow.lane, "provider": "smtp", "limit": CHUNK, "lease": 600}
        cost = _median(_explained(queue.CLAIM, parameters) for _ in range(CLAIMS))
        done = Notification.objects.filter(flow=flow, status="pending", due_at__lte=Now())
        done.update(status="cancelled", leased_until=None)
        _run("VACUUM notifications_notification")
        return cost


def _client(project: Project) -> APIClient:
    key = ApiKey(project=project, name="bench")
    token = key.issue()
    key.save()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def _explained(statement: str, parameters: Any) -> Cost:
    with connection.cursor() as cursor:
        cursor.execute(EXPLAIN + statement, parameters)
        found = cursor.fetchone()[0]
    (explained,) = json.loads(found) if isinstance(found, str) else found
    plan = explained["Plan"]
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return explained["Planning Time"] + explained["Execution Time"], pages


def _median(costs: Iterable[Cost]) -> Cost:
    times, pages = zip(*costs, strict=True)
    return median(times), median(pages)


def _run(statement: str, parameters: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
