"""Stacked bars, as numbers that a template draws as SVG: no script, and the same numbers stand in a table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

#: A column with the gap to the next, and the height of the highest one, in units of the drawing.
STEP, GAP, HEIGHT = 10, 2, 60
#: What is there at all can be seen.
LEAST = 1.0


@dataclass(frozen=True, slots=True)
class Bar:
    """`label` tells its time, `told` all of it, for whoever rests the mouse on it; `counts` are those of each name, in
    order, as the table shows them.
    """

    label: str
    x: int
    told: str
    counts: list[str]


@dataclass(frozen=True, slots=True)
class Shape:
    """All that is drawn of one name, as an SVG path. The name is also its CSS class."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`highest` is what the highest bar stands for."""

    bars: list[Bar]
    shapes: list[Shape]
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
    counted = [[counts.get(name, 0) for name in names] for _, counts in columns]
    highest = max(map(sum, counted), default=0)
    paths: dict[str, list[str]] = {name: [] for name in names}
    for number, counts in enumerate(counted):
        for name, rectangle in _rectangles(number * STEP, counts, names, highest):
            paths[name].append(rectangle)
    return Chart(
        bars=[
            _bar(label, number * STEP, counts, names)
            for number, ((label, _), counts) in enumerate(zip(columns, counted, strict=True))
        ],
        shapes=[Shape(name, "".join(path)) for name, path in paths.items() if path],
        names=names,
        totals=[(name, sum(counts[at] for counts in counted)) for at, name in enumerate(names)],
        highest=highest,
    )


def _bar(label: str, x: int, counts: Sequence[int], names: Sequence[str]) -> Bar:
    written = [f"{count:,}" for count in counts]
    parts = [f"{text} {name}" for text, name in zip(written, names, strict=True) if text != "0"]
    return Bar(label, x, f"{label}: {', '.join(parts) or 'nothing'}", written)


def _rectangles(
    x: int, counts: Sequence[int], names: Sequence[str], highest: int
) -> Iterator[tuple[str, str]]:
    top = float(HEIGHT)
    for name, count in zip(names, counts, strict=True):
        if count:
            height = max(count / highest * HEIGHT, LEAST)
            # Of many small ones the uppermost may not leave the drawing.
            top = max(top - height, 0.0)
            yield name, f"M{x} {top:.2f}h{STEP - GAP}v{height:.2f}h-{STEP - GAP}z"
