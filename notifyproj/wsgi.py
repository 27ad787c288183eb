"""The WSGI application: the API, the admin and the pages."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")

application = get_wsgi_application()
