"""SMS segments, by the limits of 3GPP TS 23.038 and 23.040."""

from __future__ import annotations

import pytest

from notifications.sms_segments import segments


@pytest.mark.parametrize(
    ("text", "count", "encoding"),
    [
        ("a" * 160, 1, "GSM-7"),
        ("a" * 161, 2, "GSM-7"),
        ("a" * 306, 2, "GSM-7"),
        ("a" * 307, 3, "GSM-7"),
        ("€" * 80, 1, "GSM-7"),
        ("€" * 81, 2, "GSM-7"),
        # 152 and an escape pair: the pair goes to the second segment as a whole, and pushes the rest to a third.
        ("a" * 152 + "€" + "a" * 152, 3, "GSM-7"),
        ("ж" * 70, 1, "UCS-2"),
        ("ж" * 71, 2, "UCS-2"),
        ("😀" * 35, 1, "UCS-2"),
        ("😀" * 66, 2, "UCS-2"),
        ("😀" * 67, 3, "UCS-2"),
    ],
)
def test_a_text_is_counted_as_the_vendor_bills_it(text: str, count: int, encoding: str) -> None:
    found = segments(text)
    assert (found.count, found.encoding, found.characters) == (count, encoding, len(text))
