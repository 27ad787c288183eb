"""Cells of a CSV that a spreadsheet will open: text stays text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: A cell that begins so is a formula to some spreadsheet
#: (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Line:
    """What csv writes into: it returns the line instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def text(value: Any) -> Any:
    """A moment as RFC 3339 spells it; anything else as it is."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def defused(cells: Iterable[Any]) -> list[Any]:
    """The cells, with an apostrophe before those texts that a spreadsheet would compute. Phone numbers stay as they are."""
    return [_defused(cell) for cell in cells]


def _defused(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.startswith(_FORMULA):
        return cell
    is_number = cell[0] in "+-" and cell[1:].replace(" ", "").isdigit()
    return cell if is_number else f"'{cell}"
