"""Where a vendor is to report what becomes of one message: our public address, with the notification's id signed.

So a receipt finds its notification also where we never learned the vendor's own id of it.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest

from notifications.providers.events import Forged


def callback_url(provider: str, notification_id: UUID) -> str:
    """The address of this message's webhooks; empty without PUBLIC_URL, since nobody could reach us."""
    if not settings.PUBLIC_URL:
        return ""
    return f"{settings.PUBLIC_URL}/hooks/{provider}/{_signer().sign(notification_id.hex)}"


def notification_of(link: str) -> UUID | None:
    """The notification that a link of `callback_url` names; None without one. Raises Forged."""
    if not link:
        return None
    try:
        return UUID(_signer().unsign(link))
    except BadSignature as error:
        raise Forged("the link is not one of ours") from error


def public_url_of(request: HttpRequest) -> str:
    """The address that the vendor has called, whatever a proxy made of it on the way."""
    if not settings.PUBLIC_URL:
        return request.build_absolute_uri()
    return f"{settings.PUBLIC_URL}{request.get_full_path()}"


def _signer() -> Signer:
    # A colon, Django's own separator, might be percent-encoded on the way, and the vendor signs the address.
    return Signer(salt="hooks", sep=".")
