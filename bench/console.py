"""What the console costs at the size of a big ledger: every page, asked again and again about other things.

The ledger is that of `manage.py seed_demo`. With --keep the one that is there already is asked (`VAR_DIR` says where),
and nothing of it is changed. Django's test client asks in this process: the time is that of the whole request without
the web server. Columns: milliseconds of half and of 95 of 100 requests; of these the database's, as the process waits
for it; the queries, at most; and how many times as long as the list of projects, a small page, it takes.

A page that this version does not have is left out, and named.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from html import unescape
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import NoReverseMatch, reverse

from bench.figures import Figures
from notifications.ids import first_of
from notifications.models import Attempt, Batch, Notification
from users.models import ApiKey, Project, Recipient, User

#: How often each page is asked for, each time about something else.
ROUNDS = 30
#: Whoever asks; made for it, and removed.
OPERATOR = "bench-console"
#: What the list of later versions is asked by, beside what it always was.
PAGING = re.compile(r'href="(\?[^"]*(?:before|cursor|after|p)=[^"]*)"')

Address = Callable[["Sample"], str]


class Sample:
    """Notifications from all over the ledger, and what belongs to them."""

    def __init__(self) -> None:
        self.random = random.Random(7)
        first = Notification.objects.order_by("id")[0].created_at
        last = Notification.objects.order_by("-id")[0].created_at
        self.first, self.length = first, last - first

    def any(self, **wanted: Any) -> Notification:
        """One of these from a moment at random on."""
        moment = self.first + self.length * self.random.random() * 0.98
        later = Notification.objects.filter(id__gte=first_of(moment), **wanted).order_by("id")
        found = later.first()
        return found if found is not None else Notification.objects.filter(**wanted)[0]

    def hours(self, number: int) -> dict[str, str]:
        began = self.any().created_at
        ended = began + self.length / (14 * 24) * number
        return {"created_from": f"{began:%Y-%m-%dT%H:%M}", "created_to": f"{ended:%Y-%m-%dT%H:%M}"}


def run(rows: int, keep: bool) -> Figures:
    call_command("collectstatic", verbosity=0, interactive=False)
    if not keep:
        call_command("seed_demo", "--rows", str(rows), "--yes")
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    counted = {
        "notifications": Notification.objects.count(),
        "attempts": Attempt.objects.count(),
        "recipients": Recipient.objects.count(),
    }
    print(", ".join(f"{number:,} {name}" for name, number in counted.items()), flush=True)
    with Asking() as asking:
        return asking.figures()


class Asking:
    """An operator's session and a project's key, for as long as it takes."""

    def __enter__(self) -> Asking:
        User.objects.filter(username=OPERATOR).delete()
        self.operator = User.objects.create_superuser(OPERATOR)
        self.client = Client(HTTP_HOST="localhost", raise_request_exception=False)
        self.client.force_login(self.operator)
        project = Project.objects.order_by("id")[0]
        self.key = ApiKey(project=project, name=OPERATOR)
        self.authorization = f"Bearer {self.key.issue()}"
        self.key.save()
        self.project = project
        self.sample = Sample()
        return self

    def __exit__(self, *raised: object) -> None:
        self.client.logout()
        self.operator.delete()
        self.key.delete()

    def figures(self) -> Figures:
        figures: Figures = {}
        trivial = self._measured(lambda sample: _url("users_project_changelist"))
        assert trivial
        for name, address in {"list of projects": _projects, **pages(self)}.items():
            measured = self._measured(address)
            if not measured:
                print(f"left out: {name}", flush=True)
                continue
            measured["x"] = measured["p50 ms"] / trivial["p50 ms"]
            figures |= {f"{name}: {column}": value for column, value in measured.items()}
            print(f"{name}: p95 {measured['p95 ms']:.0f} ms", flush=True)
        return figures

    def _measured(self, address: Address) -> dict[str, float]:
        """Empty where there is no such page."""
        asked: list[tuple[float, float, int]] = []
        for number in range(ROUNDS + 1):
            try:
                url = address(self.sample)
            except (NoReverseMatch, NoMorePages):
                return {}
            cost = self._ask(url)
            if cost is None:
                return {}
            if number:  # The first one loads templates.
                asked.append(cost)
        times = [seconds * 1000 for seconds, _, _ in asked]
        return {
            "p50 ms": median(times),
            "p95 ms": quantiles(times, n=20)[-1],
            "database ms": median(database * 1000 for _, database, _ in asked),
            "queries": max(queries for _, _, queries in asked),
        }

    def _ask(self, url: str) -> tuple[float, float, int] | None:
        """Seconds, those in the database, queries. None where the answer is not the page."""
        database: list[float] = []

        def timed(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
            began = time.perf_counter()
            try:
                return execute(sql, parameters, many, context)
            finally:
                database.append(time.perf_counter() - began)

        headers = {"HTTP_AUTHORIZATION": self.authorization} if url.startswith("/api/") else {}
        with connection.execute_wrapper(timed):
            began = time.perf_counter()
            answer = self.client.get(url, **headers)  # type: ignore[arg-type]  # environ
            _begin_to_read(answer)
            seconds = time.perf_counter() - began
        if answer.status_code != 200:
            print(f"{answer.status_code} {url}", flush=True)
            return None
        return seconds, sum(database), len(database)

    def deep_pages(self) -> Iterator[str]:
        """One page of the list after the other."""
        list_ = url = _list()
        while True:
            links = PAGING.findall(self.client.get(url).content.decode())
            if not links:
                raise NoMorePages
            url = list_ + unescape(links[-1])
            yield url


class NoMorePages(Exception):
    """The list has no next page."""


def _begin_to_read(answer: Any) -> None:
    """Of what is streamed, the first bytes are what one waits for."""
    if answer.streaming:
        next(iter(answer.streaming_content), b"")
        answer.close()


def _url(name: str, *values: Any) -> str:
    return reverse(f"admin:{name}", args=values)


def _projects(sample: Sample) -> str:
    return _url("users_project_changelist")


def _list(**query: Any) -> str:
    return _url("notifications_notification_changelist") + (f"?{urlencode(query)}" if query else "")


def pages(asking: Asking) -> dict[str, Address]:
    """What is asked: name -> its address for a sample."""
    return {**_whole_pages(asking), **_searches(), **_filters(asking), **_calls()}


def _whole_pages(asking: Asking) -> dict[str, Address]:
    deep: list[Iterator[str]] = []

    def next_page(sample: Sample) -> str:
        deep[:] = deep or [asking.deep_pages()]
        return next(deep[0])

    def detail(**wanted: Any) -> Address:
        return lambda sample: _url("notifications_notification_change", sample.any(**wanted).pk)

    return {
        "first page": lambda sample: _url("index"),
        "list": lambda sample: _list(),
        "list, further pages": next_page,
        "detail, any": detail(),
        "detail, failed": detail(status="failed"),
        "detail, tried often": detail(attempt_count__gt=2),
        "detail, resent": detail(resend_of__isnull=False),
        "recipient": lambda sample: _url("users_recipient_change", sample.any().recipient_id),
        "list of recipients": lambda sample: _url("users_recipient_changelist"),
        "batch": lambda sample: _url("notifications_batch_change", Batch.objects.all()[0].pk),
        "list of batches": lambda sample: _url("notifications_batch_changelist"),
        "list of receipts": lambda sample: _url("notifications_receipt_changelist"),
        "list of suppressions": lambda sample: _url("notifications_suppression_changelist"),
        "list of flows": lambda sample: _url("notifications_flow_changelist"),
        "list of circuits": lambda sample: _url("notifications_circuit_changelist"),
        "list of bulk actions": lambda sample: _url("notifications_bulkaction_changelist"),
        "CSV of failed, first bytes": lambda sample: (
            _url("notifications_notification_export") + "?status=failed"
        ),
    }


def _searches() -> dict[str, Address]:
    def phone(sample: Sample) -> str:
        """As a customer spells it."""
        digits = sample.any(channel="sms").address.removeprefix("+1")
        return f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"

    return {
        "search, id": lambda sample: _list(q=sample.any().pk),
        "search, reference": lambda sample: _list(q=sample.any(reference__gt="").reference),
        "search, user id": lambda sample: _list(q=sample.any().user_id),
        "search, e-mail": lambda sample: _list(q=f" {sample.any(channel='email').address.upper()}"),
        "search, phone": lambda sample: _list(q=sample.any(channel="sms").address),
        "search, phone odd spelling": lambda sample: _list(q="+1 " + phone(sample)),
        "search, provider's id": lambda sample: _list(
            q=sample.any(provider_message_id__gt="").provider_message_id
        ),
        "search, nothing": lambda sample: _list(q=f"nobody{sample.random.random()}@example.com"),
    }


def _filters(asking: Asking) -> dict[str, Address]:
    project = asking.project.pk
    fixed: dict[str, dict[str, Any]] = {
        "status failed": {"status": "failed"},
        "status sent": {"status": "sent"},
        "status pending": {"status": "pending"},
        "status unknown": {"status": "unknown"},
        "held": {"held": "1"},
        "channel sms": {"channel": "sms"},
        "priority high": {"priority": "high"},
        "test keys": {"live": "0"},
        "project": {"project": project},
        "provider twilio": {"provider": "twilio"},
        "failure code": {"failure_code": "twilio_30005"},
        "category": {"category": "payments"},
        "resent": {"resent": "1"},
        "failed sms of a project": {"status": "failed", "channel": "sms", "project": project},
        "failed 452 by smtp": {"status": "failed", "provider": "smtp", "failure_code": "452"},
        "nothing at all": {"status": "expired", "channel": "in_app", "priority": "low"},
    }
    addresses: dict[str, Address] = {
        f"filter, {name}": (lambda sample, query=query: _list(**query))  # type: ignore[misc]
        for name, query in fixed.items()
    }
    return addresses | {
        "filter, recipient": lambda sample: _list(recipient=sample.any().recipient_id),
        "filter, batch": lambda sample: _list(batch=Batch.objects.all()[1].pk),
        "filter, six hours": lambda sample: _list(**sample.hours(6)),
        "filter, failed in six hours": lambda sample: _list(status="failed", **sample.hours(6)),
    }


def _calls() -> dict[str, Address]:
    return {
        "GET /stats": lambda sample: "/api/v1/stats",
        "GET /stats, 14 days by category": lambda sample: (
            "/api/v1/stats?"
            + urlencode({"by": "category", "from": f"{sample.first:%Y-%m-%dT%H:%M:%SZ}"})
        ),
        "GET explain": lambda sample: (
            f"/api/v1/notifications/{sample.any(project_id=1, status='failed').pk}/explain"
        ),
    }
