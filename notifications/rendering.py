"""From a notification to the message that goes out: pure, no I/O after the first call."""

from __future__ import annotations

import re
from email.utils import formataddr
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Protocol
from uuid import UUID

from notifications.providers.base import Message

#: Longest subject that is made from a message's first line, in characters.
SUBJECT_FROM_MESSAGE = 120
_LINK = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")
_TEMPLATE = Path(__file__).parent.parent / "templates" / "email" / "message.html"


class Content(Protocol):
    """What rendering reads: a claimed row, or anything shaped like one."""

    @property
    def id(self) -> UUID: ...
    @property
    def channel(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def html(self) -> str: ...
    @property
    def from_email(self) -> str: ...
    @property
    def from_name(self) -> str: ...
    @property
    def reply_to(self) -> str: ...


def render(content: Content, default_from: str = "") -> Message:
    """The message as it goes out. The caller's own `html` is taken as it stands."""
    if content.channel != "email":
        return Message(
            notification_id=content.id,
            channel=content.channel,
            to=content.address,
            text=content.message,
            subject=content.title,
        )
    subject = content.title or first_line(content.message)
    return Message(
        notification_id=content.id,
        channel=content.channel,
        to=content.address,
        subject=subject,
        text=content.message,
        html=content.html or html_part(subject, content.message),
        from_email=sender(content.from_name, content.from_email or default_from),
        reply_to=content.reply_to,
    )


def sender(name: str, address: str) -> str:
    """`Name <address>`, or the address alone."""
    return formataddr((name, address)) if name and "<" not in address else address


def first_line(text: str) -> str:
    """The subject of an e-mail that has no title."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = "".join(character for character in line if character.isprintable())
    if len(line) <= SUBJECT_FROM_MESSAGE:
        return line
    return line[: SUBJECT_FROM_MESSAGE - 1].rstrip() + "…"


def html_part(title: str, text: str) -> str:
    """A simple, decent HTML part for a plain text: escaped, paragraphs kept, links made to click."""
    paragraphs = "\n".join(
        f"<p>{_with_links(paragraph)}</p>" for paragraph in re.split(r"\n\s*\n", text.strip())
    )
    return _template().substitute(title=escape(title), body=paragraphs)


def _with_links(text: str) -> str:
    parts = []
    end = 0
    for link in _LINK.finditer(text):
        address = escape(link.group())
        parts += [escape(text[end : link.start()]), f'<a href="{address}">{address}</a>']
        end = link.end()
    return "".join([*parts, escape(text[end:])]).replace("\n", "<br>\n")


@cache
def _template() -> Template:
    return Template(_TEMPLATE.read_text(encoding="utf-8"))
