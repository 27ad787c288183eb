"""The service's own Celery application, with a sandbox whose calls never return."""

import threading

from notifications.providers.sandbox import Sandbox
from notifyproj.celery import app

__all__ = ["app"]


def never_return(*arguments: object) -> None:
    threading.Event().wait()


Sandbox.send = never_return  # type: ignore[assignment,method-assign]
