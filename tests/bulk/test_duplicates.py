"""Which line had an address first."""

from __future__ import annotations

from notifications.bulk.duplicates import Seen


def test_the_first_line_of_an_address_is_remembered() -> None:
    with Seen() as seen:
        assert seen.first_line("a", 2) is None
        assert seen.first_line("b", 3) is None
        assert seen.first_line("a", 4) == 2
        assert seen.first_line("a", 5) == 2
