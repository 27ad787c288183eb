"""Whose session it is, asked with every page: the account, its projects and its second factor, in one query."""

from __future__ import annotations

from django.contrib.auth.backends import ModelBackend
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django_otp.plugins.otp_totp.models import TOTPDevice

from users.models import User


class StaffBackend(ModelBackend):
    """Django's own, which asks for the account alone; reach.py and second_factor.py would each ask again."""

    def get_user(self, user_id: int) -> User | None:
        chosen = User.projects.through._default_manager.filter(user=OuterRef("pk"))
        devices = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        user = (
            User.objects.annotate(
                chosen_project_ids=ArraySubquery(chosen.order_by("project").values("project")),
                second_factor_ids=ArraySubquery(devices.values("pk")),
            )
            .filter(pk=user_id)
            .first()
        )
        return user if user and self.user_can_authenticate(user) else None
