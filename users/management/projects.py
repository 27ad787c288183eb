"""Which project a command is about."""

from __future__ import annotations

from django.core.management.base import CommandError

from users.models import Project


def project_named(name: str | None) -> Project:
    """The project of this name; without one, the only one there is. Raises CommandError."""
    projects = list(Project.objects.filter(name=name) if name else Project.objects.all()[:2])
    if len(projects) == 1:
        return projects[0]
    if name:
        raise CommandError(f"There is no project named {name!r}.")
    if projects:
        raise CommandError("There are several projects; name one with --project.")
    raise CommandError(
        "There is no project yet; make one in the admin or with manage.py first_start."
    )
