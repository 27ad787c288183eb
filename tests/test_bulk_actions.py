"""Bulk actions: what is meant, that each is done once, whoever is killed or comes second, and who may."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.utils import timezone
from uuid_utils.compat import uuid7

from notifications import bulk_actions, carrying, housekeeping, stopping
from notifications.acts import ACTS, Act
from notifications.carrying import Carrier, take
from notifications.models import BulkAction, BulkActionRow, Notification
from tests.factories import NotificationFactory, SuppressionFactory, UserFactory
from users import groups
from users.models import Project, User
from users.refusals import Conflict, Refused

LIST = "/admin/notifications/notification/"
PAGES = "/admin/notifications/bulkaction/"
FAILED = {"status": "failed"}
WHY = "the provider was down"


@pytest.fixture
def user(db: None) -> User:
    return operator_of()


def operator_of(*projects: Project) -> User:
    operator = UserFactory()
    operator.groups.add(Group.objects.get(name=groups.OPERATOR))
    operator.projects.set(projects)
    return operator


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def failed(**fields: Any) -> Notification:
    failure = {"status": "failed", "failure_kind": "temporary", "failure_code": "421"}
    return NotificationFactory(**failure | fields)


def make(user: User, act: str = "resend", **changed: Any) -> BulkAction:
    asked: dict[str, Any] = {
        "query": FAILED,
        "project_ids": None,
        "include_arrived": False,
        "reason": WHY,
        "rate": None,
    }
    return bulk_actions.make(ACTS[act], user=user, **asked | changed)


def carry_out(bulk_action: BulkAction) -> BulkAction:
    taken = take(bulk_action.pk)
    assert taken
    Carrier(taken).carry_on()
    bulk_action.refresh_from_db()
    return bulk_action


def resends() -> int:
    return Notification.objects.filter(resend_of__isnull=False).count()


def let_the_lease_end(bulk_action: BulkAction) -> None:
    then = timezone.now() - timedelta(seconds=1)
    BulkAction.objects.filter(pk=bulk_action.pk).update(leased_until=then)


# --- What is meant -----------------------------------------------------------------------------------------------


def test_all_that_match_are_done_and_each_is_logged_with_the_reason(user: User) -> None:
    meant = [failed() for _ in range(7)]
    NotificationFactory(status="cancelled")
    done = carry_out(make(user))
    assert (done.status, done.selected, done.done, done.refused) == ("completed", 7, 7, 0)
    assert done.finished_at
    assert {each.resend_of_id for each in Notification.objects.exclude(resend_of=None)} == {
        each.pk for each in meant
    }
    entries = LogEntry.objects.filter(object_id__in=[str(each.pk) for each in meant])
    assert {(entry.user_id, entry.change_message) for entry in entries} == {
        (user.pk, f"Resent: {WHY}")
    }


def test_selecting_goes_on_in_chunks(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "CHUNK", 2)
    for _ in range(5):
        failed()
    assert carry_out(make(user)).done == 5


def test_what_is_accepted_after_the_preview_is_not_meant(user: User) -> None:
    before = failed()
    shown = uuid7()
    failed()
    assert carry_out(make(user, id=shown)).selected == 1
    assert Notification.objects.get(resend_of__isnull=False).resend_of_id == before.pk


def test_an_id_of_the_future_means_nothing_that_comes_later(user: User) -> None:
    bulk_action = make(user, id=UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"))
    failed()
    assert carry_out(bulk_action).selected == 0


def test_what_went_out_already_is_left_out_unless_it_is_meant(user: User) -> None:
    sent = NotificationFactory(status="sent", sent_at=timezone.now())
    query = {"project": str(sent.project_id)}
    assert carry_out(make(user, query=query)).selected == 0
    assert carry_out(make(user, query=query, include_arrived=True)).done == 1


def test_what_arrived_after_it_was_selected_is_not_sent_again(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification = failed()

    def arrives(carrier: Carrier, row: BulkActionRow, seen: Notification | None) -> None:
        Notification.objects.filter(pk=notification.pk).update(
            status="delivered", sent_at=timezone.now()
        )
        do(carrier, row, seen)

    do = Carrier._do
    monkeypatch.setattr(Carrier, "_do", arrives)
    done = carry_out(make(user))
    assert (done.done, done.refused) == (0, 1)
    assert "its person has it already" in bulk_actions.refusals(done)[0][0]
    assert not resends()


def test_a_refused_one_is_counted_by_its_reason_and_holds_up_no_other(user: User) -> None:
    suppressed = [failed(), failed()]
    failed()
    for each in suppressed:
        SuppressionFactory(project=each.project, address=each.address)
    done = carry_out(make(user))
    assert (done.done, done.refused) == (1, 2)
    assert bulk_actions.refusals(done) == [("Its address is suppressed.", 2)]


def test_a_fault_with_one_is_told_and_holds_up_no_other(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = failed(), failed()
    perform = ACTS["resend"].perform

    def faulty(self: Act, notification: Notification, *args: Any) -> Notification | None:
        if notification.pk == first.pk:
            raise ValueError
        return perform(notification, *args)

    monkeypatch.setattr(type(ACTS["resend"]), "perform", faulty)
    done = carry_out(make(user))
    assert (done.status, done.done, done.refused) == ("completed", 1, 1)
    assert bulk_actions.refusals(done) == [("It could not be done: ValueError.", 1)]


@pytest.mark.parametrize(
    ("act", "before", "after"),
    [
        ("cancel", "pending", "cancelled"),
        ("retry", "pending", "pending"),
        ("arrived", "unknown", "sent"),
        ("give_up", "unknown", "failed"),
    ],
)
def test_every_act_is_done_to_many(user: User, act: str, before: str, after: str) -> None:
    for _ in range(3):
        NotificationFactory(status=before, due_at=timezone.now() + timedelta(hours=1))
    assert carry_out(make(user, act, query={"channel": "email"})).done == 3
    assert {*Notification.objects.values_list("status", flat=True)} == {after}
    if act == "retry":
        assert Notification.objects.filter(due_at__lte=timezone.now()).count() == 3


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"query": {}}, ""),
        ({"query": {"status": ""}}, ""),
        ({"query": {"status": "nonsense"}}, "status"),
        ({"query": {"color": "red"}}, "color"),
        ({"reason": "  "}, "reason"),
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": float("inf")}, "rate"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_made(
    user: User, changed: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused) as refusal:
        make(user, **changed)
    assert refusal.value.field == field
    assert not BulkAction.objects.exists()


def test_it_reaches_no_further_than_the_projects_of_who_asked(
    user: User, alice: Project, stranger: Project
) -> None:
    of_alice, _ = failed(project=alice), failed(project=stranger)
    assert carry_out(make(user, project_ids=[alice.pk])).selected == 1
    assert Notification.objects.get(resend_of__isnull=False).resend_of_id == of_alice.pk


# --- Once ---------------------------------------------------------------------------------------------------------


def test_the_same_selection_twice_sends_once(user: User) -> None:
    for _ in range(3):
        failed()
    first, second = make(user), make(user)
    assert carry_out(first).done == 3
    again = carry_out(second)
    assert (again.done, again.refused) == (0, 3)
    assert bulk_actions.refusals(again) == [("This was resent already.", 3)]
    assert resends() == 3


def test_a_form_that_is_sent_twice_makes_one(user: User) -> None:
    id = uuid7()
    assert make(user, id=id).pk == make(user, id=id).pk
    assert BulkAction.objects.count() == 1
    others: list[dict[str, Any]] = [
        {"user": operator_of()},
        {"user": user, "act": "cancel"},
        {"user": user, "query": {"status": "expired"}},
    ]
    for other in others:
        with pytest.raises(Refused, match="another bulk action"):
            make(**other, id=id)


def in_threads(*steps: Callable[[], Any]) -> None:
    """All at the same moment; what one raises is raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(steps))

    def run(step: Callable[[], Any]) -> None:
        try:
            barrier.wait(10)
            step()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors, errors


def many_failed(count: int) -> None:
    first = failed()
    rows = []
    for _ in range(count - 1):
        row = Notification.objects.get(pk=first.pk)
        row.pk = uuid7()
        rows.append(row)
    Notification.objects.bulk_create(rows)


@pytest.mark.django_db(transaction=True)
def test_two_operators_who_resend_the_same_thousand_at_the_same_moment_send_a_thousand() -> None:
    """Both ask by the page, for the same thousand; two workers carry out theirs at the same time."""
    many_failed(1000)
    clients = [client_of(operator_of()), client_of(operator_of())]

    def press(client: Client) -> None:
        given = {"id": str(uuid7()), "reason": WHY, "rate": "100000"}
        assert client.post(f"{PAGES}new/resend/?status=failed", given).status_code == 302

    in_threads(*(lambda client=client: press(client) for client in clients))
    assert BulkAction.objects.count() == 2
    in_threads(carrying.carry_next, carrying.carry_next)
    assert resends() == 1000
    ended = BulkAction.objects.all()
    assert {each.status for each in ended} == {"completed"}
    assert sum(each.done for each in ended) == 1000
    assert sum(each.refused for each in ended) == 1000


@pytest.mark.django_db(transaction=True)
def test_two_who_carry_out_the_same_one_do_each_row_once() -> None:
    """As after a lease that ended although its worker was only slow."""
    many_failed(60)
    bulk_action = make(operator_of())
    slow = take(bulk_action.pk)
    let_the_lease_end(bulk_action)
    other = take(bulk_action.pk)
    assert slow
    assert other
    in_threads(Carrier(slow).carry_on, Carrier(other).carry_on)
    bulk_action.refresh_from_db()
    assert (bulk_action.status, bulk_action.done, bulk_action.refused) == ("completed", 60, 0)
    assert resends() == 60


class Killed(BaseException):
    """As by a signal: nothing of the process runs any more."""


@pytest.mark.parametrize("after", [0, 1, 4])
def test_what_a_killed_worker_left_is_gone_on_with_and_nothing_is_done_twice(
    user: User, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    for _ in range(5):
        failed()
    bulk_action = make(user)
    taken = take()
    assert taken

    def die(done: BulkAction) -> None:
        if done.selected and done.done == after:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Carrier, "_give_back", lambda self: None)
        with pytest.raises(Killed):
            Carrier(taken, die).carry_on()
    assert resends() == after
    assert take() is None, "its lease still holds"
    let_the_lease_end(bulk_action)
    assert carry_out(bulk_action).done == 5
    assert resends() == 5


def test_an_act_whose_mark_is_not_kept_is_not_kept_either(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed()
    bulk_action = make(user)
    change = Carrier._change

    def dies_at_the_count(self: Carrier, **values: Any) -> None:
        if "done" in values:
            raise Killed
        change(self, **values)

    monkeypatch.setattr(Carrier, "_change", dies_at_the_count)
    with pytest.raises(Killed):
        carry_out(bulk_action)
    assert not resends()
    assert not LogEntry.objects.filter(change_message=f"Resent: {WHY}").exists()


# --- Watching, pausing, stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("move", [bulk_actions.pause, bulk_actions.stop])
def test_a_pause_and_a_stop_hold_from_the_very_next_row_on(
    user: User, monkeypatch: pytest.MonkeyPatch, move: Callable[..., None]
) -> None:
    for _ in range(5):
        failed()
    bulk_action = make(user)

    def meanwhile(carrier: Carrier) -> None:
        """Somebody presses the button between the second row and the third."""
        if carrier.bulk_action.done == 2:
            move(bulk_action)

    monkeypatch.setattr(Carrier, "_wait_for_turn", meanwhile)
    ended = carry_out(bulk_action)
    assert (ended.done, resends()) == (2, 2)
    assert ended.status == ("paused" if move is bulk_actions.pause else "stopped")
    assert take() is None


def test_what_was_paused_goes_on_where_it_was(user: User) -> None:
    for _ in range(3):
        failed()
    bulk_action = make(user)
    bulk_actions.pause(bulk_action, user, "look first")
    assert take() is None
    bulk_actions.resume(bulk_action, user)
    assert carry_out(bulk_action).done == 3
    words = LogEntry.objects.filter(object_id=str(bulk_action.pk)).order_by("id")
    assert [entry.change_message for entry in words] == [
        f"Resend: {WHY}",
        "Paused: look first",
        "Resumed.",
    ]


def test_what_is_resumed_after_it_began_is_about_the_same_rows(user: User) -> None:
    failed()
    bulk_action = make(user)
    BulkAction.objects.filter(pk=bulk_action.pk).update(status="paused", done=1, selected=1)
    bulk_actions.resume(bulk_action, user)
    bulk_action.refresh_from_db()
    assert bulk_action.status == "running"


def test_what_has_ended_is_moved_no_more(user: User) -> None:
    bulk_action = carry_out(make(user))
    for move in (bulk_actions.pause, bulk_actions.resume, bulk_actions.stop):
        with pytest.raises(Conflict, match="It is completed"):
            move(bulk_action, user)


def test_a_worker_that_is_to_stop_gives_it_back_at_once(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed()
    bulk_action = make(user)
    with monkeypatch.context() as patched:
        patched.setattr(stopping, "is_stopping", lambda: True)
        carry_out(bulk_action)
    assert bulk_action.leased_until is None
    assert not bulk_action.done
    assert carry_out(bulk_action).done == 1


def test_the_rate_holds_and_what_was_missed_is_not_caught_up_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(carrying.time, "monotonic", lambda: now)
    pace = carrying.Pace(10)
    assert pace.wait() <= 0
    pace.step()
    assert pace.wait() == pytest.approx(0.1)
    now += 60
    pace.step()
    assert pace.wait() == pytest.approx(0.1), "a burst after a minute in which nothing was done"


@pytest.mark.django_db(transaction=True)
def test_a_worker_does_what_was_asked_for(
    start_worker: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    for _ in range(3):
        failed()
    bulk_action = make(operator_of())
    start_worker()
    wait_until(lambda: BulkAction.objects.get(pk=bulk_action.pk).status == "completed", 30)
    assert resends() == 3


def test_the_rows_of_one_that_ended_long_ago_are_pruned_and_its_figures_stay(user: User) -> None:
    failed()
    old, new = carry_out(make(user)), carry_out(make(user))
    BulkAction.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(days=31))
    housekeeping.prune()
    assert {row.bulk_action_id for row in BulkActionRow.objects.all()} == {new.pk}
    assert BulkAction.objects.get(pk=old.pk).done == 1


# --- The pages ----------------------------------------------------------------------------------------------------


def text_of(client: Client, path: str, status: int = 200) -> str:
    response = client.get(path)
    assert response.status_code == status, path
    return response.content.decode()


def test_more_than_a_page_takes_lead_from_the_list_to_a_preview_of_all_that_match(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.admin.acting.MOST_AT_ONCE", 2)
    chosen = [failed(), failed(), failed()]
    data = {"action": "resend", "_selected_action": str(chosen[0].pk), "select_across": "1"}
    response = client_of(user).post(f"{LIST}?status=failed", data)
    assert response["Location"] == f"{PAGES}new/resend/?status=failed"


def test_the_preview_counts_by_channel_and_status_and_says_what_is_left_out(user: User) -> None:
    project = failed().project
    failed(project=project, channel="sms")
    NotificationFactory(project=project, status="unknown")
    NotificationFactory(project=project, status="sent", sent_at=timezone.now())
    NotificationFactory(project=project)
    failed(project=project, erased_at=timezone.now())
    text = text_of(client_of(user), f"{PAGES}new/resend/?project={project.pk}")
    assert "Resend 3 notifications?" in text
    for words in (
        "2 E-mail",
        "1 SMS",
        "2 failed",
        "1 unknown",
        "1 of them may have arrived already",
        "1 more went out already",
        "1: still pending",
        "1: the person was forgotten",
        f"project: <b>{project.name}</b>",
    ):
        assert words in text, words


def test_the_preview_counts_no_further_than_its_bound_and_says_so(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions, "MOST_COUNTED", 2)
    for _ in range(4):
        failed(reference="order-7")
    for query in ("status=failed", "q=order-7", "q=order-7&status=failed"):
        text = text_of(client_of(user), f"{PAGES}new/resend/?{query}")
        assert "the newest 2 that were looked at" in text, query


def test_looking_at_a_preview_changes_nothing(user: User) -> None:
    failed()
    client = client_of(user)
    text_of(client, f"{PAGES}new/resend/?status=failed")
    assert not BulkAction.objects.exists()
    bulk_action = make(user)
    for name in ("pause", "resume", "stop"):
        text_of(client, f"{PAGES}{bulk_action.pk}/{name}/confirm/")
    bulk_action.refresh_from_db()
    assert bulk_action.status == "selecting"


@pytest.mark.parametrize(
    ("given", "words"),
    [({"reason": " "}, "This field is required"), ({"reason": "x" * 501}, "at most 500 characters"),
     ({"rate": "0"}, "greater than or equal"), ({"rate": "quick"}, "Enter a number"),
     ({"id": "nonsense"}, "valid UUID")],
)  # fmt: skip
def test_a_wrong_field_is_told_beside_it_and_nothing_is_made(
    user: User, given: dict[str, str], words: str
) -> None:
    failed()
    data = {"id": str(uuid7()), "reason": WHY, "rate": "50"} | given
    response = client_of(user).post(f"{PAGES}new/resend/?status=failed", data)
    assert response.status_code == 200
    assert words in response.content.decode()
    assert not BulkAction.objects.exists()


@pytest.mark.parametrize("query", ["", "?status=nonsense", "?color=red", "?status=%00"])
def test_a_query_that_makes_no_sense_leads_back_with_a_sentence(user: User, query: str) -> None:
    path = f"{PAGES}new/resend/{query}"
    client = client_of(user)
    data = {"id": str(uuid7()), "reason": WHY, "rate": "50"}
    for response in (client.get(path), client.post(path, data)):
        assert response.status_code == 302
        assert response["Location"] == LIST
    assert not BulkAction.objects.exists()


def test_the_page_of_one_tells_how_far_it_is_and_moves_it(user: User) -> None:
    notification = failed(title="Your invoice")
    client = client_of(user)
    data = {"id": str(uuid7()), "reason": WHY, "rate": "50"}
    where = client.post(f"{PAGES}new/resend/?status=failed", data)["Location"]
    bulk_action = BulkAction.objects.get()
    assert WHY in text_of(client, PAGES)
    assert WHY in text_of(client, where)
    for name, status in (("pause", "paused"), ("resume", "selecting")):
        client.post(f"{PAGES}{bulk_action.pk}/{name}/confirm/", {"reason": ""})
        bulk_action.refresh_from_db()
        assert bulk_action.status == status
    carry_out(bulk_action)
    newer = Notification.objects.get(resend_of=notification)
    text = text_of(client, where)
    for words in ("1 notification resent.", "Your invoice", str(newer.pk), "status: <b>failed</b>"):
        assert words in text, words
    state = client.get(f"{PAGES}{bulk_action.pk}/state/").json()
    assert (state["status"], state["finished"]) == ("completed", True)


def test_asking_for_fifty_thousand_costs_no_more_than_asking_for_one(
    user: User, django_assert_max_num_queries: Any
) -> None:
    """It stores what was chosen, and looks at none of them."""
    failed()
    with django_assert_max_num_queries(12) as captured:
        make(user)
    assert not [query for query in captured if 'FROM "notifications_notification"' in query["sql"]]


# --- Who may ------------------------------------------------------------------------------------------------------


def test_of_another_project_every_address_is_404_or_leads_away_and_does_nothing(
    user: User, alice: Project, stranger: Project
) -> None:
    notification = failed(project=stranger)
    bulk_action = make(user, project_ids=[stranger.pk])
    unlimited = make(user)
    client = client_of(operator_of(alice))
    for each in (bulk_action, unlimited):
        for name in ("state", "pause/confirm", "resume/confirm", "stop/confirm"):
            path = f"{PAGES}{each.pk}/{name}/"
            assert client.get(path).status_code == 404, path
            if name != "state":
                assert client.post(path, {"reason": WHY}).status_code == 404, path
        assert str(each.pk) not in text_of(client, PAGES)
        assert client.get(f"{PAGES}{each.pk}/change/").status_code in (302, 404)
        text_of(client, PAGES)  # Which shows, once, that it is not there.
        each.refresh_from_db()
        assert each.status == "selecting"
    for act in ACTS:
        assert client.get(f"{LIST}{notification.pk}/{act}/confirm/").status_code == 404
        client.post(f"{LIST}act/{act}/", {"id": str(notification.pk), "reason": WHY})
    assert not LogEntry.objects.filter(object_id=str(notification.pk)).exists()
    assert not resends()


def test_by_hand_an_operator_of_one_project_makes_only_what_stays_within_it(
    alice: Project, stranger: Project
) -> None:
    failed(project=stranger)
    data = {"id": str(uuid7()), "reason": WHY, "rate": "50"}
    client = client_of(operator_of(alice))
    assert client.post(f"{PAGES}new/resend/?status=failed", data).status_code == 302
    made = BulkAction.objects.get()
    assert made.project_ids == [alice.pk]
    assert carry_out(made).selected == 0
    assert "Resend 0 notifications" in text_of(client, f"{PAGES}new/resend/?status=failed")


@pytest.mark.parametrize("act", ACTS)
def test_without_the_right_to_an_act_every_address_of_it_is_403(db: None, act: str) -> None:
    looks = UserFactory()
    codes = ("view_notification", "view_bulkaction")
    looks.user_permissions.add(*Permission.objects.filter(codename__in=codes))
    client = client_of(looks)
    notification = NotificationFactory(status=sorted(ACTS[act].statuses)[0])
    bulk_action = make(operator_of(), act)
    paths = [f"{PAGES}new/{act}/?status=failed", f"{LIST}{notification.pk}/{act}/confirm/"]
    moves = [f"{PAGES}{bulk_action.pk}/{name}/confirm/" for name in ("pause", "resume", "stop")]
    data = {"id": str(notification.pk), "reason": WHY, "rate": "50"}
    for path in (*paths, *moves):
        assert client.get(path).status_code == 403, path
        assert client.post(path, data).status_code == 403, path
    assert client.post(f"{LIST}act/{act}/", data).status_code == 403
    bulk_action.refresh_from_db()
    assert bulk_action.status == "selecting"
    assert BulkAction.objects.count() == 1


def test_the_right_to_act_is_none_to_look_at_bulk_actions(user: User) -> None:
    bulk_action = make(user)
    acts_only = UserFactory()
    acts_only.user_permissions.add(*Permission.objects.filter(codename="resend_notification"))
    client = client_of(acts_only)
    for path in (
        "",
        f"{bulk_action.pk}/state/",
        f"{bulk_action.pk}/stop/confirm/",
        "new/resend/?status=failed",
    ):
        assert client.get(f"{PAGES}{path}").status_code == 403, path


# -- Whoever may not any more -------------------------------------------------------------------------------


def _deactivate(user: User, project: Project) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def _take_the_right(user: User, project: Project) -> None:
    user.groups.clear()


def _limit(user: User, project: Project) -> None:
    user.projects.add(project)


@pytest.mark.parametrize("lose", [_deactivate, _take_the_right, _limit])
def test_a_right_that_was_taken_away_holds_for_what_waits(
    user: User, stranger: Project, lose: Callable[[User, Project], None]
) -> None:
    failed()
    bulk_action = make(user)
    lose(user, stranger)
    ended = carry_out(bulk_action)
    assert (ended.done, ended.refused) == (0, 1)
    assert "any more" in bulk_actions.refusals(ended)[0][0]
    assert not Notification.objects.exclude(resend_of=None).exists()
