"""What tests of the API share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.apps import apps
from django.db import connection


@pytest.fixture
def dump(db: None) -> Callable[..., str]:
    """All rows of our tables, or of one of them, as text: for what must not be in any of them."""

    def of(*tables: str) -> str:
        ours = ("users", "notifications")
        models = [model for app in ours for model in apps.get_app_config(app).get_models()]
        names = tables or [model._meta.db_table for model in models]
        with connection.cursor() as cursor:
            texts = []
            for name in names:
                cursor.execute(f"SELECT t::text FROM {name} t")
                texts += [row[0] for row in cursor.fetchall()]
        return "\n".join(texts)

    return of
