"""How far a member of staff sees and acts: over all projects, or only over those that were chosen for it."""

from __future__ import annotations

from typing import TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Model, QuerySet

from users.models import User

Row = TypeVar("Row", bound=Model)


def project_ids_of(user: AbstractBaseUser | AnonymousUser) -> list[int] | None:
    """The projects to which it is limited; None for all.

    Asked once for each request, with the account itself where it came with a session (backends.py).
    """
    if not isinstance(user, User):
        return []
    if user.is_superuser:
        return None
    known: list[int] | None = getattr(user, "chosen_project_ids", None)
    if known is None:
        known = sorted(user.projects.values_list("pk", flat=True))
        user.chosen_project_ids = known  # type: ignore[attr-defined]
    return known or None


def sees_everything(user: AbstractBaseUser | AnonymousUser) -> bool:
    return project_ids_of(user) is None


def reaches(user: AbstractBaseUser | AnonymousUser, project_id: int) -> bool:
    ids = project_ids_of(user)
    return ids is None or project_id in ids


def within(
    user: AbstractBaseUser | AnonymousUser, rows: QuerySet[Row], path: str = "project"
) -> QuerySet[Row]:
    """Those of the rows that the user may see. `path` leads from a row to its project, as in a filter."""
    ids = project_ids_of(user)
    return rows if ids is None else rows.filter(**{f"{path}__in": ids})
