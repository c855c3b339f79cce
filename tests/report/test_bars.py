"""The chart is well-formed SVG, its bars are as long as their values, and it reads in light and in dark."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.report.bars import DARK, LIGHT, MARGIN, WIDTH, Bar, bar_chart, ticks

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*bars: Bar, mark: str = "", columns: tuple[str, ...] = ()) -> ElementTree.Element:
    return ElementTree.fromstring(bar_chart("Title", "Subtitle", "length, m", bars, mark, columns))


def of_class(chart: ElementTree.Element, tag: str, name: str) -> list[ElementTree.Element]:
    return [item for item in chart.iter(SVG + tag) if item.get("class") == name]


def rows(chart: ElementTree.Element) -> list[ElementTree.Element]:
    return list(chart.iter(SVG + "g"))


def test_bars_are_as_long_as_their_values_and_start_at_zero() -> None:
    chart = drawn(Bar("a", 4.0), Bar("b", 1.0), Bar("c", 0.0))
    bars = [row.find(SVG + "rect") for row in rows(chart)]
    widths = [float(bar.get("width", "")) for bar in bars if bar is not None]
    assert widths[0] == pytest.approx(4 * widths[1], abs=0.05)
    assert widths[2] == 0.0
    assert len({bar.get("x") for bar in bars if bar is not None}) == 1
    (zero,) = of_class(chart, "line", "grid zero")
    assert float(zero.get("x1", "")) == pytest.approx(float(bars[0].get("x", "")), abs=0.1)  # type: ignore[union-attr]


def test_rows_stand_in_their_order_with_their_names_and_notes() -> None:
    chart = drawn(Bar("first", 1.0, ("9 dB", "1 %")), Bar("second", 2.0, ("8 dB", "2 %")), columns=("SQNR", "work"))
    told = [[text.text for text in row.iter(SVG + "text")] for row in rows(chart)]
    assert told == [["first", "9 dB", "1 %"], ["second", "8 dB", "2 %"]]
    heights = [float(row.find(SVG + "text").get("y", "")) for row in rows(chart)]  # type: ignore[union-attr]
    assert heights == sorted(heights)
    headings = [text for text in chart.iter(SVG + "text") if text.text in ("SQNR", "work")]
    notes = [text for text in rows(chart)[0].iter(SVG + "text") if text.text in ("9 dB", "1 %")]
    assert [item.get("x") for item in headings] == [item.get("x") for item in notes]


def test_title_axis_and_unit_are_there() -> None:
    texts = [text.text for text in drawn(Bar("a", 0.7)).iter(SVG + "text")]
    assert texts[:2] == ["Title", "Subtitle"]
    assert texts.count("length, m") == 2  # the legend and the axis
    assert texts.count("0.4") == 2  # a line's number stands at both its ends


def test_marks_cross_the_bars_where_their_values_are() -> None:
    chart = drawn(Bar("a", 2.0, mark=2.0), Bar("b", 1.0, mark=-1.0), Bar("c", 1.0), mark="gain")
    bar, line = rows(chart)[0].find(SVG + "rect"), rows(chart)[0].find(SVG + "line")
    assert bar is not None
    assert line is not None
    end = float(bar.get("x", "")) + float(bar.get("width", ""))
    assert float(line.get("x1", "")) == pytest.approx(end, abs=0.05)
    below = rows(chart)[1].find(SVG + "line")
    assert below is not None
    assert float(below.get("x1", "")) < float(bar.get("x", ""))  # left of zero
    assert rows(chart)[2].find(SVG + "line") is None
    assert "gain" in [text.text for text in chart.iter(SVG + "text")]


def test_without_marks_none_are_in_the_legend() -> None:
    assert not of_class(drawn(Bar("a", 1.0)), "line", "mark")


def test_a_long_name_loses_its_middle_and_is_whole_when_pointed_at() -> None:
    name = "backbone.stage1." + "x" * 60 + ".conv2"
    (row,) = rows(drawn(Bar(name, 1.0)))
    label = row.find(SVG + "text")
    assert label is not None
    assert label.text is not None
    assert len(label.text) <= 44
    assert label.text.startswith("backbone.stage1")
    assert label.text.endswith(".conv2")
    told = row.find(SVG + "title")
    assert told is not None
    assert told.text is not None
    assert told.text.startswith(name + ": 1")


def test_nothing_is_fetched_and_nothing_runs() -> None:
    chart = bar_chart("Title", "Subtitle", "m", [Bar("a", 1.0)])
    assert not re.search(r"<script|href|url\(|@import|<image", chart)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_from_the_paper(palette: dict[str, str]) -> None:
    """Text has the contrast of WCAG 2.1, 1.4.3 (4.5), what is drawn that of 1.4.11 (3)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(name: str) -> float:
        low, high = sorted((luminance(palette[name]), luminance(palette["paper"])))
        return (high + 0.05) / (low + 0.05)

    assert min(contrast("ink"), contrast("faint")) >= 4.5
    assert min(contrast("bar"), contrast("mark")) >= 3.0


def test_dark_colours_are_for_readers_who_chose_dark() -> None:
    style = drawn(Bar("a", 1.0)).find(SVG + "style")
    assert style is not None
    assert style.text is not None
    light, _, dark = style.text.partition("@media (prefers-color-scheme: dark)")
    assert all(colour in light and colour not in dark for colour in LIGHT.values())
    assert all(colour in dark and colour not in light for colour in DARK.values())
    # In a page of someone else's, the rules touch nothing but the chart.
    assert all(rule.strip().startswith(".ocrslim-bars") for rule in light.split("}") if rule.strip())


@given(st.lists(st.tuples(st.text(), st.floats(0, 1e6), st.none() | st.floats(-1e6, 1e6)), min_size=1, max_size=5))
def test_any_name_and_value_makes_a_chart_within_its_frame(items: list[tuple[str, float, float | None]]) -> None:
    chart = drawn(*(Bar(name, value, ("note",), mark) for name, value, mark in items), columns=("c",))
    assert len(rows(chart)) == len(items)
    for row in rows(chart):
        for item in (row.find(SVG + "rect"), row.find(SVG + "line")):
            if item is not None:
                x = float(item.get("x") or item.get("x1") or "")
                assert MARGIN <= x <= x + float(item.get("width", 0.0)) <= WIDTH - MARGIN


@given(st.floats(-1e9, 0), st.floats(0, 1e9))
def test_ticks_are_few_round_and_lie_around_the_range(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 9
    assert found == sorted(set(found))
    slack = 1e-6 * max(high - low, 1e-9)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack


def test_ticks_of_nothing_are_a_range_all_the_same() -> None:
    assert ticks(0.0, 0.0)[0] < ticks(0.0, 0.0)[-1]
