"""The WSGI application: the API, the admin and the pages."""

import os

from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")


class Utf8Request(WSGIRequest):
    """Query strings are UTF-8, whatever the charset of the body is said to be.

    Django would take `charset=hex` for theirs too, and fail before any middleware is asked.
    """

    encoding = "utf-8"


application = get_wsgi_application()
application.request_class = Utf8Request
