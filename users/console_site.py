"""The console as a site of Django's admin: who enters it, by password and, where it is set up, by a second factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from axes.handlers.proxy import AxesProxyHandler
from django import forms
from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME, login
from django.contrib.auth.signals import user_login_failed
from django.contrib.auth.views import LoginView, redirect_to_login
from django.core.paginator import InvalidPage
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from users import second_factor
from users.models import User

if TYPE_CHECKING:
    # django-unfold has no types; for what we use, Django's hold.
    from django.contrib.admin import AdminSite as UnfoldAdminSite
else:
    from unfold.sites import UnfoldAdminSite

WRONG = "This code is not right, was used before, or came too soon after a wrong one."


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=40,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )


class ProofForm(forms.Form):
    proof = forms.CharField(
        label="Your password, or a code",
        max_length=200,
        strip=False,
        widget=UnfoldAdminPasswordWidget,
    )


class PasswordView(LoginView):
    """Signs in who has no second factor; who has one is asked for it first."""

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if not second_factor.ids_of(user):
            return super().form_valid(form)
        second_factor.await_code(self.request.session, user)
        return redirect(_with_next("admin:code", self.get_redirect_url()))


class ConsoleSite(UnfoldAdminSite):
    def extra_urls(self) -> list[URLPattern]:
        return [
            path("login/code/", self.code, name="code"),
            # In place of Django's, which lets only those out who may come in.
            path("logout/", self.logout, name="logout"),
            path("second-factor/", self.second_factor, name="second_factor"),
        ]

    def has_permission(self, request: HttpRequest) -> bool:
        """Also that the second factor was shown in this session: asked by Django with every page."""
        return super().has_permission(request) and second_factor.is_enough(request)

    @method_decorator(never_cache)
    def search(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """unfold's, of the names of pages, which breaks on a page number that there is not."""
        try:
            found = super().search(request, extra_context)  # type: ignore[misc]
        except (InvalidPage, ValueError) as error:
            raise Http404 from error
        return cast("HttpResponse", found)

    # -- signing in -------------------------------------------------------------------------------------

    @method_decorator(never_cache)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "GET" and self.has_permission(request):
            return redirect("admin:index")
        if request.method == "GET" and super().has_permission(request):
            step = "admin:code" if second_factor.ids_of(request.user) else "admin:second_factor"
            return redirect(_with_next(step, request.GET.get(REDIRECT_FIELD_NAME, "")))
        context = {
            **self.each_context(request),
            "title": "Log in",
            "subtitle": None,
            "app_path": request.get_full_path(),
            "username": request.user.get_username(),
            **(extra_context or {}),
        }
        view = PasswordView.as_view(
            extra_context=context,
            authentication_form=self.login_form,
            template_name="admin/login.html",
            next_page="admin:index",
        )
        return cast("HttpResponse", view(request))

    @method_decorator(never_cache)
    def code(self, request: HttpRequest) -> HttpResponse:
        """The second step of signing in."""
        user = second_factor.awaited(request)
        if user is None:
            return redirect("admin:login")
        if not AxesProxyHandler.is_allowed(request, _credentials(user)):
            return _locked_out(request, user)
        form = CodeForm(request.POST or None)
        if form.is_valid() and second_factor.accepts(user, form.cleaned_data["code"]):
            return self._signed_in(request, user)
        if form.is_valid():
            _count_failure(request, user)
            form.add_error("code", WRONG)
        return self._page(request, "code", {"title": "Second factor", "form": form})

    @staticmethod
    def _signed_in(request: HttpRequest, user: User) -> HttpResponse:
        login(request, user, backend="users.backends.StaffBackend")
        second_factor.remember(request.session, user)
        return redirect(_next_of(request))

    # -- setting up and removing --------------------------------------------------------------------------

    @method_decorator(never_cache)
    def second_factor(self, request: HttpRequest) -> HttpResponse:
        """One's own. Also for who may not enter before it is set up (REQUIRE_SECOND_FACTOR)."""
        user = request.user
        must_begin = super().has_permission(request) and not second_factor.ids_of(user)
        if not isinstance(user, User) or not (must_begin or self.has_permission(request)):
            return redirect_to_login(request.get_full_path(), reverse("admin:login"))
        acts = {"begin": self._begin, "confirm": self._confirm, "remove": self._remove}
        act = acts.get(request.POST.get("act", "")) if request.method == "POST" else None
        return act(request, user) if act else self._own(request, user)

    def _own(self, request: HttpRequest, user: User, **forms: forms.Form) -> HttpResponse:
        device = second_factor.pending(user)
        context = {
            "title": "Second factor",
            "set_up": bool(second_factor.ids_of(user)),
            "codes_left": second_factor.codes_left(user),
            "required": settings.REQUIRE_SECOND_FACTOR,
            "picture": second_factor.picture(device) if device else "",
            "secret": second_factor.secret(device) if device else "",
            "code_form": CodeForm(),
            "proof_form": ProofForm(),
            **forms,
        }
        return self._page(request, "own", context)

    def _begin(self, request: HttpRequest, user: User) -> HttpResponse:
        """Not where there is one: it is removed first, which asks for a proof."""
        if not second_factor.ids_of(user):
            second_factor.begin(user)
        return redirect("admin:second_factor")

    def _confirm(self, request: HttpRequest, user: User) -> HttpResponse:
        form = CodeForm(request.POST)
        codes = second_factor.confirm(user, form.data.get("code", "")) if form.is_valid() else []
        if codes:
            request.session.cycle_key()
            second_factor.remember(request.session, user)
            return self._page(request, "codes", {"title": "Recovery codes", "codes": codes})
        if form.is_valid():
            form.add_error("code", WRONG)
        return self._own(request, user, code_form=form)

    def _remove(self, request: HttpRequest, user: User) -> HttpResponse:
        if not AxesProxyHandler.is_allowed(request, _credentials(user)):
            return _locked_out(request, user)
        form = ProofForm(request.POST)
        if form.is_valid() and _is_proven(user, form.cleaned_data["proof"]):
            second_factor.remove(user)
            return redirect("admin:second_factor")
        if form.is_valid():
            _count_failure(request, user)
            form.add_error("proof", "This is neither your password nor a code.")
        return self._own(request, user, proof_form=form)

    def _page(self, request: HttpRequest, name: str, context: dict[str, Any]) -> HttpResponse:
        everywhere = self.each_context(request)
        return TemplateResponse(request, f"admin/second_factor/{name}.html", everywhere | context)


def _is_proven(user: User, proof: str) -> bool:
    return user.check_password(proof) or second_factor.accepts(user, proof)


def _credentials(user: User) -> dict[str, str]:
    return {"username": user.get_username()}


def _count_failure(request: HttpRequest, user: User) -> None:
    """As a wrong password counts: after five, the account is closed for a while (axes)."""
    user_login_failed.send(sender=__name__, credentials=_credentials(user), request=request)


def _locked_out(request: HttpRequest, user: User) -> HttpResponse:
    from users.admin.staff import locked_out

    return locked_out(request, None, _credentials(user))


def _with_next(page: str, next_page: str) -> str:
    query = f"?{urlencode({REDIRECT_FIELD_NAME: next_page})}" if next_page else ""
    return reverse(page) + query


def _next_of(request: HttpRequest) -> str:
    """Where one was going, if that is here."""
    wanted = request.GET.get(REDIRECT_FIELD_NAME, "")
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else reverse("admin:index")
