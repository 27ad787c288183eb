from corsheaders.signals import check_request_enabled
from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class UsersConfig(AppConfig):
    name = "users"
    verbose_name = "People and access"
    default = True

    def ready(self) -> None:
        from users.inbox_access import allow_pages_of_projects

        check_request_enabled.connect(allow_pages_of_projects)


class ConsoleConfig(admin_apps.AdminConfig):
    """Django's admin, with our site in place of its own."""

    default = False
    default_site = "users.console_site.ConsoleSite"
