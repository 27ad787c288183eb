"""The console's pages about people and access."""

from users.admin import keys, recipients, staff  # noqa: F401  (importing them registers their pages)
