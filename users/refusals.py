"""Why a request was refused, in one form for API, commands and admin."""

from __future__ import annotations


class Refused(Exception):
    """Nothing was stored. `field` names the input at fault; empty where none is."""

    status = 400

    def __init__(self, code: str, detail: str, field: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.field = field


class Conflict(Refused):
    """The state of things does not allow it; the detail says what would be."""

    status = 409


class IdempotencyKeyInUse(Conflict):
    """The same key is being handled right now: ask again in a second."""

    retry_after = 1

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_in_use",
            "A request with this Idempotency-Key is being handled right now. Try again in a second.",
            "Idempotency-Key",
        )


class IdempotencyKeyReused(Refused):
    status = 422

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request. Use a new key for a new notification.",
            "Idempotency-Key",
        )
