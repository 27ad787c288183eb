"""From the POST to the hand-over at the provider, on an idle system.

The clock starts before the request is sent and stops when the attempt began (both clocks are this machine's).
"""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from datetime import UTC, datetime

from bench import stack
from bench.figures import Figures
from notifications.models import Attempt


def run(posts: int) -> Figures:
    _, key = stack.make_key()
    port = stack.free_port()
    url = f"http://127.0.0.1:{port}"
    with stack.processes(stack.web(port), stack.worker("worker")):
        stack.wait_for(f"{url}/readyz")
        time.sleep(8)
        posted = {}
        for number in range(posts):
            started = datetime.now(UTC)
            posted[_post(url, key, number)] = started
            time.sleep(0.1)
        time.sleep(2)
    begun = dict(Attempt.objects.values_list("notification_id", "started_at"))
    took = sorted((begun[i] - started).total_seconds() * 1000 for i, started in posted.items())
    return {
        "POST to hand-over, p50, ms": statistics.median(took),
        "POST to hand-over, p95, ms": took[int(len(took) * 0.95)],
        "POST to hand-over, slowest, ms": took[-1],
    }


def _post(url: str, key: str, number: int):  # type: ignore[no-untyped-def]
    from uuid import UUID

    body = {"user_id": f"user{number % 10}", "channel": "email", "message": "Hello"}
    request = urllib.request.Request(
        f"{url}/api/v1/notifications",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return UUID(json.load(answer)["id"])
