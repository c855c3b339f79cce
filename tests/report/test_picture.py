"""Pictures of readings: sizes, where there is ink, and what marks a difference."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ocrslim.ocr.difference import compare_readings
from ocrslim.report.picture import CHANGED, EQUAL, LONGEST, SHORTEST, SINGLE, draw_comparison, draw_reading

Lines = list[tuple[NDArray[np.float32], str]]


def _box(left: float, top: float, right: float, bottom: float) -> NDArray[np.float32]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _page(height: int = 600, width: int = 1000) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 220, np.uint8)


def _dark(picture: NDArray[np.uint8]) -> int:
    return int((picture.max(axis=2) < 90).sum())


def _has(picture: NDArray[np.uint8], colour: tuple[int, int, int], off: int = 0) -> bool:
    return bool((np.abs(picture.astype(int) - colour) <= off).all(axis=2).any())


def test_the_page_is_left_and_its_texts_are_at_their_places_right() -> None:
    lines: Lines = [(_box(100, 100, 500, 160), "Hello 世界"), (_box(100, 400, 500, 460), "again")]
    picture = draw_reading(_page(), lines)
    assert picture.shape == (600, 2000, 3)
    left, right = picture[:, :1000], picture[:, 1000:]
    assert _has(left, EQUAL, 80)  # a line of one pixel is smoothed into the page
    assert _dark(left) == 0
    assert _dark(right[100:160, 100:500]) > 200
    assert _dark(right[400:460, 100:500]) > 200
    assert _dark(right) == _dark(right[100:161, 100:501]) + _dark(right[400:461, 100:501])
    # The text begins at the left of its box and is not stretched over all of it.
    assert _dark(right[400:460, 350:500]) == 0


def test_chinese_is_drawn_and_not_a_question_mark() -> None:
    pictures = [draw_reading(_page(), [(_box(100, 100, 200, 160), text)]) for text in "世界?"]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_a_long_text_is_squeezed_into_its_box() -> None:
    picture = draw_reading(_page(), [(_box(100, 100, 200, 160), "many more words than there is room for")])
    assert _dark(picture[:, 1000:]) == _dark(picture[100:161, 1100:1201]) > 100


def test_a_tall_box_holds_its_text_downwards() -> None:
    picture = draw_reading(_page(), [(_box(100, 100, 160, 500), "Hello")])
    ink = np.argwhere(picture[:, 1000:].max(axis=2) < 90)
    assert np.ptp(ink[:, 0]) > 1.5 * np.ptp(ink[:, 1])
    assert ink[:, 0].max() < 300  # it begins at the top: crops are turned to the left
    assert 100 <= ink[:, 1].min() <= ink[:, 1].max() <= 160


@pytest.mark.parametrize(
    ("height", "width", "longer"), [(60, 100, SHORTEST), (1200, 700, 1200), (300, 6000, LONGEST), (1, 5000, LONGEST)]
)
def test_small_pages_are_enlarged_and_large_ones_shrunk(height: int, width: int, longer: int) -> None:
    picture = draw_reading(_page(height, width), [])
    assert max(picture.shape[0], picture.shape[1] // 2) == longer


def test_a_page_without_text_has_an_empty_panel() -> None:
    assert draw_reading(_page(), [])[:, 1000:].min() == 255


def test_texts_without_ink_or_in_no_space_are_no_error() -> None:
    lines: Lines = [(_box(10, 10, 100, 40), " "), (_box(10, 60, 10, 60), "x"), (_box(10, 80, 100, 110), "")]
    assert draw_reading(_page(), lines).shape == (600, 2000, 3)


def test_a_comparison_marks_texts_and_boxes_that_differ() -> None:
    same, changed = (_box(100, 100, 500, 160), "same"), _box(100, 200, 500, 260)
    ours: Lines = [same, (changed, "kitten"), (_box(100, 300, 500, 360), "here")]
    theirs: Lines = [same, (changed, "sitting"), (_box(100, 400, 500, 460), "there")]
    picture = draw_comparison(_page(), ours, theirs, compare_readings(ours, theirs), ("ours", "theirs"))
    strip = picture.shape[0] - 600
    assert 0 < strip < 80
    assert picture.shape[1] == 3000
    page, left, right = (picture[strip:, at : at + 1000] for at in (0, 1000, 2000))
    for panel in (page, left, right):
        assert _has(panel[190:270], CHANGED)
        assert not _has(panel[90:170], CHANGED)
    assert _has(left[290:370], SINGLE)
    assert not _has(left[390:470], SINGLE)
    assert _has(right[390:470], SINGLE)
    assert _has(page[290:370], SINGLE)
    assert _has(page[390:470], SINGLE)
    assert not np.array_equal(left[205:255, 105:495], right[205:255, 105:495])
    assert np.array_equal(left[100:160], right[100:160])
    assert _dark(picture[:strip, :1000]) > 100  # the counts
    assert not np.array_equal(picture[:strip, 1000:2000], picture[:strip, 2000:])  # the captions


def test_a_caption_is_cut_at_its_panel() -> None:
    ours: Lines = []
    picture = draw_comparison(_page(900, 100), ours, ours, compare_readings(ours, ours), ("long " * 30, ""))
    assert picture.shape[1] == 3 * round(100 * 960 / 900)
