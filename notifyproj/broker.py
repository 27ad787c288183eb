"""What a broker's URL decides: how Celery connects to it, and which queues it declares there.

Redis (or Valkey) is the usual one; RabbitMQ serves those who run it anyway. Why as it is: docs/decisions.md.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps
from kombu import Exchange, Queue

#: One queue for each priority, so that urgent lanes and bulk lanes can have workers of their own.
QUEUES = ("high", "normal", "low")

REDIS = frozenset({"redis", "rediss", "redis+socket"})
RABBITMQ = frozenset({"amqp", "amqps"})

#: Wake-ups a queue of RabbitMQ holds at most. Nobody needs an old one, and a full disk would stop its other users.
LONGEST_QUEUE = 10_000


def schemes_of(url: str) -> list[str]:
    """One for each of the servers that Celery may connect to ("amqp://one;amqp://two"); empty where there is none."""
    parts = (server.partition("://") for server in url.split(";"))
    return [scheme.lower() if separator else "" for scheme, separator, _ in parts]


def is_rabbitmq(url: str) -> bool:
    return schemes_of(url)[0] in RABBITMQ


def transport_options(url: str, redis_key_prefix: str) -> dict[str, Any]:
    """Every wait for the broker has an end, in seconds. One that is frozen would else hold a thread for ever."""
    if is_rabbitmq(url):
        return {"confirm_publish": True, "read_timeout": 5, "write_timeout": 5}
    return {
        "visibility_timeout": 900,
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": not url.startswith("redis+socket"),
        "health_check_interval": 10,
        "global_keyprefix": redis_key_prefix,
    }


def tls(url: str) -> dict[str, Any] | bool:
    """For amqps: the server's certificate and name are checked. (Celery's default checks neither.)

    The authorities are the system's, or those of SSL_CERT_FILE. kombu puts the URL's host into `server_hostname`.
    """
    if schemes_of(url)[0] != "amqps":
        return False
    return {"context": {"check_hostname": True}, "server_hostname": None}


def queues(url: str) -> list[Queue]:
    """In RabbitMQ they are quorum queues, and so that a retried wake-up waits in the broker, behind topic exchanges."""
    if not is_rabbitmq(url):
        return [Queue(name, Exchange(name), routing_key=name) for name in QUEUES]
    arguments = {"x-queue-type": "quorum", "x-max-length": LONGEST_QUEUE}
    return [
        Queue(name, Exchange(name, "topic"), routing_key=name, queue_arguments=arguments)
        for name in QUEUES
    ]


class DeclareQueues(bootsteps.StartStopStep):
    """A worker declares the queues that it does not read, too: Celery's next step binds all of them.

    That step, DelayedDelivery, makes the queues in which a wake-up waits that is tried again later.
    """

    requires = ("celery.worker.consumer.connection:Connection",)

    def include_if(self, parent: Any) -> bool:
        return is_rabbitmq(parent.app.conf.broker_url)

    def start(self, parent: Any) -> None:
        for queue in parent.app.amqp.queues.values():
            queue(parent.connection.default_channel).declare()


def declare_queues_in_worker(app: Celery) -> None:
    """To be called in a worker, before it starts."""
    from celery.worker.consumer.delayed_delivery import DelayedDelivery

    app.steps["consumer"].add(DeclareQueues)
    DelayedDelivery.requires = (*(DelayedDelivery.requires or ()), DeclareQueues)
