"""manage.py send_bulk, batch and send: what people type, what they are told, and how it ends."""

import csv
import os
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from notifications import batches
from notifications.bulk import loading
from notifications.heartbeats import beat
from notifications.management.commands import send_bulk as command
from notifications.models import Batch, Notification
from tests.factories import AddressFactory, BatchFactory, ProjectFactory, row_of

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "examples"


@pytest.fixture(autouse=True)
def _sandbox(settings, alice):
    settings.SANDBOX = True


@pytest.fixture
def file(tmp_path):
    def write(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


GOOD = "email,First Name\nada@example.com,Ada\ngrace@example.com,Grace\n"


@pytest.fixture
def run(capsys):
    """Run it; returns the exit code and what was printed."""

    def run(*arguments, name="send_bulk", **kwargs):
        code = 0
        try:
            call_command(name, *arguments, **kwargs)
        except CommandError as error:
            code = error.returncode
            print(f"CommandError: {error}")  # noqa: T201
        except SystemExit as ended:
            code = ended.code
        return code, capsys.readouterr().out

    return run


def send(run, path, *arguments):
    return run(path, "--message", "Hello {{ first_name }}!", "--title", "News", *arguments)


# -- What it does -----------------------------------------------------------------------------------------


def test_the_example_of_the_readme_works_as_printed(run):
    arguments = (
        str(EXAMPLE / "announcement.csv"),
        "--title",
        "We are moving",
        "--message-file",
        str(EXAMPLE / "announcement.txt"),
    )
    code, told = run(*arguments, "--dry-run")
    assert (code, Batch.objects.count()) == (0, 0)
    assert "4 e-mails to send." in told
    code, told = run(*arguments, "--yes", "--detach")
    assert code == 0
    assert Notification.objects.count() == 4
    assert "Hello there," in Notification.objects.get(address="margaret@example.com").message
    code, told = run("list", name="batch")
    assert "announcement.csv" in told


def test_a_dry_run_shows_counts_errors_with_lines_and_three_examples(run, file):
    rows = "".join(f"p{n}@example.com,P{n}\n" for n in range(5))
    code, told = send(run, file(GOOD + "nobody,Nobody\n" + rows), "--dry-run")
    assert code == 1
    assert "line 4: email: This is not an e-mail address." in told
    assert told.count("--- line") == 3
    assert "Hello Ada!" in told
    assert "7 e-mails to send, 1 row that cannot be sent." in told
    assert not Batch.objects.exists()


def test_a_file_with_errors_sends_nothing(run, file):
    code, told = send(run, file(GOOD + "nobody,Nobody\n"), "--yes")
    assert code == 1
    assert "1 row of 3 cannot be sent, so none was. See --skip-invalid." in told
    assert not Batch.objects.exists()


def test_skip_invalid_sends_the_others_and_writes_the_rejects_with_reasons(run, file):
    path = file(GOOD + "nobody,=cmd\n")
    code, _ = send(run, path, "--yes", "--detach", "--skip-invalid")
    assert (code, Notification.objects.count()) == (0, 2)
    with open(f"{path}.rejected.csv", newline="") as rejected:
        header, row = csv.reader(rejected)
    assert header == ["line", "field", "code", "detail", "row"]
    assert row[:3] == ["4", "first_name", "formula"]
    assert row[-1] == "'=cmd", "what a spreadsheet would compute is defused"


def test_rejects_that_cannot_be_written_send_nothing(run, file, monkeypatch):
    """A full disk."""
    path = file(GOOD + "nobody,N\n")
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    os.symlink("/dev/full", f"{path}.rejected.csv")
    code, told = send(run, path, "--yes", "--skip-invalid")
    assert code == 1
    assert "No space left on device" in told
    assert not Batch.objects.exists()


def test_the_same_command_again_sends_nothing_again(run, file):
    path = file(GOOD)
    send(run, path, "--yes", "--detach")
    code, told = send(run, path, "--yes", "--detach")
    assert (code, Notification.objects.count()) == (0, 2)
    assert "was loaded before; nothing is sent twice" in told


def test_the_same_name_with_another_file_says_what_differs(run, file):
    send(run, file(GOOD), "--yes", "--detach", "--name", "Spring")
    code, told = send(run, file("email,First Name\nx@example.com,X\n"), "--yes", "--name", "Spring")
    assert code == 1
    assert "it differs in the file" in told
    assert Notification.objects.count() == 2


def test_a_command_that_was_broken_off_goes_on(run, file, monkeypatch):
    store = loading._store
    monkeypatch.setattr(loading, "_store", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    code, told = send(run, file(GOOD), "--yes")
    assert (code, Notification.objects.count()) == (130, 0)
    assert "Nothing was sent. The same command again goes on from here." in told
    monkeypatch.setattr(loading, "_store", store)
    assert Batch.objects.get().status == "loading"
    code, _ = send(run, file(GOOD), "--yes", "--detach")
    assert (code, Notification.objects.count()) == (0, 2)
    assert Batch.objects.get().status == "running"


def test_it_shows_the_sending_until_it_ends(run, file, monkeypatch):
    def work(seconds):
        Notification.objects.update(status="sent", sent_at=timezone.now())
        batches.tend()

    monkeypatch.setattr(command.time, "sleep", work)
    code, told = send(run, file(GOOD), "--yes", "--test")
    assert code == 0
    assert "completed (a test: everything goes to the sandbox)" in told
    assert "2 rows: 2 sent" in told


def test_a_failed_row_is_told_by_the_exit_code(run, file, monkeypatch):
    def work(seconds):
        Notification.objects.update(status="failed", failure_kind="permanent", failure_code="550")
        batches.tend()

    monkeypatch.setattr(command.time, "sleep", work)
    code, told = send(run, file(GOOD), "--yes")
    assert code == 3
    assert "2 failed: 550" in told


def test_a_batch_that_is_paused_meanwhile_is_told_by_the_exit_code(run, file, monkeypatch):
    monkeypatch.setattr(command.time, "sleep", lambda s: batches.pause(Batch.objects.get().pk))
    code, told = send(run, file(GOOD), "--yes")
    assert code == 4
    assert ": paused" in told


def test_without_a_worker_it_says_so(run, file, monkeypatch):
    monkeypatch.setattr(command.time, "sleep", lambda s: (_ for _ in ()).throw(KeyboardInterrupt))
    _, told = send(run, file(GOOD), "--yes")
    assert "No worker runs that would send it" in told
    beat("worker 1", "worker", "normal,low")
    _, told = send(run, file(GOOD), "--yes")
    assert "No worker runs" not in told


def test_ctrl_c_while_it_sends_only_stops_watching(run, file, monkeypatch):
    monkeypatch.setattr(command.time, "sleep", lambda s: (_ for _ in ()).throw(KeyboardInterrupt))
    code, told = send(run, file(GOOD), "--yes")
    assert code == 130
    assert "The sending goes on; this only stops watching." in told
    assert Batch.objects.get().status == "running"


def test_a_file_that_is_changed_while_it_is_read_sends_nothing(run, file, monkeypatch):
    path = file(GOOD)
    store = loading._store

    def change(*args):
        Path(path).write_text(GOOD + "late@example.com,Late\n")
        return store(*args)

    monkeypatch.setattr(loading, "_store", change)
    code, told = send(run, path, "--yes")
    assert code == 1
    assert "was changed while it was read; nothing was sent" in told
    assert Batch.objects.get().status == "loading"


def test_a_file_that_is_removed_in_mid_run_is_read_to_its_end(run, file, monkeypatch):
    path = file(GOOD)
    store = loading._store

    def remove(*args):
        Path(path).unlink()
        return store(*args)

    monkeypatch.setattr(loading, "_store", remove)
    code, _ = send(run, path, "--yes", "--detach")
    assert (code, Notification.objects.count()) == (0, 2)


def test_standard_input_is_a_source(run, standard_input):
    standard_input(GOOD)
    code, _ = send(run, "-", "--yes", "--detach")
    assert (code, Notification.objects.count()) == (0, 2)
    assert Batch.objects.get().name.startswith("stdin ")


@pytest.fixture
def standard_input():
    """What the process reads from its descriptor 0."""
    before = os.dup(0)

    def write(text):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        os.dup2(reader, 0)
        os.close(reader)

    yield write
    os.dup2(before, 0)
    os.close(before)


def test_all_recipients_get_it_by_name(run, alice):
    for _ in range(2):
        AddressFactory(recipient__project=alice)
    code, told = run("--all-recipients", "--message", "Hi", "--yes")
    assert code == 1
    assert "--all-recipients needs a --name" in told
    code, _ = run("--all-recipients", "--message", "Hi", "--yes", "--detach", "--name", "All")
    assert (code, Notification.objects.count()) == (0, 2)
    AddressFactory(recipient__project=alice)
    code, _ = run("--all-recipients", "--message", "Hi", "--yes", "--detach", "--name", "All")
    assert (code, Notification.objects.count()) == (0, 2)


def test_a_list_of_users_gets_it(run, file, alice):
    for user_id in ("7", "8"):
        AddressFactory(recipient__project=alice, recipient__user_id=user_id)
    code, _ = run("--users", file("7\n"), "--message", "Hi", "--yes", "--detach")
    assert (code, Notification.objects.get().user_id) == (0, "7")


def test_rate_time_expiry_and_priority_are_the_batchs(run, file):
    send(
        run, file(GOOD), "--yes", "--detach", "--rate", "50/s", "--at", "2099-01-01T00:00Z",
        "--expires", "2099-01-02T00:00Z", "--priority", "normal",
    )  # fmt: skip
    batch = Batch.objects.get()
    assert (batch.status, batch.flow.rate, batch.priority) == ("ready", 50, "normal")
    notification = Notification.objects.first()
    assert notification.due_at == notification.scheduled_for == batch.scheduled_for
    assert notification.expires_at == batch.expires_at


# -- What it refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "It is empty."),
        (b"email,First Name\n", "It has a header and no rows."),
        (b"PK\x03\x04" + b"\0" * 50, "This is an Excel workbook"),
        (b"\x00\x01\x02" * 100, "It is binary"),
        ("email,First Name\nada@example.com,Zoë\n".encode("latin-1"), "Line 2 is not UTF-8"),
        (b"email\n" + b"x" * (10 << 20), "Line 2 has more than"),
        (b'email,First Name\nada@example.com,"Ada\n', "A quote that begins in line 2 is never closed"),
        (b"email,email\na@example.com,b\n", "Two columns have one name"),
        (b"email,First Name,first-name\na@example.com,b,c\n", "Two columns have one name, first_name"),
        (b"email,First Name\nada@example.com\n", "It has 1 cells, and the header 2"),
        (b"email,First Name\nada@example.com,=1+1\n", "This is a formula"),
        (b"email,First Name\nada@example.com,A\0\n", "NUL byte"),
        (b"name\nAda\n", "It names no column user_id, email or phone"),
        (b"email,First Name\nada@example.com," + b"x" * 200_000 + b"\n", "It has 200,000 characters"),
        (b"email,First Name\nada@example.com," + b"x" * (100 << 20) + b"\n", "Line 2 has more than"),
    ],
    ids=[
        "empty", "header only", "workbook", "binary", "latin-1", "10 MB on one line", "unclosed quote",
        "duplicate columns", "duplicate names", "ragged", "formula", "NUL", "nobody", "long value", "100 MB value",
    ],
)  # fmt: skip
def test_a_bad_file_is_named_and_sends_nothing(run, file, content, told):
    code, said = send(run, file(content), "--yes")
    assert code == 1
    assert told in said
    assert not Batch.objects.exists()
    assert not Notification.objects.exists()


def test_a_file_in_another_encoding_is_read_where_it_is_named(run, file):
    path = file("email,First Name\nada@example.com,Zoë\n".encode("cp1252"))
    code, _ = send(run, path, "--yes", "--detach", "--encoding", "cp1252")
    assert code == 0
    assert Notification.objects.get().message == "Hello Zoë!"


def test_a_line_break_in_the_title_is_named(run, file):
    path = file('email,First Name\nada@example.com,"Ada\r\nBcc: x@example.com"\n')
    code, told = run(path, "--title", "Hi {{ first_name }}", "--message", "Hello", "--yes")
    assert code == 1
    assert "line 2: title: The title comes to more than one line" in told
    assert "perhaps by first_name" in told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Hi {{ first_name | shout }}", "There is no filter 'shout'"),
        ("Hi {{ first_name", "--message:"),
        ("{% include 'x' %}", "Unexpected tag 'include'"),
        ("Hi {{ last_name }}", "{{ last_name }}. The columns are: email, first_name"),
        ("{% for i in (1..1000000000) %}x{% endfor %}", "does too much for one message"),
    ],
    ids=["unknown filter", "syntax", "include", "no such column", "bomb"],
)
def test_a_bad_template_is_named_and_sends_nothing(run, file, message, told):
    code, said = run(file(GOOD), "--message", message, "--yes")
    assert code == 1
    assert told in said
    assert not Notification.objects.exists()


def test_a_file_that_is_not_there_is_named(run):
    code, told = send(run, "nowhere.csv", "--yes")
    assert (code, "nowhere.csv cannot be used. It cannot be opened" in told) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Name a FILE"),
        (("--users", "x", "--all-recipients"), "Name a FILE"),
        (("-",), "add --yes"),
    ],
)
def test_a_call_that_contradicts_itself_is_refused(run, arguments, told):
    code, said = run(*arguments, "--message", "x")
    assert (code, told in said) == (1, True)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "fast", "inf"])
def test_a_rate_that_is_none_is_a_wrong_call(file, rate):
    with pytest.raises(CommandError, match="not a number of messages a second"):
        call_command("send_bulk", file(GOOD), "--message", "x", "--rate", rate)


def test_several_projects_have_to_be_told_apart(run, file):
    ProjectFactory()
    code, told = send(run, file(GOOD), "--yes")
    assert (code, "There are several projects" in told) == (1, True)


def test_without_a_terminal_nobody_is_asked_and_nothing_is_sent(run, file, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        code, told = send(run, file(GOOD))
    assert (code, "add --yes" in told) == (1, True)
    assert not Batch.objects.exists()


# -- manage.py batch --------------------------------------------------------------------------------------


def test_batch_shows_and_moves_one(run, alice):
    batch = BatchFactory(project=alice, name="Spring")
    row_of(batch, 1)
    row_of(batch, 2, status="sent", sent_at=timezone.now())
    for verb, status in (
        ("show", "running"),
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
    ):
        code, told = run(verb, "Spring", name="batch")
        assert (code, told.splitlines()[0]) == (0, f"Spring: {status}")
    assert "2 rows: 1 sent, 1 cancelled" in told
    code, told = run("resume", "Spring", name="batch")
    assert (code, "This batch is cancelled; only a paused one can be resumed." in told) == (1, True)


def test_batch_rate_changes_the_rate(run, alice):
    batch = BatchFactory(project=alice, name="Spring")
    _, told = run("rate", "Spring", "20", name="batch")
    assert "at most 20 a second" in told
    run("rate", "Spring", "0", name="batch")
    batch.flow.refresh_from_db()
    assert batch.flow.rate is None


def test_batch_names_what_is_not_there(run, stranger):
    BatchFactory(project=stranger, name="Theirs")
    code, told = run("--project", "Alice's shop", "show", "Theirs", name="batch")
    assert (code, "There is no batch named 'Theirs'" in told) == (1, True)


# -- manage.py send ---------------------------------------------------------------------------------------


def test_send_sends_one_and_prints_its_id(run, alice):
    AddressFactory(recipient__project=alice, recipient__user_id="7", value="7@example.com")
    code, told = run("7", "--channel", "email", "--message", "Hi", name="send")
    notification = Notification.objects.get()
    assert (code, told.strip()) == (0, str(notification.pk))
    assert (notification.address, notification.message, notification.priority) == (
        "7@example.com",
        "Hi",
        "normal",
    )


def test_send_with_a_key_sends_once(run):
    arguments = (
        "--recipient",
        "ada@example.com",
        "--channel",
        "email",
        "--message",
        "Hi",
        "--key",
        "k1",
    )
    first, second = run(*arguments, name="send"), run(*arguments, name="send")
    assert first == second
    assert Notification.objects.count() == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("7", "--channel", "email"), "This user has no e-mail address"),
        (("--channel", "email"), "user_id: Name the person"),
        (("7", "--channel", "email", "--at", "tomorrow"), "scheduled_for: Give a time"),
    ],
)
def test_send_says_what_is_wrong(run, settings, arguments, told):
    settings.SANDBOX = False
    settings.EMAIL_PROVIDER = "smtp"
    settings.EMAIL_URL = "smtp://127.0.0.1:9"
    code, said = run(*arguments, "--message", "Hi", name="send")
    assert (code, told in said) == (1, True)
    assert not Notification.objects.exists()
