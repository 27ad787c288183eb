"""Reading a bulk file: what it gives, and what it says of a file that is of no use."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.bulk.reading import Row, UnreadableFile, recognise, rows, spreadsheet_number


def read(content: bytes, encoding: str = "") -> list[Row]:
    file = BytesIO(content)
    return list(rows(file, recognise(file, encoding)))


@given(st.binary(max_size=200) | st.text("email,\"'\n\r;{}:@=\0é", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_rows_or_an_unreadable_file(content: bytes) -> None:
    for beginning in (b"", b"email,name\n", b'{"email": "a@example.com"}\n'):
        try:
            read(beginning + content)
        except UnreadableFile:
            continue


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_mark_and_line_ends_are_recognised(delimiter: str) -> None:
    text = (
        delimiter.join(["E-Mail", "First Name"])
        + "\r\n\r\n"
        + f'a@example.com{delimiter}"A\nB"\r\n'
    )
    [row] = read(b"\xef\xbb\xbf" + text.encode())
    assert row.values == {"email": "a@example.com", "first_name": "A\nB"}
    assert (row.number, row.line) == (1, 3)


def test_an_empty_cell_is_no_value() -> None:
    assert read(b"email,name\na@example.com, \n")[0].values == {"email": "a@example.com"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"email\n", "no rows"),
        (b"PK\x03\x04...", "Excel"),
        (b"email\n\0\n", "binary"),
        (b"email,name\na@example.com,Ren\xe9\n", "Line 2 is not UTF-8"),
        (b"email\n" + b"x" * (1 << 21), "Line 2 has more than"),
        (b'email,name\na@example.com,"open\nb@example.com,B\n', "line 2 is never closed"),
        (b"email,First Name,first_name\na,b,c\n", "one name, first_name"),
        (b"email,\na@example.com,b\n", "Column 2 has no usable name"),
        (b"name\nAnn\n", "no column user_id, email or phone"),
        (b"a@example.com,Ann\n", "must name the columns"),
    ],
)
def test_a_file_of_no_use_is_named_as_what_it_is(content: bytes, words: str) -> None:
    with pytest.raises(UnreadableFile, match=words):
        read(content)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"email,name\na@example.com\n", "ragged"),
        (b"email,name\na@example.com,=1+1\n", "formula"),
        (b"email,name\na@example.com,+cmd|x\n", "formula"),
        (b"email,name\na@example.com," + b"x" * 100_001 + b"\n", "too_long"),
        (b'{"email": "a"}\n{"email": NaN}\n', "invalid_json"),
        (b'{"email": "a"}\n{"email": "b", "email": "c"}\n', "invalid_json"),
        (b'{"email": "a\\u0000"}\n', "nul"),
    ],
)
def test_a_row_of_no_use_is_said_of_that_row(content: bytes, code: str) -> None:
    assert read(content)[-1].code == code


@pytest.mark.parametrize("value", ["+15005550006", "-3.50", "@ann", "-"])
def test_phones_numbers_and_names_are_no_formulas(value: str) -> None:
    assert read(f"email,x\na@example.com,{value}\n".encode())[0].problem == ""


def test_an_encoding_that_is_named_is_used() -> None:
    assert read(b"email,name\na@example.com,Ren\xe9\n", "cp1252")[0].values["name"] == "René"
    with pytest.raises(UnreadableFile, match="no encoding"):
        read(b"email\na\n", "klingon")


def test_a_number_of_a_spreadsheet_is_told_from_a_phone() -> None:
    assert spreadsheet_number("1.2E+09")
    assert spreadsheet_number("1,2E+09")
    assert not spreadsheet_number("+15005550006")
