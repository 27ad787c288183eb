"""Stacked bars, as numbers that a template draws as SVG: no script, and the same numbers stand in a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: A column with the gap to the next, and the height of the highest one, in units of the drawing.
STEP, GAP, HEIGHT = 10, 2, 60
#: What is there at all can be seen.
LEAST = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """`name` is a status, or whatever else is stacked; it is also its CSS class."""

    name: str
    count: int
    y: str
    height: str


@dataclass(frozen=True, slots=True)
class Bar:
    """`label` tells its time; `counts` are those of each name, in order, also where nothing is drawn."""

    label: str
    x: int
    parts: list[Part]
    counts: list[int]

    @property
    def told(self) -> str:
        """For whoever rests the mouse on it."""
        said = ", ".join(f"{part.count:,} {part.name}" for part in self.parts)
        return f"{self.label}: {said or 'nothing'}"


@dataclass(frozen=True, slots=True)
class Chart:
    """`highest` is what the highest bar stands for."""

    bars: list[Bar]
    names: Sequence[str]
    totals: list[tuple[str, int]]
    highest: int

    width_of_bar = STEP - GAP
    height = HEIGHT

    @property
    def width(self) -> int:
        return max(len(self.bars) * STEP - GAP, 1)

    @property
    def told(self) -> str:
        """For whoever does not see it."""
        return ", ".join(f"{count:,} {name}" for name, count in self.totals)


def stacked(columns: Sequence[tuple[str, Mapping[str, int]]], names: Sequence[str]) -> Chart:
    """One bar for each (label, counts by name), its parts in the order of the names from the bottom up."""
    highest = max((sum(counts.get(name, 0) for name in names) for _, counts in columns), default=0)
    bars = [
        Bar(
            label,
            number * STEP,
            _parts(counts, names, highest),
            [counts.get(name, 0) for name in names],
        )
        for number, (label, counts) in enumerate(columns)
    ]
    totals = [(name, sum(counts.get(name, 0) for _, counts in columns)) for name in names]
    return Chart(bars, names, totals, highest)


def _parts(counts: Mapping[str, int], names: Sequence[str], highest: int) -> list[Part]:
    parts, top = [], float(HEIGHT)
    for name in names:
        if count := counts.get(name, 0):
            height = max(count / highest * HEIGHT, LEAST)
            # Of many small ones the uppermost may not leave the drawing.
            top = max(top - height, 0.0)
            parts.append(Part(name, count, f"{top:.2f}", f"{height:.2f}"))
    return parts
