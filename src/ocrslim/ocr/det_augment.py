"""Geometric changes to a page and its polygons together: PaddleOCR's ``IaaAugment`` and ``EastRandomCropData``.

Images are BGR u8 ``[H, W, 3]`` and not changed in place, polygons f32 ``[k, 2]``. Coordinates are continuous: a pixel
``i`` covers ``i`` to ``i + 1``, so that mirroring is ``W - x`` and scaling is a product, as in imgaug.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.ocr.polygon import Points

__all__ = ["crop_window", "flip", "geometric", "place_window", "rotate", "scale"]

Image = NDArray[np.uint8]
Page = tuple[Image, list[Points]]
Window = tuple[int, int, int, int]  # left, top, width, height

LARGEST = 1 << 25  # pixels; an image is not enlarged beyond, 100 MB
LONGEST_WARPED = (1 << 15) - 2  # pixels of a side


def geometric(
    image: Image,
    polygons: Sequence[Points],
    augmenters: Sequence[tuple[str, tuple[float, ...]]],
    rng: np.random.Generator,
) -> Page:
    """Apply augmenters in their order; see :class:`ocrslim.config.transforms.IaaAugment`.

    Args:
        image: the page.
        polygons: its texts.
        augmenters: (kind, numbers).
        rng: source of randomness.

    Raises:
        ValueError: an unknown kind.
    """
    page: Page = image, list(polygons)
    for kind, numbers in augmenters:
        if kind in ("Fliplr", "Flipud"):
            if rng.random() < numbers[0]:
                page = flip(*page, horizontal=kind == "Fliplr")
        elif kind == "Affine":
            page = rotate(*page, rng.uniform(numbers[0], numbers[1]))
        elif kind == "Resize":
            page = scale(*page, rng.uniform(numbers[0], numbers[1]))
        else:
            raise ValueError(f"unknown augmenter {kind!r}")
    return page


def flip(image: Image, polygons: Sequence[Points], horizontal: bool = True) -> Page:
    """Mirror left and right, or top and bottom; corners keep their order, so they go round the other way.

    >>> flip(np.zeros((2, 10, 3), np.uint8), [np.array([[1, 0], [4, 0], [4, 2]], np.float32)])[1][0].tolist()
    [[9.0, 0.0], [6.0, 0.0], [6.0, 2.0]]
    """
    axis = 0 if horizontal else 1
    size = image.shape[1 - axis]
    turned = np.asarray(cv2.flip(image, 1 - axis), np.uint8)
    mirrored = [np.array(polygon, np.float32) for polygon in polygons]
    for polygon in mirrored:
        polygon[:, axis] = size - polygon[:, axis]
    return turned, mirrored


def rotate(image: Image, polygons: Sequence[Points], degrees: float) -> Page:
    """Turn about the image's middle, clockwise as seen; the frame stays, what comes in is black, what leaves is lost.

    A page with a side longer than OpenCV warps, 32,766 pixels, stays as it is.

    Args:
        image: the page.
        polygons: its texts; they may reach beyond the frame afterwards.
        degrees: of the turn.
    """
    height, width = image.shape[:2]
    if max(height, width) > LONGEST_WARPED:
        return image, [np.array(polygon, np.float32) for polygon in polygons]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array([width / 2, height / 2])
    moved = [((polygon - middle) @ turn.T + middle).astype(np.float32) for polygon in polygons]
    centre = middle - 0.5  # of the pixels, whose own middles OpenCV counts from
    matrix = np.hstack([turn, (centre - turn @ centre)[:, None]])
    turned = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(turned, np.uint8), moved


def scale(image: Image, polygons: Sequence[Points], factor: float) -> Page:
    """Scale both sides by one factor, rounded to whole pixels, but to 32 million pixels at most.

    Args:
        image: the page.
        polygons: its texts.
        factor: above 0.
    """
    height, width = image.shape[:2]
    factor = min(factor, max(1.0, math.sqrt(LARGEST / (height * width))))
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_CUBIC)
    ratios = np.array([new_width / width, new_height / height], np.float32)
    return np.asarray(resized, np.uint8), [np.asarray(polygon * ratios, np.float32) for polygon in polygons]


def crop_window(
    shape: tuple[int, int],
    polygons: Sequence[Points],
    max_tries: int,
    least: float,
    rng: np.random.Generator,
) -> Window:
    """Choose a window whose borders cross none of the texts, and that holds at least one of them.

    Columns and rows without text form runs. Two runs are drawn (the only one, if it is one), and in each of them one
    place; these are the borders. The whole image is the window where ``max_tries`` draws gave none.

    PaddleOCR's never draws the last run, so that its windows never reach the right and lower margins.

    Args:
        shape: height and width.
        polygons: texts that must not be cut.
        max_tries: draws.
        least: smallest side of the window, as a share of the image's.
        rng: source of randomness.

    Returns:
        tuple: left, top, width, height.
    """
    height, width = shape
    whole = (0, 0, width, height)
    runs = [_free_runs(size, polygons, axis) for axis, size in enumerate((width, height))]
    if not all(runs):
        return whole
    for _ in range(max_tries):
        left, right = _two_places(runs[0], rng)
        top, bottom = _two_places(runs[1], rng)
        if right - left < max(1.0, least * width) or bottom - top < max(1.0, least * height):
            continue
        window = (left, top, right - left, bottom - top)
        if any(_touches(polygon, window) for polygon in polygons):
            return window
    return whole


def place_window(
    image: Image, polygons: Sequence[Points], window: Window, size: tuple[int, int], keep_ratio: bool
) -> tuple[Image, list[Points], list[int]]:
    """Cut a window and bring it to a size, texts with it.

    Args:
        image: the page.
        polygons: its texts.
        window: left, top, width, height.
        size: width and height of the result.
        keep_ratio: scale both sides alike and fill up with black at the right and the bottom.

    Returns:
        tuple: the image ``[size[1], size[0], 3]``; the texts that touch it; their places in ``polygons``.
    """
    left, top, width, height = window
    ratios = np.array([size[0] / width, size[1] / height])
    if keep_ratio:
        ratios[:] = ratios.min()
    used = max(1, int(width * ratios[0] + 1e-9)), max(1, int(height * ratios[1] + 1e-9))
    cut = np.asarray(cv2.resize(image[top : top + height, left : left + width], used), np.uint8)
    placed = np.zeros((size[1], size[0], image.shape[2]), np.uint8)
    placed[: used[1], : used[0]] = cut
    moved = [((polygon - (left, top)) * ratios).astype(np.float32) for polygon in polygons]
    kept = [index for index, polygon in enumerate(moved) if _touches(polygon, (0, 0, *used))]
    return placed, [moved[index] for index in kept], kept


def _free_runs(size: int, polygons: Sequence[Points], axis: int) -> list[tuple[int, int]]:
    """Return the runs of columns (axis 0) or rows (axis 1) without text, each (first, last)."""
    taken = np.zeros(size + 2, bool)
    taken[[0, -1]] = True  # a frame, so that each run has two ends
    for polygon in polygons:
        low, high = np.rint([polygon[:, axis].min(), polygon[:, axis].max()]).astype(int)
        taken[1 + np.clip(low, 0, size) : 1 + np.clip(high, 0, size)] = True
    change = np.flatnonzero(np.diff(taken.astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in change.reshape(-1, 2)]


def _two_places(runs: Sequence[tuple[int, int]], rng: np.random.Generator) -> tuple[int, int]:
    drawn = rng.integers(0, len(runs), 2)
    places = sorted(int(rng.integers(runs[run][0], runs[run][1] + 1)) for run in drawn)
    return places[0], places[1]


def _touches(polygon: Points, window: Window) -> bool:
    """Return whether the polygon's upright box and the window have a point in common."""
    left, top, width, height = window
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return bool(high[0] >= left and low[0] <= left + width and high[1] >= top and low[1] <= top + height)
