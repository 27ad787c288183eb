"""What `pause` and `resume` are told to act on: a lane, a provider, or a project's flow as `PROJECT/LANE`."""

from __future__ import annotations

from django.core.management.base import CommandError

from notifications.models import LANES, Flow
from users.management.projects import project_named


def flow_named(target: str) -> int | None:
    """The id of the flow that is meant; None where it is a lane or a provider. Raises CommandError.

    A project's name may hold a slash; a lane's does not.
    """
    name, slash, lane = target.rpartition("/")
    if not slash:
        return None
    if lane not in LANES:
        raise CommandError(f"There is no lane {lane!r}. Known are: {', '.join(LANES)}.")
    project = project_named(name)
    flow = Flow.objects.filter(project=project, lane=lane, batch=None).first()
    if flow is None:
        raise CommandError(f"{project} has never sent anything in {lane}: there is no such flow.")
    return flow.pk
