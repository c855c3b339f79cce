"""What a DB detector shall answer (arXiv 1911.08947, section 3.4): the shrunk texts, and a ramp around their outlines.

Both maps offset a polygon by ``distance = area * (1 - ratio^2) / perimeter``, inwards for the probability map, to both
sides for the threshold map. Polygons are f32 ``[k, 2]``, x and y in pixels.

Unlike PaddleOCR's ``MakeBorderMap``, the distance to an edge is the true one throughout: theirs takes that to the
nearer corner as soon as the pixel lies outside the circle over the edge, which for short edges is up to a pixel more.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from ocrslim.ocr.polygon import Points, polygon_area

__all__ = ["border_maps", "offset_distance", "shrink_maps"]

Map = NDArray[np.float32]
LEAST_AREA = 1.0  # square pixels


def shrink_maps(
    shape: tuple[int, int],
    polygons: Sequence[Points],
    ignore: Sequence[bool],
    ratio: float = 0.4,
    least: float = 8.0,
    window: tuple[int, int, int, int] | None = None,
) -> tuple[Map, Map]:
    """Draw the probability map, and the mask of the pixels that count (PaddleOCR's ``MakeShrinkMap``).

    1. Corners are moved into the image.
    2. A text that is ignored, whose box is less than ``least`` pixels high or wide, or that has no area, is taken out
       of the mask.
    3. Any other is shrunk by :func:`offset_distance`; where that leaves no polygon or several, by that of twice the
       ratio, and so on below 1. What the last try leaves is text; where that is nothing, the text leaves the mask.

    Args:
        shape: height and width.
        polygons: of the texts.
        ignore: which of them count neither way.
        ratio: 0 to 1; the smaller, the more is taken away.
        least: pixels.
        window: top, left, height and width of the part to draw, which costs no more than itself; ``None`` is all.

    Returns:
        tuple: the map, 1 within the shrunk texts; the mask, 0 where nothing is said. Both f32 ``[H, W]``, the window's.
    """
    top, left, height, width = window or (0, 0, *shape)
    text, mask = np.zeros((height, width), np.float32), np.ones((height, width), np.float32)
    bounds = np.array([shape[1] - 1, shape[0] - 1], np.float32)
    for polygon, ignored in zip(polygons, ignore, strict=True):
        inside = np.clip(np.asarray(polygon, np.float32), 0, bounds)
        if _is_outside(inside, (left, top), (left + width, top + height)):
            continue
        small = np.ptp(inside, axis=0).min() < least or polygon_area(inside) < LEAST_AREA
        shrunk = [] if ignored or small else _shrink(inside, ratio)
        if shrunk:
            for part in shrunk:  # one by one: filled together, where they overlap would be a hole
                _fill(text, part, (left, top), 1.0)
        else:
            _fill(mask, inside.astype(np.int32), (left, top), 0.0)
    return text, mask


def border_maps(
    shape: tuple[int, int],
    polygons: Sequence[Points],
    ignore: Sequence[bool],
    ratio: float = 0.4,
    low: float = 0.3,
    high: float = 0.7,
) -> tuple[Map, Map]:
    """Draw the threshold map, and the mask of the pixels that count (PaddleOCR's ``MakeBorderMap``).

    On an outline the map is ``high``; it falls linearly to ``low`` at :func:`offset_distance`, on either side. Where
    texts are close, the higher value stands. The mask holds the texts, grown by that distance.

    Args:
        shape: height and width.
        polygons: of the texts; they may reach beyond the image.
        ignore: texts to leave out.
        ratio: see :func:`shrink_maps`.
        low: value far from outlines.
        high: value on outlines.

    Returns:
        tuple: map and mask, f32 ``[H, W]``.
    """
    near, mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for polygon, ignored in zip(polygons, ignore, strict=True):
        if not ignored and polygon_area(polygon) > 0:
            _draw_border(np.asarray(polygon, np.float32), ratio, near, mask)
    return near * np.float32(high - low) + np.float32(low), mask


def offset_distance(polygon: Points, ratio: float) -> float:
    """Return how far a polygon is shrunk or grown, pixels: ``area * (1 - ratio^2) / perimeter``.

    >>> offset_distance(np.array([[0, 0], [40, 0], [40, 10], [0, 10]], np.float32), 0.4)
    3.36
    """
    perimeter = float(np.linalg.norm(polygon - np.roll(polygon, -1, axis=0), axis=1).sum(dtype=np.float64))
    return round(polygon_area(polygon) * (1.0 - ratio**2) / perimeter, 9) if perimeter > 0 else 0.0


def _is_outside(polygon: Points, least: tuple[int, int], most: tuple[int, int]) -> bool:
    """Tell whether a polygon has nothing in a window: from ``least`` (x, y) to before ``most``."""
    return bool((polygon.max(axis=0) < least).any() or (polygon.min(axis=0) >= most).any())


def _fill(drawn: Map, polygon: NDArray[np.int32], corner: tuple[int, int], value: float) -> None:
    """Fill a polygon in a window whose corner is (x, y).

    It is drawn whole and cut: where OpenCV clips an edge, it draws another line than it does without.
    """
    least, most = polygon.min(axis=0), polygon.max(axis=0) + 1
    width, height = (int(side) for side in most - least)
    canvas = np.zeros((height, width), np.uint8)
    cv2.fillPoly(canvas, [polygon - least], 1)
    x, y = (int(at) for at in least - corner)
    part = drawn[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    cut = canvas[max(0, -y) : max(0, -y) + part.shape[0], max(0, -x) : max(0, -x) + part.shape[1]]
    part[cut > 0] = value


def _offset(polygon: Points, distance: float) -> list[NDArray[np.int32]]:
    """Return the outlines at a distance, rounded corners, on whole pixels; Clipper drops the corners' fractions."""
    clipper = pyclipper.PyclipperOffset()
    try:
        clipper.AddPath(polygon.astype(np.int64), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:
        return []  # no area is left on whole pixels
    return [np.asarray(path, np.int32) for path in clipper.Execute(distance)]


def _shrink(polygon: Points, ratio: float) -> list[NDArray[np.int32]]:
    """Return the polygon, shrunk as little as makes one piece of it (rule 3 of :func:`shrink_maps`)."""
    shrunk: list[NDArray[np.int32]] = []
    for times in range(1, 1 + int(np.ceil(1.0 / ratio - 1e-9))):
        if times * ratio >= 1.0:
            break
        shrunk = _offset(polygon, -offset_distance(polygon, times * ratio))
        if len(shrunk) == 1:
            break
    return shrunk


def _draw_border(polygon: Points, ratio: float, near: Map, mask: Map) -> None:
    """Raise ``near`` to 1 on the outline, falling to 0 at the offset distance; fill the grown polygon in ``mask``."""
    distance = offset_distance(polygon, ratio)
    grown = _offset(polygon, distance)
    if not grown or distance <= 0:
        return
    cv2.fillPoly(mask, [grown[0]], 1.0)
    height, width = near.shape
    left, top = np.maximum(grown[0].min(axis=0), 0)
    right, bottom = np.minimum(grown[0].max(axis=0) + 1, [width, height])
    if left >= right or top >= bottom:
        return
    nearest = np.full((bottom - top, right - left), np.inf, np.float32)
    for start, end in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        np.minimum(nearest, _squared_distances(start, end, (left, right), (top, bottom)), out=nearest)
    ramp = np.maximum(0.0, 1.0 - np.sqrt(nearest) / np.float32(distance))
    window = near[top:bottom, left:right]
    np.maximum(window, ramp, out=window)


def _squared_distances(start: Points, end: Points, columns: tuple[int, int], rows: tuple[int, int]) -> Map:
    """Return the squared distance of each pixel of a window to the segment from ``start`` to ``end``."""
    x = np.arange(*columns, dtype=np.float32)[None, :] - start[0]
    y = np.arange(*rows, dtype=np.float32)[:, None] - start[1]
    edge_x, edge_y = end - start
    length = edge_x * edge_x + edge_y * edge_y
    if length == 0:
        return np.asarray(x * x + y * y, np.float32)
    along = np.clip((x * edge_x + y * edge_y) / length, 0.0, 1.0)
    return np.asarray((x - along * edge_x) ** 2 + (y - along * edge_y) ** 2, np.float32)
