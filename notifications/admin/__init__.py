"""The console: what happened to a notification, and doing something about it.

No rule of its own: what may be resent, tried or cancelled is decided in notifications/changes.py, which every act
here goes through.
"""

# Importing them registers their pages.
from notifications.admin import circuit, flow, notification  # noqa: F401
