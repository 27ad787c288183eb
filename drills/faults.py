"""The service's own Celery application, with a fault at a chosen point. The production code has no such points.

    celery -A drills.faults worker ...      FAULT_AT=claimed|begun|answered|rendering  FAULT=crash|pause

| FAULT_AT | where |
|---|---|
| claimed | after CLAIM, before BEGIN |
| begun | after BEGIN is committed, before a byte leaves |
| answered | after the vendors' answers, before SETTLE |
| rendering | while a message with the word `poison` is made |

`crash` is the end of the process, at once, as kill -9 is. `pause` is FAULT_SECONDS of sleep, the first time only, as a
virtual machine that is moved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from notifyproj.celery import app

AT = os.environ.get("FAULT_AT", "")
FAULT = os.environ.get("FAULT", "crash")
SECONDS = float(os.environ.get("FAULT_SECONDS", "0"))
#: Seconds in which what is in flight beside the first answer is answered as well.
OTHERS_ANSWERED = 1.0
POISON = "poison"

__all__ = ["app"]

_paused = False


def strike() -> None:
    """The fault."""
    global _paused
    if FAULT == "crash":
        os._exit(9)
    if not _paused:
        _paused = True
        time.sleep(SECONDS)


def _install() -> None:
    from notifications import delivery, queue

    queue.begin = _around_begin(queue.begin)
    queue.settle = _before_settle(queue.settle)
    delivery.render = _poisoned(delivery.render)


def _around_begin(begin: Callable[..., Any]) -> Callable[..., Any]:
    def faulty(rows: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if AT == "claimed" and rows:
            strike()
        begun = begin(rows, *args, **kwargs)
        if AT == "begun" and begun:
            strike()
        return begun

    return faulty


def _before_settle(settle: Callable[..., Any]) -> Callable[..., Any]:
    def faulty(settlements: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        if AT == "answered" and settlements:
            time.sleep(0 if _paused else OTHERS_ANSWERED)
            strike()
        return settle(settlements, *args, **kwargs)

    return faulty


def _poisoned(render: Callable[..., Any]) -> Callable[..., Any]:
    def faulty(row: Any, *args: Any, **kwargs: Any) -> Any:
        if AT == "rendering" and POISON in row.message:
            strike()
        return render(row, *args, **kwargs)

    return faulty


_install()
