"""From a detector's map of probabilities to boxes: the post-processing of DB (arXiv 1911.08947), as in PaddleOCR."""

from __future__ import annotations

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile
from ocrslim.ocr.polygon import Points, polygon_area

__all__ = ["DBPostProcess"]

SHORTEST = 3  # pixels of the map: the shorter side of what is looked at, before it is grown
SHORTEST_GROWN = SHORTEST + 2


class DBPostProcess:
    """Turns a probability map into boxes.

    1. Pixels above ``thresh`` are text; ``use_dilation`` dilates them by 2 x 2.
    2. Each outline, of ``max_candidates`` at most, gets its smallest rotated rectangle; drop it if a side is under 3.
    3. Its score is the mean probability within the rectangle (``fast``) or the outline (``slow``); drop it below
       ``box_thresh``.
    4. Grow the rectangle by area * ``unclip_ratio`` / perimeter, corners rounded; take the smallest rectangle of that;
       drop it if a side is under 5.
    5. Scale to the source image, round to whole pixels, clip to the image.

    Args:
        profile: all the bounds.
    """

    def __init__(self, profile: DetProfile) -> None:
        self._profile = profile

    def __call__(self, prob: NDArray[np.float32], src_h: int, src_w: int) -> tuple[list[Points], list[float]]:
        """Find the boxes of one image.

        Args:
            prob: f32 ``[H, W]``, 0 to 1.
            src_h: height of the source image, pixels.
            src_w: width of the source image, pixels.

        Returns:
            tuple: boxes, each f32 ``[4, 2]`` (x, y) in pixels of the source image, clockwise from the corner at the
            top left; their scores.
        """
        prob = np.ascontiguousarray(prob, np.float32)
        mask = (prob > self._profile.thresh).astype(np.uint8)
        if self._profile.use_dilation:
            mask = np.asarray(cv2.dilate(mask, np.ones((2, 2), np.uint8)), np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        scale = np.array([src_w / prob.shape[1], src_h / prob.shape[0]], np.float64)
        boxes: list[Points] = []
        scores: list[float] = []
        for outline in outlines[: self._profile.max_candidates]:
            found = self._box(prob, np.asarray(outline))
            if found is None:
                continue
            box, score = found
            boxes.append(np.clip(np.round(box * scale), 0, [src_w, src_h]).astype(np.float32))
            scores.append(score)
        return boxes, scores

    def _box(self, prob: NDArray[np.float32], outline: NDArray[np.int32]) -> tuple[Points, float] | None:
        """Return the grown rectangle around an outline in pixels of the map, and its score, unless it is dropped."""
        rectangle, side = _smallest_rectangle(outline)
        if side < SHORTEST:
            return None
        within = rectangle if self._profile.score_mode == "fast" else outline.reshape(-1, 2)
        score = _mean_within(prob, within)
        if score < self._profile.box_thresh:
            return None
        grown = _unclip(rectangle, self._profile.unclip_ratio)
        if grown is None:
            return None
        rectangle, side = _smallest_rectangle(grown)
        return (rectangle, score) if side >= SHORTEST_GROWN else None


def _smallest_rectangle(points: NDArray[np.int32]) -> tuple[Points, float]:
    """Return the corners of the smallest rotated rectangle, clockwise from the top left, and its shorter side."""
    found = cv2.minAreaRect(points)
    corners = np.asarray(cv2.boxPoints(found), np.float32)
    corners = corners[np.argsort(corners[:, 0], kind="stable")]
    # The two leftmost, then the two rightmost, each pair from the top down.
    left, right = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (corners[:2], corners[2:]))
    return np.stack([left[0], right[0], right[1], left[1]]), float(min(found[1]))


def _mean_within(prob: NDArray[np.float32], polygon: NDArray[np.float32] | NDArray[np.int32]) -> float:
    """Return the mean probability of the pixels in a polygon, corners rounded towards its left and top."""
    height, width = prob.shape
    bounds = np.array([width - 1, height - 1])
    low = np.clip(np.floor(polygon.min(axis=0)), 0, bounds).astype(np.int32)
    high = np.clip(np.ceil(polygon.max(axis=0)), 0, bounds).astype(np.int32)
    window = prob[low[1] : high[1] + 1, low[0] : high[0] + 1]
    mask = np.zeros(window.shape, np.uint8)
    cv2.fillPoly(mask, [(polygon - low).astype(np.int32)], 1)
    return float(cv2.mean(window, mask)[0])


def _unclip(rectangle: Points, ratio: float) -> NDArray[np.int32] | None:
    """Grow a rectangle by area * ratio / perimeter; ``None`` where that leaves no outline, or several."""
    perimeter = float(np.linalg.norm(rectangle - np.roll(rectangle, -1, axis=0), axis=1).sum())
    offset = pyclipper.PyclipperOffset()
    # Clipper counts in whole pixels: corners lose their fractions here, as they do in PaddleOCR.
    offset.AddPath(rectangle.astype(np.int64), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    paths = offset.Execute(polygon_area(rectangle) * ratio / perimeter)
    return np.array(paths[0], np.int32).reshape(-1, 1, 2) if len(paths) == 1 else None
