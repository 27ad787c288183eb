"""Who may try it: in development everybody, else signed-in staff who may send and see what was sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from notifications.api.errors import wrong_method
from notifications.models import Notification
from users.models import Project, User
from users.reach import within

NEEDED = ("notifications.send_batch", "notifications.view_notification")


@dataclass(frozen=True, slots=True)
class Visitor:
    """`user` is None for who is not signed in, or may not send: then nothing leaves this machine."""

    user: User | None

    def projects(self) -> QuerySet[Project]:
        every = Project.objects.order_by("pk")
        return within(self.user, every, "pk") if self.user else every

    def notifications(self) -> QuerySet[Notification]:
        every = Notification.objects.all()
        return within(self.user, every) if self.user else every


View = Callable[..., HttpResponse]


def for_visitors(*methods: str) -> Callable[[View], View]:
    """A page of `/try/` that takes these methods: `view(request, visitor, ...)`.

    A wrong method is said before Django asks for a CSRF token, and before anybody is asked to sign in.
    """

    def decorate(view: View) -> View:
        @csrf_protect
        @never_cache
        def entered(request: HttpRequest, **named: object) -> HttpResponse:
            visitor = _visitor_of(request)
            return view(request, visitor, **named) if visitor else _to_sign_in(request)

        @csrf_exempt
        @wraps(view)
        def asked(request: HttpRequest, **named: object) -> HttpResponse:
            return (
                entered(request, **named)
                if request.method in methods
                else wrong_method(request, methods)
            )

        return asked

    return decorate


def _visitor_of(request: HttpRequest) -> Visitor | None:
    """None for who must sign in first. Raises PermissionDenied for staff who may not send, outside of development."""
    user = request.user
    is_staff = isinstance(user, User) and admin.site.has_permission(request)
    if isinstance(user, User) and is_staff and user.has_perms(NEEDED):
        return Visitor(user)
    if not settings.PRODUCTION:
        return Visitor(None)
    if is_staff:
        raise PermissionDenied
    return None


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """Back to the page itself: a part of it, or a token, is nothing to be led to."""
    return redirect_to_login(reverse("try"), reverse("admin:login"))
