"""manage.py import_suppressions and export_suppressions."""

from __future__ import annotations

from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from notifications import suppression_files
from notifications.management.commands import import_suppressions
from notifications.models import Suppression
from tests.factories import SuppressionFactory
from users.models import Project

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("alice")]


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(content: str | bytes) -> str:
        path = tmp_path / "list.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def import_(*args: str) -> tuple[str, str]:
    """What was printed, and what was complained of."""
    out, err = StringIO(), StringIO()
    call_command("import_suppressions", *args, stdout=out, stderr=err, no_color=True)
    return out.getvalue().strip(), err.getvalue().strip()


def export(*args: str) -> str:
    out = StringIO()
    call_command("export_suppressions", *args, stdout=out)
    return out.getvalue()


def listed() -> list[tuple[str, ...]]:
    columns = ("channel", "address", "reason", "detail")
    return list(Suppression.objects.order_by("id").values_list(*columns))


def test_a_file_with_all_columns_is_added(file: Any) -> None:
    path = file(
        "channel,address,reason,detail\n"
        'email,Ann@Example.com,complaint,"said ""no"", twice"\n'
        "sms,(500) 555-0006,stop,\n"
    )
    assert import_(path) == ("2 added, 0 known already, 0 bad.", "")
    assert listed() == [
        ("email", "ann@example.com", "complaint", 'said "no", twice'),
        ("sms", "+15005550006", "stop", ""),
    ]
    assert set(Suppression.objects.values_list("source", flat=True)) == {"import"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("email\na@example.com\n", ("email", "a@example.com", "unsubscribe", "")),
        ("phone\n+15005550006\n", ("sms", "+15005550006", "unsubscribe", "")),
        ("address\na@example.com", ("email", "a@example.com", "unsubscribe", "")),
        (
            "\ufeffemail,name\r\na@example.com,Ann\r\n",
            ("email", "a@example.com", "unsubscribe", ""),
        ),
        ("email, reason\na@example.com, complaint\n", ("email", "a@example.com", "complaint", "")),
    ],
)
def test_the_lists_of_providers_are_read_as_they_are(
    file: Any, content: str, expected: tuple[str, ...]
) -> None:
    import_(file(content), "--reason", "unsubscribe")
    assert listed() == [expected]


def test_the_same_file_again_changes_nothing(file: Any) -> None:
    path = file("email\na@example.com\nb@example.com\nA@example.com\n")
    assert import_(path)[0] == "2 added, 1 known already, 0 bad."
    before = listed()
    assert import_(path)[0] == "0 added, 3 known already, 0 bad."
    assert listed() == before


@pytest.mark.parametrize("chunk", [1, 100])
@pytest.mark.parametrize(
    ("reasons", "kept"),
    [
        (("hard_bounce", "complaint"), "hard_bounce"),
        (("complaint", "hard_bounce"), "hard_bounce"),
        (("complaint", "unsubscribe"), "complaint"),
        (("stop", "hard_bounce"), "stop"),
    ],
)
def test_of_one_address_the_same_reason_counts_wherever_the_file_is_cut(
    file: Any, monkeypatch: pytest.MonkeyPatch, chunk: int, reasons: tuple[str, str], kept: str
) -> None:
    monkeypatch.setattr(import_suppressions, "CHUNK", chunk)
    import_(file("email,reason\n" + "".join(f"a@example.com,{reason}\n" for reason in reasons)))
    assert [reason for _, _, reason, _ in listed()] == [kept]


BAD = "channel,address,reason\nemail,a@example.com,\nfax,b@example.com,\nemail,nobody,\nsms,+15005550006,because\n"


def test_with_a_bad_line_nothing_is_added_and_each_is_named(file: Any) -> None:
    err = StringIO()
    with pytest.raises(CommandError, match="3 bad lines, so nothing was added"):
        call_command("import_suppressions", file(BAD), stderr=err, no_color=True)
    assert [line.partition(": ")[0] for line in err.getvalue().splitlines()] == [
        "line 3",
        "line 4",
        "line 5",
    ]
    assert "'fax'" in err.getvalue()
    assert listed() == []


def test_the_good_lines_alone_are_added_when_one_says_so(file: Any) -> None:
    assert import_(file(BAD), "--skip-invalid")[0] == "1 added, 0 known already, 3 bad."
    assert listed() == [("email", "a@example.com", "manual", "")]


def test_a_dry_run_adds_nothing(file: Any) -> None:
    assert import_(file("email\na@example.com\n"), "--dry-run")[0].startswith("1 good, 0 bad")
    assert listed() == []


def test_no_more_than_twenty_bad_lines_are_named(file: Any) -> None:
    _, complaints = import_(file("email\n" + "nobody\n" * 50), "--skip-invalid")
    assert len(complaints.splitlines()) == 20


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "names no column"),
        (b"name\nAnn\n", "names no column 'address', 'email' or 'phone', but: name"),
        (b"email\n\xff\xfe@example.com\n", "not UTF-8"),
    ],
)
def test_what_is_no_such_file_is_said_in_one_sentence(
    file: Any, content: bytes, complaint: str
) -> None:
    with pytest.raises(CommandError, match=complaint):
        call_command("import_suppressions", file(content))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="cannot be opened"):
        call_command("import_suppressions", "/nowhere/list.csv")


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\xef\xbb\xbfemail\na@example.com\n")))
    assert import_("-")[0] == "1 added, 0 known already, 0 bad."


def test_of_several_projects_one_is_named(file: Any, stranger: Project) -> None:
    path = file("email\na@example.com\n")
    with pytest.raises(CommandError, match="several projects"):
        call_command("import_suppressions", path)
    import_(path, "--project", stranger.name)
    assert Suppression.objects.get().project == stranger


def test_many_are_added_and_written_chunk_by_chunk(
    file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_suppressions, "CHUNK", 3)
    monkeypatch.setattr(suppression_files, "CHUNK", 3)
    import_(file("email\n" + "".join(f"a{n}@example.com\n" for n in range(10))))
    assert len(export().splitlines()) == 11


def test_what_was_exported_imports_as_it_was(
    tmp_path: Path, alice: Project, stranger: Project
) -> None:
    SuppressionFactory(project=alice, address="a@example.com", detail='=1+1, "x"\nand y')
    SuppressionFactory(project=alice, channel="sms", address="+15005550006", reason="stop")
    SuppressionFactory(project=stranger)
    path = str(tmp_path / "out.csv")
    call_command(
        "export_suppressions", "--project", alice.name, "--output", path, stderr=StringIO()
    )
    before = [row for row in listed() if row[1] in ("a@example.com", "+15005550006")]
    Suppression.objects.all().delete()
    import_(path, "--project", alice.name)
    assert listed() == before
