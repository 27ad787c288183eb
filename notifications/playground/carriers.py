"""By whom a visitor's message is carried, channel by channel, and whether it leaves this machine."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from notifications import providers
from notifications.models import Channel


@dataclass(frozen=True, slots=True)
class Carrier:
    """`live` as in a Submission; `leaves`: whether somebody out there gets it; `words` say so."""

    channel: str
    live: bool
    leaves: bool
    words: str


def carriers(*, is_staff: bool) -> list[Carrier]:
    return [carrier_of(channel, is_staff=is_staff) for channel in Channel.values]


def carrier_of(channel: str, *, is_staff: bool) -> Carrier:
    """A vendor is for signed-in staff. In-app is always live, so that what a live key sends rings the same bells."""
    if channel == Channel.IN_APP:
        return Carrier(channel, True, False, _IN_APP)
    vendor = providers.for_channel(channel)
    if vendor is None:
        return Carrier(channel, settings.SANDBOX, False, f"{_KEPT} No vendor is set up for {_name(channel)}.")  # fmt: skip
    if not is_staff:
        return Carrier(channel, False, False, f"{_KEPT} {vendor} would carry it for signed-in staff.")  # fmt: skip
    return Carrier(channel, True, True, f"This is really sent, by {vendor}.")


_IN_APP = "It stays here: it rings the bell of that user, and no other."
_KEPT = "Nothing leaves this machine: the sandbox keeps it, and you can open it below."


def _name(channel: str) -> str:
    return "e-mail" if channel == Channel.EMAIL else "SMS"
