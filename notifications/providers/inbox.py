"""In-app: the inbox is the notification's own row, so taking the message is delivering it."""

from __future__ import annotations

from notifications.providers.base import Message, Provider, Sent
from notifications.providers.deadline import Deadline


class Inbox(Provider):
    name = "inbox"
    repeatable = True
    has_circuit = False

    def send(self, message: Message, deadline: Deadline) -> Sent:
        return Sent(delivered=True)
