"""Stacked bars: what is drawn is what was counted."""

from __future__ import annotations

import re

from notifications.admin.chart import HEIGHT, Chart, stacked

NAMES = ("delivered", "failed")


def drawn(chart: Chart, name: str) -> list[tuple[float, ...]]:
    """The rectangles of a name: x, y and height."""
    paths = {shape.name: shape.path for shape in chart.shapes}
    found = re.findall(r"M(\d+) ([\d.]+)h8v([\d.]+)h-8z", paths.get(name, ""))
    return [tuple(map(float, numbers)) for numbers in found]


def test_the_parts_of_a_bar_stand_on_each_other_from_the_bottom_up() -> None:
    chart = stacked([("now", {"delivered": 30, "failed": 10, "pending": 5})], NAMES)
    assert drawn(chart, "delivered") == [(0, 15, 45)]
    assert drawn(chart, "failed") == [(0, 0, 15)]
    assert chart.bars[0].told == "now: 30 delivered, 10 failed"


def test_the_highest_bar_fills_the_height_and_the_others_are_beside_it() -> None:
    chart = stacked([("a", {"delivered": 1_000}), ("b", {"delivered": 250})], NAMES)
    assert chart.highest == 1_000
    assert drawn(chart, "delivered") == [(0, 0, HEIGHT), (10, 45, HEIGHT / 4)]
    assert [bar.x for bar in chart.bars] == [0, 10]
    assert chart.width == 18


def test_what_is_there_at_all_can_be_seen_and_nothing_leaves_the_drawing() -> None:
    chart = stacked([("now", {"delivered": 1_000_000, "failed": 1})], NAMES)
    assert drawn(chart, "delivered") == [(0, 0, HEIGHT)]
    assert drawn(chart, "failed") == [(0, 0, 1)]


def test_nothing_is_drawn_of_nothing() -> None:
    assert stacked([], NAMES).bars == []
    chart = stacked([("now", {})], NAMES)
    assert (chart.shapes, chart.bars[0].told, chart.highest) == ([], "now: nothing", 0)


def test_the_table_has_every_number_also_those_that_are_not_drawn() -> None:
    chart = stacked([("a", {"failed": 2}), ("b", {"delivered": 1_000, "failed": 3})], NAMES)
    assert [bar.counts for bar in chart.bars] == [["0", "2"], ["1,000", "3"]]
    assert chart.totals == [("delivered", 1_000), ("failed", 5)]
    assert chart.told == "1,000 delivered, 5 failed"
