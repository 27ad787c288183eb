"""A notification's message as its receiver sees it, rendered by the same code that renders what goes out."""

from __future__ import annotations

from dataclasses import dataclass

from notifications.content import message_of
from notifications.explaining import counted
from notifications.models import Channel, Notification
from notifications.providers.base import Message
from notifications.sms_segments import segments

#: Stands first in the frame, so that it holds for all that follows: nothing is loaded and nothing runs, on top of
#: the frame's own sandbox. A tracking pixel would tell the sender that an operator has looked.
_NOTHING_IS_LOADED = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
    '<meta name="referrer" content="no-referrer">'
)


@dataclass(frozen=True, slots=True)
class Preview:
    """The rendered message; `frame` is its HTML part, made harmless to show; `length` an SMS's, in words."""

    message: Message
    frame: str = ""
    length: str = ""


def preview(notification: Notification) -> Preview | None:
    """None where nothing can be shown: the content was erased, or rendering fails as it did for the worker."""
    if notification.erased_at:
        return None
    try:
        message = message_of(notification)
    except Exception:
        return None
    return Preview(
        message=message,
        frame=harmless(message.html) if message.html else "",
        length=sms_length(message.text) if notification.channel == Channel.SMS else "",
    )


def harmless(html: str) -> str:
    """For the `srcdoc` of a frame with `sandbox=""`: it shows itself, and loads and runs nothing."""
    return _NOTHING_IS_LOADED + html


def sms_length(text: str) -> str:
    """In characters, and in the segments that are paid for: `23 characters, 1 segment`."""
    counted_as = segments(text)
    return f"{counted(counted_as.characters, 'character')}, {counted(counted_as.count, 'segment')}"
