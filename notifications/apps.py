from django.apps import AppConfig
from django.db.models.signals import post_migrate


class NotificationsConfig(AppConfig):
    name = "notifications"

    def ready(self) -> None:
        from notifications import checks  # noqa: F401  (importing it registers the checks)
        from users import groups

        # Of the last app that has permissions, so that all of them exist by then.
        post_migrate.connect(groups.bring_up_to_date, sender=self)
