"""Webhooks of providers: verify, keep, answer. What they mean is applied by a worker (receipts.py).

2xx: kept, or known already. 403: not surely the provider's; nothing is kept. 503: could not be kept, tell us again.
"""

from __future__ import annotations

import structlog
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from notifications import providers, receipts
from notifications.api.errors import RETRY_AFTER, plain_problem
from notifications.providers.events import Forged, NoWebhooks, Unreadable

log = structlog.get_logger(__name__)


@csrf_exempt
def receive(request: HttpRequest, provider: str, link: str = "") -> HttpResponse:
    """`POST /hooks/<provider>`, with a link to the notification behind it where the provider takes one."""
    if request.method == "HEAD":
        # Some vendors ask so whether the address is there.
        return HttpResponse()
    if request.method != "POST":
        response = plain_problem(request, 405, "method_not_allowed", "Webhooks are POSTed.")
        response["Allow"] = "POST, HEAD"
        return response
    return _keep(request, provider, link)


def _keep(request: HttpRequest, provider: str, link: str) -> HttpResponse:
    try:
        told = providers.get(provider).read(request, link)
        receipts.store(provider, told, request.body)
    except (providers.UnknownProvider, NoWebhooks):
        return plain_problem(request, 404, "no_such_hook", "No such provider reports to us.")
    except Forged as reason:
        log.warning("webhook_refused", provider=provider, reason=str(reason))
        return plain_problem(request, 403, "not_verified", "This webhook could not be verified.")
    except Unreadable as reason:
        log.warning("webhook_unreadable", provider=provider, reason=str(reason))
        return plain_problem(request, 400, "unreadable", f"This cannot be read: {reason}.")
    except (OperationalError, InterfaceError) as error:
        log.error("database_away", error=type(error).__name__)
        response = plain_problem(request, 503, "unavailable", "Nothing was kept. Try again.")
        response["Retry-After"] = RETRY_AFTER
        return response
    return HttpResponse()
