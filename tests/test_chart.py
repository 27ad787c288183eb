"""Stacked bars: what is drawn is what was counted."""

from __future__ import annotations

from notifications.admin.chart import HEIGHT, stacked

NAMES = ("delivered", "failed")


def test_the_parts_of_a_bar_stand_on_each_other_from_the_bottom_up() -> None:
    [bar] = stacked([("now", {"delivered": 30, "failed": 10, "pending": 5})], NAMES).bars
    assert [(part.name, part.y, part.height) for part in bar.parts] == [
        ("delivered", "15.00", "45.00"),
        ("failed", "0.00", "15.00"),
    ]
    assert bar.told == "now: 30 delivered, 10 failed"


def test_the_highest_bar_fills_the_height_and_the_others_are_beside_it() -> None:
    chart = stacked([("a", {"delivered": 1_000}), ("b", {"delivered": 250})], NAMES)
    assert chart.highest == 1_000
    assert [bar.parts[0].height for bar in chart.bars] == [f"{HEIGHT:.2f}", f"{HEIGHT / 4:.2f}"]
    assert [bar.x for bar in chart.bars] == [0, 10]
    assert chart.width == 18


def test_what_is_there_at_all_can_be_seen_and_nothing_leaves_the_drawing() -> None:
    [bar] = stacked([("now", {"delivered": 1_000_000, "failed": 1})], NAMES).bars
    assert [float(part.height) for part in bar.parts] == [HEIGHT, 1]
    assert all(0 <= float(part.y) < HEIGHT for part in bar.parts)


def test_nothing_is_drawn_of_nothing() -> None:
    assert stacked([], NAMES).bars == []
    chart = stacked([("now", {})], NAMES)
    assert (chart.bars[0].parts, chart.bars[0].told, chart.highest) == ([], "now: nothing", 0)


def test_the_table_has_every_number_also_those_that_are_not_drawn() -> None:
    chart = stacked([("a", {"failed": 2}), ("b", {"delivered": 1, "failed": 3})], NAMES)
    assert [bar.counts for bar in chart.bars] == [[0, 2], [1, 3]]
    assert chart.totals == [("delivered", 1), ("failed", 5)]
    assert chart.told == "1 delivered, 5 failed"
