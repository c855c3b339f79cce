"""Cutting lines out of pages: sizes as in PaddleOCR, the right side up, and back again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrslim.ocr.crop import LONGEST, crop_line, is_upright, line_size, paste_line


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _page(height: int = 80, width: int = 120) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 2, rows * 3, np.full_like(rows, 7)], axis=2).astype(np.uint8)


def test_an_upright_box_is_a_slice() -> None:
    page = _page()
    cut = crop_line(page, _box(10, 20, 50, 40))
    assert cut.shape == (20, 40, 3)
    assert np.abs(cut.astype(int) - page[20:40, 10:50]).max() <= 1


@pytest.mark.parametrize(
    ("box", "size"),
    [
        (_box(0, 0, 10, 4), (10, 4)),
        (np.array([[0, 0], [10, 0], [14, 4], [0, 6]], np.float32), (14, 6)),  # the longer of opposite sides
        (np.array([[0, 0], [3, 4], [0, 8], [-3, 4]], np.float32), (5, 5)),
        (np.array([[0, 0], [10.9, 0], [10.9, 4.9], [0, 4.9]], np.float32), (10, 4)),  # fractions are cut off
        (_box(5, 5, 5, 5), (1, 1)),
        (_box(0, 0, 1e6, 10), (LONGEST, 10)),
    ],
)
def test_the_size_of_a_line(box: NDArray[np.float32], size: tuple[int, int]) -> None:
    assert line_size(box) == size


@pytest.mark.parametrize(("height", "turned"), [(14, False), (15, True), (16, True)])
def test_a_box_half_as_high_again_as_wide_is_turned_to_the_left(height: int, turned: bool) -> None:
    page, box = _page(), _box(20, 20, 30, 20 + height)
    assert is_upright(box) is turned
    cut = crop_line(page, box)
    assert cut.shape[:2] == ((10, height) if turned else (height, 10))
    expected = page[20 : 20 + height, 20:30]
    if turned:
        expected = np.rot90(expected)  # the text's top was at the right
    assert np.abs(cut.astype(int) - expected).max() <= 1


def test_a_slanted_box_is_laid_straight() -> None:
    page = np.full((200, 300, 3), 255, np.uint8)
    line = np.full((30, 150, 3), 255, np.uint8)
    line[10:20, :75] = 0  # dark at the left only
    box = np.array([[40, 40], [186, 75], [179, 104], [33, 69]], np.float32)
    paste_line(page, line, box)
    cut = crop_line(page, box)
    assert cut.shape[:2] == (29, 150)
    assert cut[14, 10:60].mean() < 60
    assert cut[14, 90:140].mean() > 240


def test_beyond_the_edge_its_pixels_go_on() -> None:
    page = _page()
    cut = crop_line(page, _box(100, 60, 140, 76))
    assert cut.shape == (16, 40, 3)
    assert np.abs(cut[:, -1].astype(int) - page[60:76, -1]).max() <= 1


def test_a_box_outside_the_page_is_an_image_all_the_same() -> None:
    assert crop_line(_page(), _box(500, 500, 520, 510)).shape == (10, 20, 3)


def test_a_page_longer_than_opencv_warps() -> None:
    page = np.zeros((40, 40_000, 3), np.uint8)
    page[:, 39_000:] = 200
    cut = crop_line(page, _box(39_100, 10, 39_200, 30))
    assert cut.shape == (20, 100, 3)
    assert cut.min() == 200


def test_the_same_as_warping_the_whole_page() -> None:
    page = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    box = np.array([[30, 22], [101, 35], [97, 60], [26, 47]], np.float32)
    width, height = line_size(box)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(box, corners)
    whole = cv2.warpPerspective(page, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(crop_line(page, box).astype(int) - whole).max() <= 12  # float32 corners, noise at its steepest
    assert np.abs(crop_line(page, box).astype(int) - whole).mean() < 0.2


def test_pasting_darkens_only_the_box() -> None:
    canvas = np.full((50, 80, 3), 255, np.uint8)
    paste_line(canvas, np.zeros((10, 40, 3), np.uint8), _box(20, 10, 60, 30))
    assert canvas[12:28, 22:58].max() == 0
    canvas[9:32, 19:62] = 255
    assert canvas.min() == 255


def test_pasting_beside_the_canvas_changes_nothing() -> None:
    canvas = np.full((20, 20, 3), 255, np.uint8)
    paste_line(canvas, np.zeros((10, 10, 3), np.uint8), _box(100, 100, 120, 110))
    assert canvas.min() == 255


def test_what_is_pasted_upright_is_cut_out_again() -> None:
    line = np.full((20, 60, 3), 255, np.uint8)
    line[5:15, 5:25] = 0
    canvas = np.full((100, 60, 3), 255, np.uint8)
    box = _box(20, 20, 40, 80)
    paste_line(canvas, line, box)
    assert np.abs(crop_line(canvas, box).astype(int) - line).mean() < 4


corner = st.tuples(st.floats(-50, 200), st.floats(-50, 200))


@settings(max_examples=60)
@given(st.lists(corner, min_size=4, max_size=4))
def test_any_four_corners_are_cut_and_pasted_without_an_error(corners: list[tuple[float, float]]) -> None:
    box = np.array(corners, np.float32)
    cut = crop_line(_page(), box)
    width, height = line_size(box)
    assert cut.shape in ((height, width, 3), (width, height, 3))
    canvas = np.full((80, 120, 3), 255, np.uint8)
    paste_line(canvas, cut, box)
    assert canvas.shape == (80, 120, 3)
