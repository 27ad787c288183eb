"""What a process of its own needs to know of this test's database and Redis."""

from __future__ import annotations

from urllib.parse import quote

from django.conf import settings as django_settings
from django.db import connection


def surroundings() -> dict[str, str]:
    """Environment variables."""
    database = connection.settings_dict
    host, port = quote(database["HOST"], safe=""), database["PORT"] or 5432
    return {
        "DATABASE_URL": f"postgres://{database['USER']}@{host}:{port}/{database['NAME']}",
        "REDIS_URL": django_settings.REDIS_URL,
        "REDIS_KEY_PREFIX": django_settings.REDIS_KEY_PREFIX,
        "SWEEP_INTERVAL": "1",
        "DJANGO_SETTINGS_MODULE": "notifyproj.settings",
    }
