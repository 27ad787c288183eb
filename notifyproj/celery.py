"""The Celery application: the engine's wake-up calls. Work is never in a message (docs/decisions.md)."""

import os

from celery import Celery
from celery.signals import celeryd_init, setup_logging

from notifyproj import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")

app = Celery("notifyproj")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def keep_djangos_logging(**kwargs: object) -> None:
    """Django's settings have configured the logs already; a receiver here stops Celery from doing so."""


@celeryd_init.connect
def declare_queues(**kwargs: object) -> None:
    broker.declare_queues_in_worker(app)


# The sweep runs inside every worker, whatever the broker does.
from notifications.worker import add_sweep_to_worker  # noqa: E402

add_sweep_to_worker(app)
