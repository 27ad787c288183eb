"""Who reaches which page of the console, over every URL that there is: by right, and by project."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications.models import Circuit, Suppression
from tests.console import ROWS, Page, a_row, pages, registered
from tests.factories import (
    ApiKeyFactory,
    BatchFactory,
    NotificationFactory,
    ReceiptFactory,
    RecipientFactory,
    SuppressionFactory,
    UserFactory,
)
from users import groups
from users.models import ApiKey, Project, User

PAGES = pages()
OF_ONE_ROW = [page for page in PAGES if page.row]
OF_A_MODEL = [page for page in PAGES if page.model]
#: About the account of whoever is signed in, or about nobody: without a right of their own.
OF_EVERYBODY = {"login", "logout", "password_change", "password_change_done", "jsi18n", "index", "search", "app_list", "autocomplete"}  # fmt: skip
#: Of the service as a whole: no project has them, and only who is not limited sees them.
OF_THE_SERVICE = {"users.user", "auth.group", "axes.accessattempt", "axes.accesslog"}
#: Of no project, and shown to all who have the right.
OF_ALL_PROJECTS = {"notifications.pause"}


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def operator_of(*projects: Project, group: str = groups.OPERATOR) -> Client:
    user = UserFactory()
    user.groups.add(Group.objects.get(name=group))
    user.projects.add(*projects)
    return client_of(user)


def with_every_right(*projects: Project) -> Client:
    """Every permission that there is, and yet only these projects."""
    user = UserFactory()
    user.user_permissions.add(*Permission.objects.all())
    user.projects.add(*projects)
    return client_of(user)


def answers(client: Client, url: str) -> list[tuple[int, str]]:
    """Status and where to, of looking and of pressing."""
    both = (client.get(url), client.post(url, {"post": "yes"}))
    return [(response.status_code, response.headers.get("Location", "")) for response in both]


# --- Every URL ---------------------------------------------------------------------------------------


def test_every_model_with_pages_has_a_row_to_test_them_with(db: None, alice: Project) -> None:
    assert registered().keys() <= ROWS.keys()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_visitor_is_sent_to_the_sign_in(db: None, alice: Project, page: Page) -> None:
    if page.name in {"login", "logout", "jsi18n"}:
        return
    row = a_row(page, alice) if page.row else None
    for url in page.urls(row):
        for status, location in answers(Client(), url):
            assert status == 302
            assert location.startswith(reverse("admin:login"))


@pytest.mark.parametrize("page", OF_A_MODEL, ids=str)
def test_a_colleague_without_rights_is_refused(db: None, alice: Project, page: Page) -> None:
    row = a_row(page, alice) if page.row else None
    client = client_of(UserFactory())
    for url in page.urls(row):
        assert {status for status, _ in answers(client, url)} <= {403, 405}, url


@pytest.mark.parametrize("page", OF_ONE_ROW, ids=str)
def test_what_is_out_of_reach_is_as_if_it_were_not_there(
    db: None, alice: Project, stranger: Project, page: Page
) -> None:
    """Also for somebody with every right: the same answer as about a row that was never made."""
    if page.model in OF_ALL_PROJECTS:
        return
    row = a_row(page, alice)
    client = with_every_right(stranger)
    for url, of_none in zip(page.urls(row), page.urls(_id_of_none(row)), strict=True):
        found = answers(client, url)
        assert {status for status, _ in found} <= {302, 403, 404, 405}
        assert {where for _, where in found} <= {"", reverse("admin:index")}
        if page.model not in OF_THE_SERVICE:
            assert found == answers(client, of_none)


def _id_of_none(row: Any) -> Any:
    return uuid7() if isinstance(row.pk, UUID) else 2_000_000_000


@pytest.mark.parametrize("page", OF_ONE_ROW, ids=str)
def test_what_is_within_reach_is_answered_as_without_a_limit(
    db: None, alice: Project, page: Page
) -> None:
    """Else the test above would pass with pages that show nobody anything."""
    if page.model in OF_THE_SERVICE:
        return
    row = a_row(page, alice)
    limited, unlimited = with_every_right(alice), with_every_right()
    for url in page.urls(row):
        looked = limited.get(url)
        assert looked.status_code == unlimited.get(url).status_code
        assert looked.status_code != 302
        assert looked.status_code < 500


@pytest.mark.parametrize("page", [p for p in PAGES if not p.row], ids=str)
def test_no_list_form_or_menu_names_what_is_out_of_reach(
    db: None, alice: Project, stranger: Project, page: Page
) -> None:
    _fill(alice)
    client = with_every_right(stranger)
    for url in page.urls(None):
        response = client.get(url, follow=True)
        assert response.status_code in {200, 403, 404, 405}, url
        assert "alice" not in response.content.decode().lower(), url


@pytest.mark.parametrize(
    "page", [p for p in OF_A_MODEL if not p.row and p.name.endswith(("list", "_add"))], ids=str
)
def test_lists_and_forms_name_what_is_within_reach(db: None, alice: Project, page: Page) -> None:
    """Else the test above would pass with empty pages."""
    _fill(alice)
    for url in page.urls(None):
        response = with_every_right(alice).get(url)
        if response.status_code == 403 or page.model in OF_ALL_PROJECTS:
            return
        assert "alice" in response.content.decode().lower(), url


def _fill(project: Project) -> None:
    """A row of everything, with the project's name where it can be read."""
    project.from_email = "alice@example.com"
    project.save()
    who = RecipientFactory(project=project, user_id="Alice")
    about = NotificationFactory(recipient=who, title="To Alice", address="alice@example.com")
    ReceiptFactory(notification=about, reject_reason="Alice")
    SuppressionFactory(project=project, address="alice@example.com")
    ApiKeyFactory(project=project, name="Alice's")
    BatchFactory(project=project, name="Alice's")
    action = ROWS["notifications.bulkaction"](project)
    type(action).objects.update(reason="Alice asked for it")
    Circuit.objects.create(
        provider="smtp",
        sender=project.from_email,
        opened_at=timezone.now(),
        open_until=timezone.now() + timedelta(hours=1),
        cause="refused",
        detail="Alice's mailbox",
    )


# --- What is made and changed ----------------------------------------------------------------------------


def test_who_is_limited_to_some_projects_manages_no_staff(alice: Project) -> None:
    client = operator_of(alice, group=groups.ADMINISTRATOR)
    for name in ("users_user", "auth_group", "axes_accesslog", "axes_accessattempt"):
        assert client.get(reverse(f"admin:{name}_changelist")).status_code == 403
    start = client.get(reverse("admin:index")).content.decode()
    assert reverse("admin:users_user_changelist") not in start


def test_a_limit_cannot_be_lifted_by_who_is_limited(alice: Project) -> None:
    user = UserFactory()
    user.user_permissions.add(*Permission.objects.all())
    user.projects.add(alice)
    url = reverse("admin:users_user_change", args=[user.pk])
    given = {"username": user.username, "is_active": "on", "is_staff": "on"}
    assert client_of(user).post(url, given).status_code == 403
    assert list(user.projects.all()) == [alice]


def test_an_administrator_limits_somebody_to_a_project(alice: Project) -> None:
    user = UserFactory()
    url = reverse("admin:users_user_change", args=[user.pk])
    given = {"username": user.username, "is_active": "on", "is_staff": "on", "projects": [alice.pk]}
    assert operator_of(group=groups.ADMINISTRATOR).post(url, given).status_code == 302
    assert list(user.projects.all()) == [alice]


@pytest.mark.parametrize("mine", [True, False])
def test_a_key_is_made_for_a_project_within_reach_only(
    alice: Project, stranger: Project, mine: bool
) -> None:
    client = operator_of(alice, group=groups.ADMINISTRATOR)
    project = alice if mine else stranger
    given = {"project": project.pk, "name": "a backend", "kind": "live", "scopes": ["send"]}
    client.post(reverse("admin:users_apikey_add"), given)
    assert ApiKey.objects.filter(project=project).exists() == mine


@pytest.mark.parametrize("mine", [True, False])
def test_an_address_is_put_on_the_list_of_a_project_within_reach_only(
    alice: Project, stranger: Project, mine: bool
) -> None:
    project = alice if mine else stranger
    given = {"project": project.pk, "channel": "email", "address": "a@example.com", "reason": "manual"}  # fmt: skip
    operator_of(alice).post(reverse("admin:notifications_suppression_add"), given)
    assert Suppression.objects.filter(project=project).exists() == mine


def test_a_batch_is_uploaded_for_a_project_within_reach_only(
    alice: Project, stranger: Project
) -> None:
    client = operator_of(alice)
    url = reverse("admin:notifications_batch_add")
    answer = client.post(url, {"project": stranger.pk}).content.decode()
    assert "Select a valid choice" in answer
    assert "Stranger" not in answer


def test_what_no_project_has_is_seen_by_who_is_not_limited(alice: Project) -> None:
    receipt = ReceiptFactory()
    url = reverse("admin:notifications_receipt_change", args=[receipt.pk])
    assert operator_of().get(url).status_code == 200
    assert operator_of(alice).get(url).status_code == 302


def test_the_services_own_circuit_is_seen_by_all(alice: Project) -> None:
    own = Circuit.objects.create(provider="smtp", sender="")
    url = reverse("admin:notifications_circuit_change", args=[own.pk])
    assert operator_of(alice).get(url).status_code == 200


def test_who_is_limited_makes_no_project(alice: Project) -> None:
    client = operator_of(alice, group=groups.ADMINISTRATOR)
    assert client.get(reverse("admin:users_project_add")).status_code == 403
    assert operator_of(group=groups.ADMINISTRATOR).get(reverse("admin:users_project_add")).status_code == 200  # fmt: skip


def test_acts_on_rows_out_of_reach_do_nothing(alice: Project, stranger: Project) -> None:
    theirs = NotificationFactory(recipient=RecipientFactory(project=stranger))
    url = reverse("admin:notifications_notification_act", args=["cancel"])
    operator_of(alice).post(url, {"id": [str(theirs.pk)], "reason": "Why not"})
    theirs.refresh_from_db()
    assert theirs.status == "pending"
