"""In which order the boxes of a page are read: PaddleOCR's ``sorted_boxes``."""

from __future__ import annotations

from collections.abc import Sequence

from ocrslim.ocr.polygon import Points

__all__ = ["reading_order"]

SAME_ROW = 10.0  # pixels between the tops of two boxes of one row, less than


def reading_order(boxes: Sequence[Points]) -> list[int]:
    """Return the indices of boxes as they are read: rows from the top down, each from left to right.

    1. Sort by the y of the first corner, then by its x.
    2. Take the boxes in that order; each goes to the left past its neighbours while their tops differ by less than
       10 pixels and the neighbour begins further right.

    Args:
        boxes: each ``[4, 2]``, the corner at the top left first.
    """
    tops = [(float(box[0][1]), float(box[0][0])) for box in boxes]
    order = sorted(range(len(boxes)), key=tops.__getitem__)
    for index in range(1, len(order)):
        place = index
        while place and _is_left_of(tops[order[place]], tops[order[place - 1]]):
            order[place - 1], order[place] = order[place], order[place - 1]
            place -= 1
    return order


def _is_left_of(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < SAME_ROW and one[1] < other[1]
