"""The console: what happened to a notification, and doing something about it.

No rule of its own: what may be resent, tried or cancelled is decided in notifications/changes.py, and what may be
put on the list of suppressed addresses in notifications/suppressions.py; every act here goes through these.
"""

# Importing them registers their pages.
from notifications.admin import (  # noqa: F401
    batch,
    bulk_action,
    circuit,
    flow,
    notification,
    pause,
    receipt,
    recipient,
    suppression,
)
