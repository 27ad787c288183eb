"""The registry: which providers there are, and which of them carries a channel.

A new vendor is one file, one line here, one contract test (tests/providers/contract.py) and a page in
docs/providers: docs/adding-a-provider.md. An e-mail vendor of django-anymail needs none of these: its name will do.
"""

from __future__ import annotations

import os
import threading

from django.utils.module_loading import import_string

from notifications.providers import configuration
from notifications.providers.base import Provider

_PROVIDERS = {
    "inbox": "notifications.providers.inbox.Inbox",
    "sandbox": "notifications.providers.sandbox.Sandbox",
    "smtp": "notifications.providers.smtp.Smtp",
    "telnyx": "notifications.providers.telnyx.Telnyx",
    "twilio": "notifications.providers.twilio.Twilio",
}

for_channel = configuration.vendor_of

_instances: dict[str, Provider] = {}
_making = threading.Lock()


class UnknownProvider(LookupError):
    """No provider has this name."""


def get(name: str) -> Provider:
    """The process's one instance of a provider. Raises UnknownProvider."""
    if name not in _instances:
        with _making:
            if name not in _instances:
                _instances[name] = _make(name)
    return _instances[name]


def names() -> list[str]:
    """Every provider that there is a way to configure."""
    return [*_PROVIDERS, *sorted(configuration.anymail_vendors())]


def of_lane(lane: str) -> str | None:
    """The name of the provider that carries a lane; None where none is configured. The sandbox carries its own."""
    return lane if lane == "sandbox" else for_channel(lane.partition(".")[0])


def repeatable_names() -> list[str]:
    """The providers to which the same message may be handed twice."""
    return [name for name, path in _PROVIDERS.items() if import_string(path).repeatable]


def reporting_names() -> list[str]:
    """The providers that may tell later what became of a message."""
    return ["sandbox", "twilio", *sorted(configuration.anymail_vendors())]


def paced_names() -> list[str]:
    """The providers that may be called too fast: all that leave the house."""
    ours = [name for name, path in _PROVIDERS.items() if import_string(path).has_circuit]
    return [*ours, *sorted(configuration.anymail_vendors())]


def reset() -> None:
    """Forget the instances, and with them their settings and connections."""
    while _instances:
        _instances.popitem()[1].close()


def _make(name: str) -> Provider:
    if name in _PROVIDERS:
        provider: Provider = import_string(_PROVIDERS[name])()
        return provider
    if name in configuration.anymail_vendors():
        from notifications.providers.anymail import Anymail

        return Anymail(name)
    raise UnknownProvider(name)


def _forget_the_parents() -> None:
    """Two processes must not speak on one connection, and the lock's holder may not exist here."""
    global _making
    _making = threading.Lock()
    reset()


os.register_at_fork(after_in_child=_forget_the_parents)
