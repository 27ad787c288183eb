"""What beat has removed from time to time. Nothing that delivery needs."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models.functions import Now

from notifications.models import Heartbeat, IdempotencyKey

#: Rows a transaction deletes at most, so that it holds its locks for a moment only.
CHUNK = 5000


def prune() -> int:
    """Delete idempotency keys past their 7 days and processes long gone. Returns how many keys."""
    Heartbeat.objects.filter(seen_at__lt=Now() - timedelta(days=1)).delete()
    age = timedelta(seconds=settings.IDEMPOTENCY_KEY_TTL)
    old = IdempotencyKey.objects.filter(created_at__lt=Now() - age)
    pruned = 0
    while chunk := list(old.values_list("id", flat=True)[:CHUNK]):
        IdempotencyKey.objects.filter(id__in=chunk).delete()
        pruned += len(chunk)
    return pruned
