from __future__ import annotations

from notifications.providers.base import Provider
from tests.providers.contract import ProviderContract


class TestInbox(ProviderContract):
    name = "inbox"
    channel = "in_app"
    address = "user-1"

    def test_taking_is_delivering(self, provider: Provider) -> None:
        assert self.send(provider).delivered
