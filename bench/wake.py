"""From the POST to the hand-over at the provider: at rest, and under 200 requests a second.

The clock starts when the request should be sent and stops when its attempt began (both clocks are this machine's), so
that a request which waits for a free connection is not timed from when it got one.
"""

from __future__ import annotations

import time

from bench import load, stack
from bench.figures import Figures
from notifications.models import Attempt

#: Seconds until the workers have started, and until the last row has been begun.
START, END = 8.0, 2.0


def run(rest: float, seconds: float, rate: int) -> Figures:
    _, key = stack.make_key()
    port = stack.free_port()
    with stack.processes(
        stack.web(port),
        stack.worker("urgent", "high,normal"),
        stack.worker("bulk", "low"),
    ):
        stack.wait_for(f"http://127.0.0.1:{port}/readyz")
        time.sleep(START)
        load.paced(port, key, rate=50, seconds=2)  # warm up
        at_rest = load.paced(port, key, rate=10, seconds=rest)
        busy = load.paced(port, key, rate=rate, seconds=seconds)
        time.sleep(END)
    return _figures("at rest", at_rest) | _figures(f"at {rate} requests/s", busy)


def _figures(name: str, posted: load.Posted) -> Figures:
    took = to_hand_over(posted)
    return {
        f"POST to hand-over {name}, p50, ms": load.percentile(took, 0.5),
        f"POST to hand-over {name}, p99, ms": load.percentile(took, 0.99),
        f"POST to hand-over {name}, slowest, ms": took[-1],
    }


def to_hand_over(posted: load.Posted) -> list[float]:
    """Milliseconds from each POST to its first attempt, the shortest first. Raises KeyError where one has none."""
    begun = dict(
        Attempt.objects.filter(notification__in=posted, fence=1).values_list(
            "notification_id", "started_at"
        )
    )
    return sorted((begun[id].timestamp() - at) * 1000 for id, at in posted.items())
