"""The order in which boxes are read, against PaddleOCR's rule written out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrslim.ocr.reading_order import reading_order


def _at(x: float, y: float) -> NDArray[np.float32]:
    return np.array([[x, y], [x + 20, y], [x + 20, y + 10], [x, y + 10]], np.float32)


@pytest.mark.parametrize(
    ("corners", "order"),
    [
        ([], []),
        ([(5, 5)], [0]),
        ([(0, 50), (0, 0)], [1, 0]),
        ([(100, 0), (0, 0)], [1, 0]),
        ([(100, 0), (0, 9)], [1, 0]),  # a slanted row: 9 pixels lower, but further left
        ([(100, 0), (0, 10)], [0, 1]),  # 10 pixels are another row
        ([(200, 0), (100, 8), (0, 16)], [1, 0, 2]),  # the third is held against the first, 16 pixels above it
        ([(0, 0), (0, 0)], [0, 1]),
    ],
)
def test_rows_then_columns(corners: list[tuple[int, int]], order: list[int]) -> None:
    assert reading_order([_at(*corner) for corner in corners]) == order


def test_two_columns_of_a_page() -> None:
    corners = [(300, 2), (0, 0), (300, 31), (0, 30)]
    assert reading_order([_at(*corner) for corner in corners]) == [1, 0, 3, 2]


places = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(places)
def test_nothing_is_lost_and_rows_descend(corners: list[tuple[int, int]]) -> None:
    order = reading_order([_at(*corner) for corner in corners])
    assert sorted(order) == list(range(len(corners)))
    for before, after in pairwise(order):
        (x0, y0), (x1, y1) = corners[before], corners[after]
        assert not (abs(y1 - y0) < 10 and x1 < x0 and y1 >= y0), "a neighbour further left in the same row comes first"


@given(places)
def test_the_rule_as_paddleocr_states_it(corners: list[tuple[int, int]]) -> None:
    boxes = sorted(range(len(corners)), key=lambda i: (corners[i][1], corners[i][0]))
    for i in range(len(boxes) - 1):
        for j in range(i, -1, -1):
            (x0, y0), (x1, y1) = corners[boxes[j]], corners[boxes[j + 1]]
            if not (abs(y1 - y0) < 10 and x1 < x0):
                break
            boxes[j], boxes[j + 1] = boxes[j + 1], boxes[j]
    assert reading_order([_at(*corner) for corner in corners]) == boxes
