"""What every page says to the browser, what cookies are like in production, and where the console is."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.urls import clear_url_caches, get_resolver, reverse

from notifications import checks
from notifyproj import urls
from tests.chromium import Browser, in_chromium
from tests.console import ROWS, pages, registered
from tests.factories import ProjectFactory, UserFactory

PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "x" * 60,
    "ALLOWED_HOSTS": "notify.example.com",
    "DATABASE_URL": "postgres://unused/unused",
    "REDIS_URL": "redis://unused",
}


@pytest.fixture
def client(db: None) -> Client:
    client = Client()
    client.force_login(UserFactory(is_superuser=True))
    return client


def policy_of(client: Client, path: str) -> dict[str, str]:
    """Its directives. Also of what is refused, or not there."""
    given = client.get(path)["Content-Security-Policy"]
    return {name: rest for name, _, rest in (part.partition(" ") for part in given.split("; "))}


# --- Policies -------------------------------------------------------------------------------------------

EVERYWHERE = ["/", "/docs", "/admin/login/", "/admin/", "/admin/nowhere/", "/nowhere", "/health"]


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_answer_has_a_strict_policy(client: Client, path: str) -> None:
    policy = policy_of(client, path)
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["form-action"] == "'self'"
    assert "unsafe-inline" not in policy["script-src"]
    assert "http" not in str(policy)


@pytest.mark.parametrize("path", ["/", "/docs", "/nowhere", "/health"])
def test_only_the_console_evaluates_text_as_script(client: Client, path: str) -> None:
    assert policy_of(client, path)["script-src"] == "'self'"
    assert policy_of(client, "/admin/")["script-src"] == "'self' 'unsafe-eval'"


@pytest.mark.parametrize("path", ["/", "/nowhere", "/health"])
def test_only_the_console_and_the_documentation_have_styles_within_a_page(
    client: Client, path: str
) -> None:
    assert policy_of(client, path)["style-src"] == "'self'"


def test_other_sites_learn_nothing_and_the_browser_gives_nothing(client: Client) -> None:
    answer = client.get("/admin/")
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "camera=()" in answer["Permissions-Policy"]


def test_no_template_of_ours_has_script_or_style_within() -> None:
    """The console's policy would let styles pass; ours have classes."""
    texts = (django_settings.BASE_DIR / "templates").rglob("*.html")
    for path in texts:
        if "email" in path.parts:
            continue
        text = path.read_text(encoding="utf-8")
        assert " style=" not in text, path
        assert "<style" not in text, path
        assert " onclick=" not in text, path
        assert " onfocus=" not in text, path
        assert "<script>" not in text, path


# --- Cookies in production ---------------------------------------------------------------------------------


def test_in_production_cookies_are_for_https_and_not_for_scripts() -> None:
    names = (
        "SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_SAMESITE", "SESSION_COOKIE_AGE",
        "CSRF_COOKIE_SECURE", "CSRF_COOKIE_SAMESITE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS",
    )  # fmt: skip
    assert production(names) == {
        "SESSION_COOKIE_SECURE": True,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_AGE": 8 * 3600,
        "CSRF_COOKIE_SECURE": True,
        "CSRF_COOKIE_SAMESITE": "Lax",
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 31_536_000,
    }


def test_the_cookies_that_are_sent_are_such(client: Client, settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    UserFactory(username="ada")
    visitor = Client()
    visitor.get("/admin/login/")
    visitor.post("/admin/login/", {"username": "ada", "password": "a-long-passphrase"})
    session, token = visitor.cookies["sessionid"], visitor.cookies["csrftoken"]
    assert session["secure"] and session["httponly"] and token["secure"]  # noqa: PT018
    assert session["samesite"] == token["samesite"] == "Lax"


@pytest.mark.parametrize(("given", "value"), [("1", True), ("no", False), ("", False)])
def test_requiring_a_second_factor_is_a_variable(given: str, value: bool) -> None:
    found = production(("REQUIRE_SECOND_FACTOR",), REQUIRE_SECOND_FACTOR=given)
    assert found == {"REQUIRE_SECOND_FACTOR": value}


def test_a_switch_that_is_neither_on_nor_off_is_an_error_that_names_it() -> None:
    """It would be off, and nobody would know."""
    ended = _settings(("DEBUG",), PRODUCTION | {"REQUIRE_SECOND_FACTOR": "oui"})
    assert ended.returncode
    assert "REQUIRE_SECOND_FACTOR cannot be read: write 1 or 0" in ended.stderr


def production(names: tuple[str, ...], **given: str) -> Any:
    return json.loads(_settings(names, PRODUCTION | given).stdout)


def _settings(names: tuple[str, ...], given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """In a process of their own: settings are read once."""
    script = (
        "import json, sys; from notifyproj import settings; "
        "print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}))"
    )
    return subprocess.run(
        [sys.executable, "-c", script, *names],
        env={"PATH": os.environ["PATH"]} | given,
        cwd=django_settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )


# --- Where the console is -------------------------------------------------------------------------------------


@pytest.fixture
def moved(settings: Any) -> Iterator[None]:
    """The console is at staff/desk/."""

    def read_urls() -> None:
        importlib.reload(urls)
        clear_url_caches()

    settings.ADMIN_PATH = "staff/desk/"
    read_urls()
    yield
    settings.ADMIN_PATH = "admin/"
    read_urls()


def test_the_console_is_where_one_wants_it_and_nowhere_else(client: Client, moved: None) -> None:
    assert client.get("/admin/").status_code == 404
    assert Client().get("/staff/desk/")["Location"] == "/staff/desk/login/?next=/staff/desk/"
    assert 'href="/staff/desk/"' in client.get("/").content.decode()
    project = ProjectFactory()
    rows = {label: ROWS[label](project) for label in registered()}
    for page in pages():
        if page.name in {"logout", "jsi18n"}:
            continue
        for url in page.urls(rows[page.model] if page.row else None):
            answer = client.get(url)
            if not answer.streaming:
                assert '"/admin/' not in answer.content.decode(), url
            assert answer["Content-Security-Policy"], url


@pytest.mark.parametrize(("given", "read"), [("", "admin/"), ("desk", "desk/"), (" a/b/ ", "a/b/")])
def test_the_path_ends_with_a_slash_whether_it_was_written_or_not(given: str, read: str) -> None:
    assert production(("ADMIN_PATH",), ADMIN_PATH=given) == {"ADMIN_PATH": read}


@pytest.mark.parametrize("path", ["admin/", "desk/", "staff/desk-2/", "apis/"])
def test_a_path_of_plain_words_is_fine(settings: Any, path: str) -> None:
    settings.ADMIN_PATH = path
    assert checks.admin_path() == []


@pytest.mark.parametrize(
    "path", ["/", "/desk/", "desk//", "de sk/", "desk?/", "<int:x>/", "../", "api/", "api/v1/desk/", "static/", "users/"]
)  # fmt: skip
def test_a_path_that_cannot_be_is_an_error_with_a_hint(settings: Any, path: str) -> None:
    settings.ADMIN_PATH = path
    [found] = checks.admin_path()
    assert found.id == "notifications.E026"
    assert found.hint


def test_every_first_part_of_another_path_is_taken() -> None:
    """So that a new page or call of the service is none of the console's possible places."""
    firsts = {
        str(pattern.pattern).lstrip("^").partition("/")[0].rstrip("?$\\")
        for pattern in _leaves(get_resolver().url_patterns)
    } - {"", "admin"}
    assert firsts <= set(checks.TAKEN)


def _leaves(patterns: list[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if str(pattern.pattern) == "" and hasattr(pattern, "url_patterns"):
            yield from _leaves(pattern.url_patterns)
        else:
            yield pattern


# --- In the browser ----------------------------------------------------------------------------------------------


class TestInChromium:
    pytestmark = in_chromium

    def test_no_public_page_breaks_the_policy(self, browser: Browser) -> None:
        for path, something in (
            ("/", "h1"),
            ("/docs", "#operations-notifications-notifications_create"),
            (reverse("admin:login"), "input[name=password]"),
        ):
            browser.open(path)
            browser.find(something)
            assert browser.complaints() == [], path

    def test_a_forbidden_script_would_be_noticed(self, browser: Browser) -> None:
        browser.open("/")
        browser.driver.execute_script(
            "const s = document.createElement('script'); s.textContent = 'window.owned = 1';"
            "document.body.append(s)"
        )
        assert "Content Security Policy" in str(browser.complaints())
        assert browser.driver.execute_script("return window.owned") is None


@pytest.mark.parametrize("page", ["", "words", "0", "99"])
def test_a_search_for_a_page_that_there_is_not_is_not_found(client: Client, page: str) -> None:
    assert client.get(reverse("admin:search"), {"s": "proj"}).status_code == 200
    assert client.get(reverse("admin:search"), {"s": "proj", "page": page}).status_code == 404
