"""Whether this process has been told to stop: then nothing new is claimed."""

from __future__ import annotations

import threading

_stopping = threading.Event()


def is_stopping() -> bool:
    return _stopping.is_set()


def stop() -> None:
    """From now on claim nothing new; what is in flight is finished and settled."""
    _stopping.set()


def wait(seconds: float) -> bool:
    """Sleep, but not beyond the moment of stopping. Returns whether it has come."""
    return _stopping.wait(seconds)
