"""Post-processing of maps that are drawn by hand, so that the boxes are known beforehand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from ocrslim.config.profile import DetProfile
from ocrslim.ocr.db import DBPostProcess
from ocrslim.ocr.polygon import iou, polygon_area

PLAIN = DetProfile()


def _map(*rectangles: tuple[int, int, int, int], value: float = 0.9, size: tuple[int, int] = (160, 320)) -> np.ndarray:
    """Return a map with rectangles of left, top, right, bottom, the latter two inclusive."""
    prob = np.full(size, 0.01, np.float32)
    for left, top, right, bottom in rectangles:
        prob[top : bottom + 1, left : right + 1] = value
    return prob


def test_an_empty_map_has_no_boxes() -> None:
    assert DBPostProcess(PLAIN)(_map(), 160, 320) == ([], [])


def test_a_box_is_grown_by_area_times_ratio_by_perimeter() -> None:
    boxes, scores = DBPostProcess(PLAIN)(_map((100, 50, 180, 70)), 160, 320)
    # The outline runs through the pixels' centres: 80 x 20. It grows by 80 * 20 * 1.5 / 200 = 12.
    assert len(boxes) == 1
    assert boxes[0].dtype == np.float32
    assert boxes[0].tolist() == [[88, 38], [192, 38], [192, 82], [88, 82]]
    assert scores == pytest.approx([0.9])


@pytest.mark.parametrize("ratio", [1.0, 1.4, 1.6, 2.0])
def test_the_growth_follows_the_ratio(ratio: float) -> None:
    boxes, _ = DBPostProcess(DetProfile(unclip_ratio=ratio))(_map((100, 50, 180, 70)), 160, 320)
    offset = 80 * 20 * ratio / 200
    assert np.abs(boxes[0][0] - [100 - offset, 50 - offset]).max() <= 1


def test_boxes_are_scaled_to_the_source_and_clipped_to_it() -> None:
    boxes, _ = DBPostProcess(PLAIN)(_map((0, 50, 180, 70)), 320, 480)
    full, _ = DBPostProcess(PLAIN)(_map((0, 50, 180, 70)), 160, 320)
    assert boxes[0][:, 0].min() == 0
    assert boxes[0][:, 0].max() == round(full[0][:, 0].max() * 1.5)
    assert boxes[0][:, 1].min() == full[0][:, 1].min() * 2
    edge, _ = DBPostProcess(PLAIN)(_map((200, 120, 319, 159)), 160, 320)
    assert edge[0].max(axis=0).tolist() == [320, 160]


def test_corners_go_clockwise_from_the_top_left_also_for_a_tilted_line() -> None:
    prob = np.zeros((200, 400), np.float32)
    corners = cv2.boxPoints(((200, 100), (200, 30), 20))
    cv2.fillPoly(prob, [corners.astype(np.int32)], 0.95)
    boxes, _ = DBPostProcess(PLAIN)(prob, 200, 400)
    assert len(boxes) == 1
    offset = 200 * 30 * 1.5 / 460
    expected = cv2.boxPoints(((200, 100), (200 + 2 * offset, 30 + 2 * offset), 20))
    assert iou(boxes[0], np.asarray(expected, np.float32)) > 0.95
    first, second, third, fourth = boxes[0]
    assert first[0] < second[0]
    assert fourth[0] < third[0]
    assert first[1] < fourth[1]
    assert second[1] < third[1]


def test_scores_below_the_bound_are_dropped() -> None:
    prob = _map((20, 20, 100, 40), value=0.55) + _map((20, 80, 100, 100), value=0.65)
    boxes, scores = DBPostProcess(PLAIN)(prob, 160, 320)
    assert len(boxes) == 1
    assert scores == pytest.approx([0.66], abs=1e-5)
    assert len(DBPostProcess(DetProfile(box_thresh=0.5))(prob, 160, 320)[0]) == 2


def test_a_pixel_at_the_threshold_is_no_text() -> None:
    profile = DetProfile(thresh=0.5, box_thresh=0.1)
    assert DBPostProcess(profile)(_map((20, 20, 100, 40), value=0.5), 160, 320)[0] == []
    assert len(DBPostProcess(profile)(_map((20, 20, 100, 40), value=0.5001), 160, 320)[0]) == 1


@pytest.mark.parametrize(("side", "found"), [(2, 0), (3, 0), (4, 1), (6, 1)])
def test_specks_are_dropped(side: int, found: int) -> None:
    # side pixels span side - 1 between their centres; 3 is the least
    boxes, _ = DBPostProcess(DetProfile(unclip_ratio=3.0))(_map((50, 50, 49 + side, 49 + side)), 160, 320)
    assert len(boxes) == found


def test_what_is_small_after_it_was_grown_is_dropped() -> None:
    speck = _map((50, 50, 53, 53))  # 3 x 3 grows by 9 * ratio / 12
    assert DBPostProcess(DetProfile(unclip_ratio=0.5))(speck, 160, 320)[0] == []
    assert len(DBPostProcess(DetProfile(unclip_ratio=3.0))(speck, 160, 320)[0]) == 1


def test_slow_scores_follow_the_outline_where_fast_ones_take_the_rectangle() -> None:
    prob = np.zeros((160, 320), np.float32)
    cv2.fillPoly(prob, [np.array([[20, 20], [120, 20], [20, 120]], np.int32)], 0.9)
    fast = DBPostProcess(DetProfile(box_thresh=0.1))(prob, 160, 320)[1]
    slow = DBPostProcess(DetProfile(box_thresh=0.1, score_mode="slow"))(prob, 160, 320)[1]
    assert slow == pytest.approx([0.9], abs=1e-4)
    assert 0.4 < fast[0] < 0.6


def test_dilation_joins_what_a_gap_of_one_pixel_parts() -> None:
    prob = _map((20, 20, 100, 40), (102, 20, 180, 40))
    assert len(DBPostProcess(PLAIN)(prob, 160, 320)[0]) == 2
    assert len(DBPostProcess(DetProfile(use_dilation=True))(prob, 160, 320)[0]) == 1


def test_a_hole_is_an_outline_of_its_own_and_scores_low() -> None:
    prob = _map((20, 20, 200, 140))
    prob[60:100, 60:160] = 0.0
    boxes, _ = DBPostProcess(DetProfile(box_thresh=0.6))(prob, 160, 320)
    assert len(boxes) == 1


def test_no_more_candidates_than_asked_for() -> None:
    prob = _map(*((x, y, x + 20, y + 10) for x in range(10, 300, 40) for y in range(10, 150, 30)))
    total = len(DBPostProcess(PLAIN)(prob, 160, 320)[0])
    assert total == 8 * 5
    assert len(DBPostProcess(DetProfile(max_candidates=7))(prob, 160, 320)[0]) == 7


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_maps_of_one_value_do_no_harm(value: float) -> None:
    boxes, scores = DBPostProcess(PLAIN)(np.full((64, 64), value, np.float32), 64, 64)
    assert len(boxes) == len(scores) == (1 if value == 1.0 else 0)
    assert all(polygon_area(box) == 64 * 64 for box in boxes)


def test_a_map_that_is_a_view_is_taken() -> None:
    prob = _map((100, 50, 180, 70))
    strided = np.repeat(np.repeat(prob, 2, axis=0), 2, axis=1)[::2, ::2]
    assert DBPostProcess(PLAIN)(strided, 160, 320)[0][0].tolist() == DBPostProcess(PLAIN)(prob, 160, 320)[0][0].tolist()
