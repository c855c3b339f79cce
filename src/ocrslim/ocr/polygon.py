"""Polygons in the plane: area, overlap, and which are valid; coordinates are pixels.

Areas of overlap come from Clipper on a grid of 1/65536 pixel: a polygon whose corners are whole pixels, as DB gives,
is measured exactly, others to some millionths.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyclipper
from numpy.typing import NDArray

__all__ = ["Points", "intersection_area", "iou", "is_valid", "polygon_area"]

Points: TypeAlias = NDArray[np.float32]

GRID = 1 << 16  # steps a pixel

_Point: TypeAlias = tuple[float, float]


def polygon_area(points: Points) -> float:
    """Return the area, whichever way round the corners go (the shoelace formula).

    Args:
        points: ``[k, 2]``, k at least 3.
    """
    corners = np.asarray(points, np.float64)
    # Relative to a corner, so that a small polygon far from the origin loses no digits.
    x, y = (corners - corners[0]).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2.0


def intersection_area(a: Points, b: Points) -> float:
    """Return the area that two valid polygons share; neither need be convex.

    Args:
        a: ``[k, 2]``.
        b: ``[m, 2]``.
    """
    low = np.maximum(a.min(axis=0), b.min(axis=0))
    if (low >= np.minimum(a.max(axis=0), b.max(axis=0))).any():
        return 0.0
    clipper = pyclipper.Pyclipper()
    try:
        clipper.AddPath(_on_grid(a), pyclipper.PT_SUBJECT, True)
        clipper.AddPath(_on_grid(b), pyclipper.PT_CLIP, True)
    except pyclipper.ClipperException:
        return 0.0  # no area is left of one of them on the grid
    paths = clipper.Execute(pyclipper.CT_INTERSECTION, pyclipper.PFT_NONZERO, pyclipper.PFT_NONZERO)
    return float(sum(abs(pyclipper.Area(path)) for path in paths)) / GRID**2


def iou(a: Points, b: Points) -> float:
    """Return intersection over union of two valid polygons, 0 to 1."""
    both = intersection_area(a, b)
    either = polygon_area(a) + polygon_area(b) - both
    return min(1.0, both / either) if either > 0 else 0.0


def is_valid(points: Points) -> bool:
    """Return whether a polygon is simple: finite, with an area, its outline nowhere crossing or touching itself.

    The rule is that of OGC Simple Features (``isValid`` of GEOS), which PaddleOCR's metric asks; a corner that is
    given twice in a row counts once.

    Args:
        points: ``[k, 2]``.
    """
    if points.ndim != 2 or not np.isfinite(points).all():
        return False
    corners = [(float(x), float(y)) for x, y in points]
    corners = [corner for index, corner in enumerate(corners) if corner != corners[index - 1]]
    count = len(corners)
    if count < 3 or len(set(corners)) < count:
        return False
    edges = [(corners[index - 1], corners[index]) for index in range(count)]
    for index, (start, end) in enumerate(edges):
        if _turns_back(start, end, edges[(index + 1) % count][1]):
            return False
        # Not with its two neighbours, which share a corner with it.
        last = count - 1 if index == 0 else count
        if any(_meet(start, end, *edges[other]) for other in range(index + 2, last)):
            return False
    return True


def _on_grid(points: Points) -> NDArray[np.int64]:
    return np.round(np.asarray(points, np.float64) * GRID).astype(np.int64)


def _side(a: _Point, b: _Point, c: _Point) -> int:
    """Return on which side of the line from ``a`` to ``b`` the point ``c`` is: 1, -1, or 0 on it."""
    turn = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (turn > 0) - (turn < 0)


def _turns_back(a: _Point, b: _Point, c: _Point) -> bool:
    """Return whether the edge from ``b`` to ``c`` runs back over the one from ``a`` to ``b``."""
    forward = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1])
    return forward < 0 and _side(a, b, c) == 0


def _meet(a: _Point, b: _Point, c: _Point, d: _Point) -> bool:
    """Return whether the segments ``ab`` and ``cd`` have a point in common."""
    sides = _side(a, b, c), _side(a, b, d), _side(c, d, a), _side(c, d, b)
    if sides[0] * sides[1] < 0 and sides[2] * sides[3] < 0:
        return True
    ends = ((a, b, c), (a, b, d), (c, d, a), (c, d, b))
    return any(side == 0 and _within(*end) for side, end in zip(sides, ends, strict=True))


def _within(a: _Point, b: _Point, c: _Point) -> bool:
    """Return whether ``c``, on the line through ``a`` and ``b``, lies between them."""
    return min(a[0], b[0]) <= c[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= c[1] <= max(a[1], b[1])
