"""Areas of overlap against closed forms, against a rasteriser, and against another algorithm."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ocrslim.ocr.polygon import intersection_area, iou, is_valid, polygon_area


def _points(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, np.float32)


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return _points((left, top), (right, top), (right, bottom), (left, bottom))


UNIT = _rectangle(0, 0, 1, 1)
L_SHAPE = _points((0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2))
STAR = _points((0, 3), (1, 1), (3, 0), (1, -1), (0, -3), (-1, -1), (-3, 0), (-1, 1))


@pytest.mark.parametrize(
    ("points", "area"),
    [
        (UNIT, 1.0),
        (UNIT[::-1], 1.0),
        (_rectangle(1000, 2000, 1010, 2005), 50.0),
        (_points((0, 0), (4, 0), (0, 3)), 6.0),
        (L_SHAPE, 3.0),
        (STAR, 12.0),
        (_rectangle(999_999, 999_999, 1_000_000, 1_000_000), 1.0),
        (_points((0, 0), (5, 5), (10, 10)), 0.0),
    ],
)
def test_area_has_its_closed_form(points: np.ndarray, area: float) -> None:
    assert polygon_area(points) == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "area"),
    [
        (_rectangle(0, 0, 10, 10), _rectangle(5, 5, 15, 15), 25.0),
        (_rectangle(0, 0, 10, 10), _rectangle(0, 0, 10, 10), 100.0),
        (_rectangle(0, 0, 10, 10), _rectangle(2, 3, 4, 5)[::-1], 4.0),
        (_rectangle(0, 0, 10, 10), _rectangle(10, 0, 20, 10), 0.0),
        (_rectangle(0, 0, 10, 10), _rectangle(30, 0, 40, 10), 0.0),
        (L_SHAPE, _rectangle(1, 1, 2, 2), 0.0),  # only their bounding boxes overlap
        (L_SHAPE, _rectangle(0.5, 0.5, 1.5, 1.5), 0.75),
        (STAR, _rectangle(-3, -3, 3, 0), 6.0),
        (_points((0, 0), (10, 0), (0, 10)), _points((10, 10), (0, 10), (10, 0)), 0.0),
        (_points((0, 0), (10, 0), (0, 10)), _rectangle(0, 0, 5, 10), 37.5),
    ],
)
def test_overlap_has_its_closed_form(a: np.ndarray, b: np.ndarray, area: float) -> None:
    assert intersection_area(a, b) == pytest.approx(area, abs=1e-9)
    assert intersection_area(b, a) == pytest.approx(area, abs=1e-9)


def test_two_combs_share_several_pieces() -> None:
    comb = _points((0, 0), (9, 0), (9, 5), (8, 5), (8, 1), (5, 1), (5, 5), (4, 5), (4, 1), (1, 1), (1, 5), (0, 5))
    bar = _rectangle(0, 3, 9, 4)
    assert intersection_area(comb, bar) == pytest.approx(3.0)
    assert is_valid(comb)


def test_overlap_of_rotated_squares_is_an_octagon() -> None:
    square = _rectangle(-1, -1, 1, 1)
    root = math.sqrt(2)
    diamond = _points((0, -root), (root, 0), (0, root), (-root, 0))
    assert intersection_area(square, diamond) == pytest.approx(8 * (root - 1), rel=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (UNIT, UNIT, 1.0),
        (_rectangle(0, 0, 10, 10), _rectangle(0, 0, 10, 5), 0.5),
        (_rectangle(0, 0, 10, 10), _rectangle(5, 0, 15, 10), 1 / 3),
        (UNIT, _rectangle(2, 2, 3, 3), 0.0),
        (_points((0, 0), (1, 1), (2, 2)), _points((0, 0), (1, 1), (2, 2)), 0.0),
    ],
)
def test_iou_is_exact_for_whole_pixels(a: np.ndarray, b: np.ndarray, expected: float) -> None:
    assert iou(a, b) == expected


def _clip(subject: list[tuple[float, float]], window: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sutherland and Hodgman's clipping of convex polygons (1974), in floats: the oracle."""
    for start, end in zip(window, window[1:] + window[:1], strict=True):
        edge = (end[0] - start[0], end[1] - start[1])
        sides = [edge[0] * (y - start[1]) - edge[1] * (x - start[0]) for x, y in subject]
        kept = []
        for index, point in enumerate(subject):
            before, side = sides[index - 1], sides[index]
            if before * side < 0:
                share = before / (before - side)
                other = subject[index - 1]
                kept.append((other[0] + share * (point[0] - other[0]), other[1] + share * (point[1] - other[1])))
            if side >= 0:
                kept.append(point)
        subject = kept
        if not subject:
            return []
    return subject


_rotated = st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(2, 80), st.floats(2, 80), st.floats(0, 180))


def _quadrangle(rotated: tuple[float, float, float, float, float]) -> np.ndarray:
    x, y, width, height, angle = rotated
    box = np.asarray(cv2.boxPoints(((x, y), (width, height), angle)), np.float32)
    turn = np.cross(np.append(box[1] - box[0], 0), np.append(box[2] - box[1], 0))[2]
    return box if turn > 0 else box[::-1].copy()


@given(_rotated, _rotated)
def test_overlap_of_rectangles_is_that_of_another_algorithm(
    a: tuple[float, float, float, float, float], b: tuple[float, float, float, float, float]
) -> None:
    first, second = _quadrangle(a), _quadrangle(b)
    clipped = _clip([(float(x), float(y)) for x, y in first], [(float(x), float(y)) for x, y in second])
    expected = polygon_area(np.array(clipped, np.float64)) if len(clipped) > 2 else 0.0
    assert intersection_area(first, second) == pytest.approx(expected, abs=0.01)
    assert 0.0 <= iou(first, second) <= 1.0


@st.composite
def _around_a_point(draw: st.DrawFn) -> np.ndarray:
    """Draw a polygon, mostly not convex, whose corners go once around a point."""
    angles = sorted(draw(st.sets(st.integers(0, 35), min_size=3, max_size=9)))
    radii = [draw(st.integers(2, 18)) for _ in angles]
    x, y = draw(st.integers(19, 22)), draw(st.integers(19, 22))
    turns = np.array(angles) * (np.pi / 18)
    return np.stack([x + radii * np.cos(turns), y + radii * np.sin(turns)], axis=1).astype(np.float32)


@given(_around_a_point(), _around_a_point())
def test_overlap_of_any_valid_polygons_is_what_a_rasteriser_counts(first: np.ndarray, second: np.ndarray) -> None:
    assume(is_valid(first) and is_valid(second))
    masks = []
    for polygon in (first, second):
        mask = np.zeros((41 * 16, 41 * 16), np.uint8)
        cv2.fillPoly(mask, [(polygon * 16).astype(np.int32)], 1)
        masks.append(mask)
    counted = float((masks[0] & masks[1]).sum()) / 256
    # fillPoly colours the outline too: half a sub-pixel along all the edges.
    outline = sum(float(np.linalg.norm(p - np.roll(p, 1, axis=0), axis=1).sum()) for p in (first, second))
    assert intersection_area(first, second) == pytest.approx(counted, abs=outline / 16 + 0.1)


@pytest.mark.parametrize(
    ("points", "valid"),
    [
        (UNIT, True),
        (UNIT[::-1], True),
        (L_SHAPE, True),
        (STAR, True),
        (_points((0, 0), (1, 0), (0, 1)), True),
        (_points((0, 0), (0, 0), (1, 0), (1, 1), (0, 1), (0, 1)), True),  # corners twice in a row
        (_points((0, 0), (1, 0), (1, 1), (0, 1), (0, 0)), True),  # closed
        (_points((0, 0), (5, 0), (10, 0), (10, 10), (0, 10)), True),  # a corner on a straight edge
        (_points((0, 0), (1, 1), (1, 0), (0, 1)), False),  # bow tie
        (_points((0, 0), (10, 0), (5, 0)), False),  # no area
        (_points((0, 0), (1, 1)), False),
        (_points((3, 3), (3, 3), (3, 3), (3, 3)), False),
        (_points((0, 0), (2, 0), (2, 2), (1, 0), (0, 2)), False),  # touches its own edge
        (_points((0, 0), (2, 0), (1, 1), (2, 2), (0, 2), (1, 1)), False),  # comes to a corner twice
        (_points((0, 0), (10, 0), (10, 10), (10, 5), (0, 5)), False),  # runs back over an edge
        (_points((0, 0), (10, 0), (10, float("nan")), (0, 10)), False),
        (_points((0, 0), (10, 0), (10, float("inf")), (0, 10)), False),
        (np.zeros((0, 2), np.float32), False),
        (np.zeros(4, np.float32), False),
    ],
)
def test_which_polygons_are_valid(points: np.ndarray, valid: bool) -> None:
    assert is_valid(points) is valid


@given(_rotated)
def test_rectangles_are_valid_wherever_they_begin(rotated: tuple[float, float, float, float, float]) -> None:
    box = _quadrangle(rotated)
    for turn in range(4):
        assert is_valid(np.roll(box, turn, axis=0))
    assert not is_valid(box[[0, 2, 1, 3]])


def test_overlap_with_a_sliver_that_the_grid_swallows_is_nothing() -> None:
    sliver = _points((0, 0), (1, 0), (1, 1e-7))
    assert intersection_area(sliver, _rectangle(-1, -1, 2, 2)) == 0.0
