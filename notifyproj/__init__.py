"""The project. Importing it makes the Celery application known to `@shared_task`."""

from notifyproj.celery import app as celery_app

__all__ = ["celery_app"]
