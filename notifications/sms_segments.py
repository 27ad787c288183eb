"""How many SMS a text is billed as: its segments, after 3GPP TS 23.038 (alphabet) and 23.040 (concatenation)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import gsm0338

#: Units that fit into one SMS, and into each of several: septets of the GSM alphabet, or UTF-16 code units.
_GSM_ALONE, _GSM_OF_MANY = 160, 153
_UCS2_ALONE, _UCS2_OF_MANY = 70, 67

_gsm = gsm0338.Codec()


@dataclass(frozen=True, slots=True)
class Segments:
    """`encoding` is GSM-7, or UCS-2 where one character is not in the GSM alphabet."""

    count: int
    encoding: str
    characters: int


def segments(text: str) -> Segments:
    """As vendors count them, who choose the smaller alphabet that has all characters."""
    try:
        septets, _ = _gsm.encode(text)
    except UnicodeEncodeError:
        units = (len(character.encode("utf-16-le")) // 2 for character in text)
        return Segments(_count(list(units), _UCS2_ALONE, _UCS2_OF_MANY), "UCS-2", len(text))
    # What is not in the basic table costs an escape besides.
    escaped = len(septets) - len(text)
    if not escaped:
        return Segments(_count_equal(len(septets)), "GSM-7", len(text))
    units = (len(_gsm.encode(character)[0]) for character in text)
    return Segments(_count(list(units), _GSM_ALONE, _GSM_OF_MANY), "GSM-7", len(text))


def _count_equal(septets: int) -> int:
    if septets <= _GSM_ALONE:
        return 1
    return -(-septets // _GSM_OF_MANY)


def _count(units: Iterable[int], alone: int, of_many: int) -> int:
    """A character is never split: what does not fit begins the next segment."""
    units = list(units)
    if sum(units) <= alone:
        return 1
    count, used = 1, 0
    for unit in units:
        if used + unit > of_many:
            count, used = count + 1, 0
        used += unit
    return count
