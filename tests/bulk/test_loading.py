"""From a file to the rows of a batch: checked whole, stored whole, each row once."""

import csv
import io
import threading
from contextlib import ExitStack

import pytest
from django.db import connection, connections

from notifications import batches
from notifications.batches import Plan
from notifications.bulk import loading, placing, staged_loading
from notifications.bulk.checking import Checker
from notifications.bulk.duplicates import Seen
from notifications.bulk.examining import examine
from notifications.bulk.loading import NoLongerLoading, load
from notifications.bulk.placing import in_chunks
from notifications.bulk.sources import FileSource, RecipientsSource, UserIdsSource
from notifications.bulk.staging import stage
from notifications.bulk.templating import Templates
from notifications.models import Batch, Notification
from tests.factories import AddressFactory, RecipientFactory, SuppressionFactory
from users.models import Address, Recipient

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _sandbox(settings):
    settings.SANDBOX = True


@pytest.fixture
def file(tmp_path):
    with ExitStack() as opened:

        def write(*rows, header=("email", "first_name")):
            path = tmp_path / "rows.csv"
            with path.open("w", newline="", encoding="utf-8") as out:
                csv.writer(out).writerows([header, *rows])
            return opened.enter_context(path.open("rb"))

        yield write


@pytest.fixture
def loader(alice):
    """Check and load a file as the command does; returns the batch."""

    def run(file, channel="email", message="Hello {{ first_name | default: 'you' }}!", **fields):
        source = FileSource(file, "rows.csv")
        plan = Plan(
            project_id=alice.pk,
            name=fields.pop("name", "Spring"),
            channel=channel,
            message=message,
            digest=source.digest(),
            **fields,
        )
        batch = batches.make(plan)
        with Seen() as seen:
            checker = Checker(channel, Templates("", message, ""), batch.once_per_address, seen)
            load(batch, in_chunks(source.rows(), checker, alice.pk), checker)
        batch.refresh_from_db()
        return batch

    return run


def rows():
    return list(
        Notification.objects.order_by("row_number").values_list("row_number", "address", "message")
    )


def test_each_row_becomes_a_notification_with_its_own_words(file, loader, alice):
    batch = loader(file(("ada@example.com", "Ada"), ("grace@Example.com", "")))
    assert rows() == [
        (1, "ada@example.com", "Hello Ada!"),
        (2, "grace@example.com", "Hello you!"),
    ]
    assert (batch.cursor, batch.loaded, batch.rejected) == (2, 2, 0)
    notification = Notification.objects.first()
    assert (notification.priority, notification.expires_at) == ("low", None)
    assert notification.project_id == alice.pk


def test_who_is_not_known_becomes_a_recipient_with_the_address(file, loader, alice):
    loader(file(("ada@example.com", "Ada")))
    address = Address.objects.get(value="ada@example.com")
    assert address.recipient.project_id == alice.pk
    assert Notification.objects.get().recipient_id == address.recipient_id


def test_who_is_known_by_the_address_gets_it_in_his_history(file, loader, alice):
    ada = AddressFactory(recipient__project=alice, value="ada@example.com").recipient
    loader(file(("ada@example.com", "Ada")))
    assert Notification.objects.get().user_id == ada.user_id


def test_the_rows_address_is_used_and_stored_only_where_there_is_none(file, loader, alice):
    known = AddressFactory(recipient__project=alice, value="old@example.com").recipient
    bare = RecipientFactory(project=alice)
    given = [
        (known.user_id, "new@example.com"),
        (bare.user_id, "bare@example.com"),
        ("7", "7@example.com"),
    ]
    loader(file(*given, header=("user_id", "email")))
    assert [address for _, address, _ in rows()] == [address for _, address in given]
    stored = dict(Address.objects.values_list("recipient__user_id", "value"))
    assert stored == {
        known.user_id: "old@example.com",
        bare.user_id: "bare@example.com",
        "7": "7@example.com",
    }


def test_an_address_that_is_anothers_is_used_and_stays_his(file, loader, alice):
    AddressFactory(recipient__project=alice, value="shared@example.com")
    bare = RecipientFactory(project=alice)
    loader(file((bare.user_id, "shared@example.com"), header=("user_id", "email")))
    notification = Notification.objects.get()
    assert (notification.user_id, notification.address) == (bare.user_id, "shared@example.com")
    assert not bare.addresses.exists()


def test_the_locale_of_a_new_recipient_is_kept(file, loader):
    loader(file(("ada@example.com", "de-AT"), header=("email", "locale")))
    assert Recipient.objects.get().locale == "de-AT"


def test_bad_rows_are_left_out_and_counted(file, loader):
    batch = loader(
        file(
            ("ada@example.com", "Ada"),
            ("nobody", ""),
            ("ADA@example.com", ""),
            ("g@example.com", ""),
        )
    )
    assert [number for number, _, _ in rows()] == [1, 4]
    assert (batch.cursor, batch.loaded, batch.rejected) == (4, 2, 2)


def test_an_address_may_come_twice_where_that_is_wanted(file, loader):
    loader(file(("ada@example.com", "A"), ("ada@example.com", "B")), once_per_address=False)
    assert len(rows()) == 2
    assert Recipient.objects.count() == 1


def test_loading_again_stores_nothing_again(file, loader):
    content = [(f"p{n}@example.com", str(n)) for n in range(5)]
    loader(file(*content))
    batch = loader(file(*content))
    assert (len(rows()), batch.loaded) == (5, 5)


def test_what_breaks_off_goes_on_behind_the_last_stored_chunk(file, loader, monkeypatch):
    monkeypatch.setattr(placing, "CHUNK", 2)
    content = [(f"p{n}@example.com", str(n)) for n in range(7)]
    store, chunks = loading._store, []

    def die_at_the_third(*args):
        chunks.append(1)
        if len(chunks) == 3:
            raise KeyboardInterrupt
        return store(*args)

    monkeypatch.setattr(loading, "_store", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        loader(file(*content))
    assert Batch.objects.get().cursor == 4
    batch = loader(file(*content))
    assert [number for number, _, _ in rows()] == [1, 2, 3, 4, 5, 6, 7]
    assert (batch.cursor, batch.loaded) == (7, 7)


def test_a_batch_that_is_cancelled_meanwhile_loads_no_further(file, loader, monkeypatch):
    monkeypatch.setattr(placing, "CHUNK", 1)
    store = loading._store

    def cancel_first(batch, *args):
        batches.cancel(batch.pk)
        return store(batch, *args)

    monkeypatch.setattr(loading, "_store", cancel_first)
    with pytest.raises(NoLongerLoading):
        loader(file(("ada@example.com", "")))
    assert rows() == []


@pytest.mark.django_db(transaction=True)
def test_two_at_once_store_each_row_once(file, loader, monkeypatch):
    monkeypatch.setattr(placing, "CHUNK", 50)
    content = [(f"p{n}@example.com", str(n)) for n in range(1000)]
    errors = []

    def work(opened):
        try:
            loader(opened)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(file(*content),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [number for number, _, _ in rows()] == list(range(1, 1001))
    assert Batch.objects.get().loaded == 1000
    assert Recipient.objects.count() == 1000


def test_a_recipient_made_between_look_and_insert_is_found_then(file, loader, alice, monkeypatch):
    make_many, raced = loading.make_many, []

    def raced_once(*args):
        if not raced:
            raced.append(1)
            AddressFactory(recipient__project=alice, value="ada@example.com")
        return make_many(*args)

    monkeypatch.setattr(loading, "make_many", raced_once)
    loader(file(("ada@example.com", "Ada")))
    assert Recipient.objects.count() == 1
    assert Notification.objects.get().recipient_id == Recipient.objects.get().pk


# -- The check beforehand ---------------------------------------------------------------------------------


def check(source, project, channel="email", message="Hello!", **kwargs):
    with Seen() as seen:
        checker = Checker(channel, Templates("", message, ""), True, seen)
        return examine(in_chunks(source.rows(), checker, project.pk), project.pk, channel, **kwargs)


def test_the_check_stores_nothing_and_counts_everything(file, alice):
    SuppressionFactory(project=alice, address="gone@example.com")
    AddressFactory(recipient__project=alice, value="ada@example.com")
    content = [
        ("ada@example.com", ""),
        ("gone@example.com", ""),
        ("nobody", ""),
        ("ada@EXAMPLE.com", ""),
    ]
    report = check(FileSource(file(*content), "rows.csv"), alice)
    assert (report.rows, report.valid, report.invalid) == (4, 2, 2)
    assert (report.suppressed, report.new_recipients) == (1, 1)
    assert [(error["line"], error["code"]) for error in report.errors] == [
        (4, "invalid_email"),
        (5, "duplicate"),
    ]
    assert not Notification.objects.exists()
    assert not Batch.objects.exists()


def test_a_mandatory_category_is_not_stopped_by_a_complaint(file, alice):
    SuppressionFactory(project=alice, address="ada@example.com", reason="complaint")
    alice.mandatory_categories = ["receipts"]
    alice.save()
    source = FileSource(file(("ada@example.com", "")), "rows.csv")
    assert check(source, alice).suppressed == 1
    assert check(source, alice, category="receipts").suppressed == 0


def test_sms_segments_are_counted(file, alice):
    source = FileSource(file(("+15005550006",), ("+15005550007",), header=("phone",)), "rows.csv")
    assert check(source, alice, "sms", "x" * 161).segments == 4


def test_a_user_of_another_project_is_not_known_here(file, alice, stranger):
    AddressFactory(recipient__project=stranger, recipient__user_id="7", value="7@example.com")
    report = check(FileSource(file(("7",), header=("user_id",)), "rows.csv"), alice)
    assert report.valid == 0
    assert report.errors[0]["detail"].startswith("There is no user '7' in this project")


def test_a_user_without_an_address_of_the_channel_is_named(file, alice):
    RecipientFactory(project=alice, user_id="7")
    report = check(FileSource(file(("7",), header=("user_id",)), "rows.csv"), alice)
    assert (report.errors[0]["code"], report.errors[0]["field"]) == ("no_address", "user_id")


def test_the_same_person_by_id_and_by_address_is_a_duplicate(file, alice):
    AddressFactory(recipient__project=alice, recipient__user_id="7", value="7@example.com")
    content = [("", "7@example.com"), ("7", "")]
    report = check(FileSource(file(*content, header=("user_id", "email")), "rows.csv"), alice)
    assert [error["code"] for error in report.errors] == ["duplicate"]


# -- Other sources ----------------------------------------------------------------------------------------


def test_a_list_of_user_ids_is_a_source(alice, tmp_path):
    for number in range(3):
        AddressFactory(recipient__project=alice, recipient__user_id=str(number))
    path = tmp_path / "ids"
    path.write_text("0\n\n2\nnobody\n")
    with path.open("rb") as opened:
        report = check(UserIdsSource(opened, "ids"), alice)
    assert (report.valid, report.invalid) == (2, 1)
    assert report.errors[0]["line"] == 4


def test_all_recipients_are_those_there_were_when_the_batch_was_made(alice, stranger):
    first = AddressFactory(recipient__project=alice).recipient
    AddressFactory(recipient__project=stranger)
    RecipientFactory(project=alice)  # has no address
    source = RecipientsSource(alice.pk, "email")
    AddressFactory(recipient__project=alice)
    assert [row.values["user_id"] for row in source.rows()] == [first.user_id]
    again = RecipientsSource(alice.pk, "email", source.last_id)
    assert [row.number for row in again.rows()] == [first.pk]


# -- Uploads ----------------------------------------------------------------------------------------------


def upload(project, content, **fields):
    plan = Plan(
        project_id=project.pk,
        name="Spring",
        channel="email",
        message="Hello!",
        digest=b"1" * 32,
        **fields,
    )
    return stage(plan, io.BytesIO(content))


def test_an_upload_is_checked_loaded_and_started_by_a_worker(alice):
    batch = upload(alice, b"email\nada@example.com\n")
    assert staged_loading.load_next()
    batch.refresh_from_db()
    assert (batch.status, batch.loaded) == ("running", 1)
    assert batch.report["valid"] == 1
    assert batch.report["examples"][0]["recipient"] == "ada@example.com"
    assert not staged_loading.load_next()


def test_an_upload_with_bad_rows_sends_nothing_and_says_which(alice):
    batch = upload(alice, b"email\nada@example.com\nnobody\n")
    staged_loading.load_next()
    batch.refresh_from_db()
    assert (batch.status, batch.reason) == ("cancelled", "1 row of 2 cannot be sent, so none was.")
    assert batch.report["errors"][0]["line"] == 3
    assert not Notification.objects.exists()


def test_an_upload_whose_bad_rows_are_to_be_skipped_sends_the_others(alice):
    batch = upload(alice, b"email\nada@example.com\nnobody\n", skip_invalid=True)
    staged_loading.load_next()
    batch.refresh_from_db()
    assert (batch.status, batch.loaded, batch.rejected) == ("running", 1, 1)


def test_an_upload_whose_worker_died_is_loaded_by_the_next(alice, monkeypatch):
    monkeypatch.setattr(placing, "CHUNK", 1)
    batch = upload(alice, b"email\nada@example.com\ngrace@example.com\n")
    monkeypatch.setattr(batches, "loaded", lambda batch_id: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        staged_loading.load_next()
    monkeypatch.undo()
    assert not staged_loading.load_next(), "the lease of the first still holds"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE notifications_batch SET leased_until = now() - interval '1 minute'")
    assert staged_loading.load_next()
    batch.refresh_from_db()
    assert (batch.status, batch.loaded, len(rows())) == (
        "ready" if not batch.started_at else "running",
        2,
        2,
    )
