"""The ASGI application, for those who deploy Django that way.

We serve the site through WSGI (measured: 2.5 times the requests); see docs/decisions.md.
"""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notifyproj.settings")

application = get_asgi_application()
