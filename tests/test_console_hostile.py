"""Other people's text in every field that the console shows: it stays text."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from tests import hostile
from tests.console import Page, pages
from tests.factories import UserFactory

#: Leave the console, or are no page.
LEAVING = {"logout", "jsi18n", "login"}
PAGES = [page for page in pages() if page.name not in LEAVING]


@pytest.fixture
def client(db: None) -> Client:
    client = Client()
    client.force_login(UserFactory(is_superuser=True))
    return client


def is_harmless(body: str) -> bool:
    """Each beginning of markup that was given stands escaped."""
    return not any(raw in body for raw in ("<script>window", "<img src=x", 'href="javascript:'))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_page_repeats_markup_that_it_was_given(client: Client, page: Page) -> None:
    rows = hostile.world(UserFactory(is_superuser=True))
    for url in page.urls(rows[page.model] if page.row else None):
        response = client.get(url)
        assert response.status_code in {200, 302, 403, 404, 405}, url
        body = b"".join(response) if response.streaming else response.content  # type: ignore[attr-defined]
        if response["Content-Type"].startswith("text/html"):
            assert is_harmless(body.decode()), url


def test_the_test_would_see_markup() -> None:
    assert not is_harmless(hostile.SCRIPT)


@pytest.mark.parametrize("page", [p for p in PAGES if p.name.endswith("_changelist")], ids=str)
def test_no_list_repeats_markup_of_its_address(client: Client, page: Page) -> None:
    filters = ("q", "status", "batch", "recipient", "project", "provider", "category", "created_from", "reference", "p", "o")  # fmt: skip
    for name in filters:
        response = client.get(reverse(f"admin:{page.name}"), {name: hostile.SCRIPT}, follow=True)
        assert response.status_code in {200, 403}
        assert is_harmless(response.content.decode()), name
