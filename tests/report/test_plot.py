"""Points lie where their values are, and the pictures are well-formed SVG."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.report.plot import LEFT, RIGHT, WIDTH, Point, curves, scatter

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*points: Point, level: tuple[float, str] | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(scatter(("Title", "Under"), ("x, m", "y, s"), points, level))


def circles(picture: ElementTree.Element) -> list[tuple[float, float, str]]:
    found = picture.iter(SVG + "circle")
    return [(float(item.get("cx", "")), float(item.get("cy", "")), item.get("class", "")) for item in found]


def test_points_lie_in_proportion() -> None:
    picture = drawn(Point(2.0, 0.0, "1", "a"), Point(3.0, 1.0, "2", "b"), Point(4.0, 4.0, "3", "c"))
    (x0, y0, _), (x1, y1, _), (x2, y2, _) = circles(picture)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y1) * 4 == pytest.approx(y0 - y2, abs=0.5)


def test_an_axis_is_logarithmic_where_values_lie_far_apart() -> None:
    (a, _, _), (b, _, _), (c, _, _) = circles(drawn(*(Point(x, 1.0, "", "") for x in (0.01, 0.1, 1.0))))
    assert b - a == pytest.approx(c - b, abs=0.2)
    assert a >= LEFT
    assert c <= WIDTH - RIGHT
    (a, _, _), (b, _, _) = circles(drawn(Point(0.0, 1.0, "", ""), Point(10.0, 1.0, "", "")))
    assert (a, b) == (LEFT, WIDTH - RIGHT)  # zero has no logarithm


def test_bars_the_chosen_one_and_what_is_not_known() -> None:
    picture = drawn(
        Point(1.0, 2.0, "1", "the chosen one", 1.0, 3.0, True),
        Point(2.0, None, "2", "not judged"),
        level=(0.3, "budget"),
    )
    kinds = [kind for _, _, kind in circles(picture)]
    assert kinds == ["hollow", "dot chosen"]  # the chosen one on top
    (bar,) = (line for line in picture.iter(SVG + "line") if line.get("class") == "error")
    middle = next(y for _, y, kind in circles(picture) if kind == "dot chosen")
    assert (float(bar.get("y1", "")) + float(bar.get("y2", ""))) / 2 == pytest.approx(middle, abs=0.1)
    assert [line for line in picture.iter(SVG + "line") if line.get("class") == "level"]
    assert {title.text for title in picture.iter(SVG + "title")} == {"Title", "the chosen one", "not judged"}
    assert "budget" in [text.text for text in picture.iter(SVG + "text")]


def test_curves_are_told_apart_without_colours() -> None:
    picture = ElementTree.fromstring(curves("loss", "step", {"one": [(0, 1), (50, 2)], "two": [(0, 3), (50, 1)]}))
    lines = list(picture.iter(SVG + "polyline"))
    assert [line.get("stroke-dasharray") for line in lines] == ["none", "6 4"]
    assert [text.text for text in picture.iter(SVG + "text") if text.text in ("one", "two")] == ["one", "two"]
    first = [tuple(map(float, pair.split(","))) for pair in (lines[0].get("points") or "").split()]
    assert first[0][1] > first[1][1]  # up is more
    assert picture.find(SVG + "desc").text == "one: 1 to 2; two: 3 to 1"  # type: ignore[union-attr]


def test_a_single_point_is_a_picture_too() -> None:
    assert circles(ElementTree.fromstring(curves("a", "step", {"one": [(0.0, 0.0)]})))
    assert circles(drawn(Point(0.0, None, "1", "")))


figure = st.floats(-1e15, 1e15)


@given(st.lists(st.tuples(figure, st.none() | figure), min_size=1, max_size=5), st.text())
def test_any_points_are_drawn_within_the_picture(points: list[tuple[float, float | None]], text: str) -> None:
    picture = drawn(*(Point(x, y, text, text) for x, y in points), level=(0.3, text))
    for x, _, _ in circles(picture):
        assert LEFT - 1 <= x <= WIDTH - RIGHT + 1
