"""What OpenAPI shows: one path for each call, with its version. The short forms are for those who migrate."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


def only_versioned_paths(endpoints: list[Any], **kwargs: Any) -> list[Any]:
    """drf-spectacular's preprocessing hook."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints if path.startswith("/api/v1/")]


class BearerKey(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Lets a key be typed in at /docs. drf-spectacular finds it by its class."""

    target_class = "users.authentication.ApiKeyAuthentication"
    name = "ApiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A project's key: ntf_live_... or ntf_test_...",
        }


class BearerInboxToken(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The same for people's inbox tokens."""

    target_class = "users.inbox_access.InboxTokenAuthentication"
    name = "InboxToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A person's inbox token: ntf_inbox_...",
        }
