"""The service's own Celery application, with a fault at a chosen point. The production code has no such points.

    celery -A drills.faults worker ...      FAULT_AT=claimed|begun|answered|rendering  FAULT=crash|pause|raise

| FAULT_AT | where |
|---|---|
| claimed | after CLAIM, before BEGIN |
| begun | after BEGIN is committed, before a byte leaves |
| answered | after the vendors' answers, before SETTLE |
| rendering | while a message with the word FAULT_WORD is made |

`crash` is the end of the process, at once, as kill -9 is. `pause`, the first time only, stands still until the file
FAULT_UNTIL is there, as a virtual machine that is moved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import django

from notifyproj.celery import app

AT = os.environ.get("FAULT_AT", "")
FAULT = os.environ.get("FAULT", "crash")
UNTIL = Path(os.environ.get("FAULT_UNTIL", "/"))
#: Seconds in which what is in flight beside the first answer is answered as well.
OTHERS_ANSWERED = 1.0
#: What makes a message deadly, or unspeakable.
WORD = os.environ.get("FAULT_WORD", "poison")

__all__ = ["app"]

_paused = False


def strike() -> None:
    """The fault."""
    global _paused
    if FAULT == "crash":
        os._exit(9)
    if FAULT == "raise":
        raise RuntimeError("a fault of the drill")
    if not _paused:
        _paused = True
        while not UNTIL.exists():
            time.sleep(0.02)


def _install() -> None:
    django.setup()  # Celery does so later, and the engine cannot be imported before.
    from notifications import delivery, queue

    queue.claim = _after(queue.claim, "claimed")
    queue.begin = _after(queue.begin, "begun")
    queue.settle = _before_settle(queue.settle)
    delivery.render = _poisoned(delivery.render)  # type: ignore[attr-defined]


def _after(statement: Callable[..., Any], point: str) -> Callable[..., Any]:
    """The statement; once it has taken rows, the fault."""

    def faulty(*args: Any, **kwargs: Any) -> Any:
        rows = statement(*args, **kwargs)
        if point == AT and rows:
            strike()
        return rows

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
        if AT == "rendering" and WORD in row.message:
            strike()
        return render(row, *args, **kwargs)

    return faulty


_install()
