"""Probes, plain http, and who asks."""

import pytest
from django.test import Client, RequestFactory

from notifyproj.middleware import client_address


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_balancer_may_ask_by_address_and_without_tls(settings, path):
    settings.ALLOWED_HOSTS = ["notify.example.com"]
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get(path, headers={"host": "10.0.0.7"}).status_code == 200


def test_a_key_sent_in_clear_is_refused_and_not_redirected(settings):
    settings.SECURE_SSL_REDIRECT = True
    answer = Client().get("/api/v1/notifications", headers={"authorization": "Bearer x"})
    assert answer.status_code == 403
    assert answer.json()["code"] == "https_required"


def test_a_browser_is_redirected_to_https(settings):
    settings.SECURE_SSL_REDIRECT = True
    answer = Client().get("/")
    assert answer.status_code == 301
    assert answer["Location"].startswith("https://")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "198.51.100.1", "192.0.2.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (2, "203.0.113.9, 198.51.100.1, 192.0.2.7", "198.51.100.1"),
        (1, "", "192.0.2.1"),
        (2, "198.51.100.1", "192.0.2.1"),
    ],
)
def test_a_client_cannot_choose_the_address_it_is_counted_by(
    settings, proxies, forwarded, expected
):
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", headers={"x-forwarded-for": forwarded})
    request.META["REMOTE_ADDR"] = "192.0.2.1"
    assert client_address(request) == expected
