"""Parts of a page that the browser asks for again and again: the same answer is not sent a second time."""

from __future__ import annotations

import hashlib
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.cache import get_conditional_response


def refreshed(
    request: HttpRequest, template: str, context: dict[str, Any], **told: Any
) -> HttpResponse:
    """The template as it is now, or 304 where the browser has just that. With `told`: as JSON, the template in `html`."""
    html = render_to_string(template, context, request)
    etag = f'"{hashlib.sha256(html.encode()).hexdigest()[:32]}"'
    if unchanged := get_conditional_response(request, etag=etag):
        return unchanged
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if told:
        return JsonResponse({**told, "html": html}, headers=headers)
    return HttpResponse(html, headers=headers)
