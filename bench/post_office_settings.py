"""django-post-office in a project of its own, as its documentation sets it up, beside our tables."""

import os
from typing import Any

from notifyproj.settings import DATABASES as OURS

SECRET_KEY = "only-for-this-benchmark"
INSTALLED_APPS = ["django.contrib.contenttypes", "post_office"]
DATABASES: dict[str, Any] = {
    "default": OURS["default"]
    | {"ENGINE": "django.db.backends.postgresql", "CONN_HEALTH_CHECKS": False}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
EMAIL_BACKEND = "post_office.EmailBackend"
EMAIL_HOST, EMAIL_PORT = "127.0.0.1", int(os.environ.get("BENCH_SMTP_PORT", "25"))
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
POST_OFFICE = {
    "BATCH_SIZE": 2000,
    "THREADS_PER_PROCESS": int(os.environ.get("BENCH_THREADS", "5")),
    "MESSAGE_ID_ENABLED": True,
    "MESSAGE_ID_FQDN": "example.com",
}
LOGGING_CONFIG = None
