"""How long an urgent notification takes while a bulk send drains, with workers as script/server has them.

100,000 rows of `email.low` drain in their worker, to a provider that answers at once (so that they take all the
processor they can get), and meanwhile `high` ones are posted.
"""

from __future__ import annotations

import time

from bench import load, rows, stack, wake
from bench.figures import Figures
from notifications.models import Notification
from notifications.waking import publish

LANE = "email.low"
#: Makes e-mail a channel with a vendor, so that its lanes are in use; the workers' vendor is bench.worker's.
SMTP = {"EMAIL_URL": "smtp://127.0.0.1:9"}


def run(low: int, rate: int) -> Figures:
    _, key = stack.make_key()
    port = stack.free_port()
    flow = rows.paused_flow(LANE)
    rows.fill(flow, low)
    with stack.processes(
        stack.web(port),
        stack.worker("urgent", "high,normal"),
        stack.worker("bulk", "low"),
        **SMTP,
    ):
        stack.wait_for(f"http://127.0.0.1:{port}/readyz")
        time.sleep(wake.START)
        load.paced(port, key, rate=rate, seconds=2, priority="high")  # warm up
        at_rest = load.paced(port, key, rate=rate, seconds=5, priority="high")
        flow.paused = False
        flow.save()
        started = time.time()
        publish(LANE)
        posted = load.paced(port, key, rate=rate, priority="high", until=_is_drained)
        drained = time.time()
        time.sleep(wake.END)
    took = wake.to_hand_over(posted)
    return {
        "high at rest, p99, ms": load.percentile(wake.to_hand_over(at_rest), 0.99),
        "high beside the bulk, p50, ms": load.percentile(took, 0.5),
        "high beside the bulk, p99, ms": load.percentile(took, 0.99),
        "high beside the bulk, slowest, ms": took[-1],
        "high beside the bulk, notifications": len(took),
        "bulk meanwhile, /s": low / (drained - started),
    }


def _is_drained() -> bool:
    waiting = Notification.objects.filter(priority="low", status__in=("pending", "sending"))
    return not waiting.exists()
