"""What rendering reads (rendering.Content) of a notification that is stored, or would be."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings

from notifications.models import Notification
from notifications.providers.base import Message
from notifications.rendering import render


@dataclass(frozen=True, slots=True)
class _Content:
    id: UUID
    channel: str
    address: str
    title: str
    message: str
    html: str
    from_email: str
    from_name: str
    reply_to: str


def message_of(notification: Notification) -> Message:
    """The message as it goes out, by the code that renders it for the provider. Raises what that raises."""
    return render(_content_of(notification), settings.DEFAULT_FROM_EMAIL)


def _content_of(notification: Notification) -> _Content:
    project = notification.project
    return _Content(
        id=notification.id,
        channel=notification.channel,
        address=notification.address,
        title=notification.title,
        message=notification.message,
        html=notification.html,
        from_email=project.from_email,
        from_name=project.from_name,
        reply_to=project.reply_to,
    )
