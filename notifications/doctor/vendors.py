"""The providers: is there one for each channel, and would it take a message from us now."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from notifications import providers
from notifications.doctor.findings import Finding, error, ok, warning, words
from notifications.models import Channel
from notifications.providers.base import Misconfigured, ProviderError
from notifications.providers.deadline import Deadline

#: Seconds one provider has for its answer.
DEADLINE = 10.0


def configured() -> Iterator[Finding]:
    """By the settings alone; nobody is asked."""
    for channel in Channel:
        name = providers.for_channel(channel)
        component = f"provider.{channel.value}"
        if name:
            yield ok(component, f"{name}.")
        elif settings.SANDBOX:
            yield ok(component, "Sandbox: nothing leaves this machine.")
        else:
            yield warning(
                component,
                "no_provider",
                "No provider is configured; live notifications are refused.",
                f"Configure one (README, Send for real) if {channel.label} shall be sent; manage.py check names "
                "what is missing.",
            )


def verified() -> Iterator[Finding]:
    """The same, and each provider asked over a real connection. Sends nothing."""
    for finding in configured():
        name = providers.for_channel(finding.component.removeprefix("provider."))
        yield _verified(finding.component, name) if name else finding


def _verified(component: str, name: str) -> Finding:
    try:
        answer = providers.get(name).verify(Deadline(DEADLINE))
    except Misconfigured as refusal:
        return error(
            component,
            "provider_refuses",
            f"{name} refuses us: nothing of it can be sent.",
            "Correct the account, password or key in the settings, then restart workers. What waits goes out by "
            "itself; no notification fails by it.",
            f"{refusal.code}: {refusal.detail}",
        )
    except ProviderError as failure:
        return error(
            component,
            "provider_unreachable",
            f"{name} cannot be asked: it is down, or the network does not lead there.",
            "Look at the vendor's status page, at name resolution, at the firewall of this machine and the "
            "workers'. What waits is tried again by itself.",
            f"{failure.code}: {failure.detail}",
        )
    except Exception as failure:  # A vendor's library may raise anything.
        return error(
            component,
            "provider_broken",
            f"{name} could not even be asked.",
            "Look at its settings; if they are right, report this.",
            words(failure),
        )
    return ok(component, f"{name} takes our messages." if answer else f"{name}.", answer)
