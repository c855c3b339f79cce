"""PaddleOCR's ``RecAug`` and ``RecConAug`` for text lines; :mod:`ocrslim.ocr.augment` holds the milder ones of our own.

Bending is moving least squares with similarities (Schaefer, McPhail, Warren 2006, section 2.2; Luo et al.,
arXiv 2003.06606, for text). Images are BGR u8 ``[H, W, 3]`` and not changed in place.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.config.transforms import RecAug, RecConAug

__all__ = ["augment_rec", "bend", "distort", "join_lines", "stretch_parts", "tilt"]

Image = NDArray[np.uint8]
Corners = NDArray[np.float64]

GRID = 8  # pixels between the points at which a bend is computed; between them it is interpolated
SMALLEST = 20  # pixels; lines that are lower or narrower are not bent or cropped
SMALLEST_BLURRED = 10


def augment_rec(image: Image, settings: RecAug, rng: np.random.Generator) -> Image:
    """Change a line, each change with its own chance, in PaddleOCR's order.

    Args:
        image: the line.
        settings: the chances.
        rng: source of randomness.

    Returns:
        NDArray: the line; a crop makes it up to 8 pixels lower.
    """
    height, width = image.shape[:2]
    large = min(height, width) >= SMALLEST
    if rng.random() < settings.tia_prob:
        if large:
            image = distort(image, int(rng.integers(3, 7)), rng)
            image = stretch_parts(image, int(rng.integers(3, 7)), rng)
        image = tilt(image, rng)
    if rng.random() < settings.crop_prob and large:
        rows = min(int(rng.integers(1, 9)), height - 1)
        image = image[rows:] if rng.random() < 0.5 else image[:-rows]
    if rng.random() < settings.blur_prob and min(height, width) > SMALLEST_BLURRED:
        image = np.asarray(cv2.GaussianBlur(image, (5, 5), 1), np.uint8)
    if rng.random() < settings.hsv_aug_prob:
        image = _tint(image, rng)
    if rng.random() < settings.jitter_prob and min(height, width) > SMALLEST_BLURRED:
        image = _shake(image, int(rng.random() * min(image.shape[:2]) * 0.01))
    if rng.random() < settings.noise_prob:
        speckles = rng.standard_normal(image.shape, np.float32) * np.float32(0.5 * 0.1**0.5)
        image = np.clip(image + speckles, 0, 255).astype(np.uint8)
    if rng.random() < settings.reverse_prob:
        image = 255 - image
    return image


def distort(image: Image, segments: int, rng: np.random.Generator) -> Image:
    """Move points on the upper and lower border, ``segments`` stretches of the line apart, by a third of one at most.

    Args:
        image: the line.
        segments: at least 2.
        rng: source of randomness.
    """
    height, width = image.shape[:2]
    cut = width // segments
    most = max(1, cut // 3)
    corners = _corners(height, width)
    inward = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    inner = _border_points(height, cut, segments)
    moved = np.concatenate(
        [
            corners + inward * rng.integers(0, most, (4, 2)),
            inner + rng.integers(0, most, inner.shape) - most / 2,
        ]
    )
    return bend(image, np.concatenate([corners, inner]), moved)


def stretch_parts(image: Image, segments: int, rng: np.random.Generator) -> Image:
    """Widen some parts of the line and narrow others; upper and lower border move together.

    Args:
        image: the line.
        segments: number of parts, at least 2.
        rng: source of randomness.
    """
    height, width = image.shape[:2]
    cut = width // segments
    most = max(1, cut * 4 // 5)
    inner = _border_points(height, cut, segments)
    moved = inner.copy()
    moved[:, 0] += np.repeat(rng.integers(0, most, segments - 1) - most / 2, 2)
    corners = _corners(height, width)
    return bend(image, np.concatenate([corners, inner]), np.concatenate([corners, moved]))


def tilt(image: Image, rng: np.random.Generator) -> Image:
    """Move each corner up or down into the image, by half its height at most.

    Args:
        image: the line.
        rng: source of randomness.
    """
    height, width = image.shape[:2]
    corners = _corners(height, width)
    moved = corners.copy()
    moved[:, 1] += np.array([1, 1, -1, -1]) * rng.integers(0, max(1, height // 2), 4)
    return bend(image, corners, moved)


def bend(image: Image, points: Corners, moved: Corners) -> Image:
    """Bend an image so that each of ``points`` comes to the place in ``moved``; the frame keeps its size.

    For each pixel v of the result, with weights ``w_i = 1 / |moved_i - v|^2``, p* and q* the weighted means of
    ``moved`` and ``points``: the source is ``f(v) = a (v - p*) + q*``, ``a = sum w conj(moved - p*) (points - q*)
    / sum w |moved - p*|^2``, points read as complex numbers: the best similarity near v.

    Args:
        image: the line.
        points: ``[n, 2]``, n at least 2, x and y.
        moved: the same.
    """
    height, width = image.shape[:2]
    columns, rows = (np.linspace(0, size - 1, max(2, -(-size // GRID) + 1)) for size in (width, height))
    at = columns[None, :, None] + 1j * rows[:, None, None]
    p, q = (pair[:, 0] + 1j * pair[:, 1] for pair in (moved, points))
    weights = 1.0 / np.maximum(np.abs(p - at) ** 2, 1e-9)
    weights /= weights.sum(-1, keepdims=True)
    p_mean, q_mean = ((weights * value).sum(-1, keepdims=True) for value in (p, q))
    spread = (weights * np.abs(p - p_mean) ** 2).sum(-1)
    slope = (weights * np.conj(p - p_mean) * (q - q_mean)).sum(-1) / np.maximum(spread, 1e-12)
    source = slope * (at - p_mean)[..., 0] + q_mean[..., 0]
    maps = [_enlarge(part.astype(np.float32), height, width) for part in (source.real, source.imag)]
    bent = cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(bent, np.uint8)


def join_lines(
    image: Image, text: str, partners: Sequence[tuple[Image, str]], settings: RecConAug
) -> tuple[Image, str]:
    """Join further lines to a line, side by side at one height, as long as they fit.

    Joining ends with the first that would make the text longer than ``max_text_length``, or the image wider, for its
    height, than ``image_shape``.

    Args:
        image: the first line.
        text: what it says.
        partners: lines and what they say.
        settings: the bounds.
    """
    height, width = settings.image_shape
    for other, says in partners:
        ratios = [item.shape[1] / item.shape[0] for item in (image, other)]
        if len(text) + len(says) > settings.max_text_length or sum(ratios) > width / height:
            break
        parts = [
            cv2.resize(item, (max(1, round(ratio * height)), height))
            for item, ratio in zip((image, other), ratios, strict=True)
        ]
        image, text = np.concatenate(parts, axis=1).astype(np.uint8), text + says
    return image, text


def _corners(height: int, width: int) -> Corners:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)


def _border_points(height: int, cut: int, segments: int) -> Corners:
    """Return the points between segments: upper and lower border in turn, ``[2 * (segments - 1), 2]``."""
    places = [[cut * index, row] for index in range(1, segments) for row in (0, height)]
    return np.array(places, np.float64).reshape(-1, 2)


def _enlarge(grid: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Interpolate values at the corners of a grid to each pixel, the grid's corners on the outermost pixels."""
    y = np.linspace(0, grid.shape[0] - 1, height, dtype=np.float32)
    x = np.linspace(0, grid.shape[1] - 1, width, dtype=np.float32)
    return np.asarray(cv2.remap(grid, *np.meshgrid(x, y), cv2.INTER_LINEAR), np.float32)


def _tint(image: Image, rng: np.random.Generator) -> Image:
    """Scale the brightness by up to a thousandth, as PaddleOCR does: next to nothing, but for the rounding of HSV."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] * (1.0 + 0.001 * rng.uniform(-1.0, 1.0)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)


def _shake(image: Image, steps: int) -> Image:
    """Lay copies of the image over it, each a pixel further to the right and down."""
    shaken = image.copy()
    for step in range(1, steps):
        shaken[step:, step:] = image[:-step, :-step]
    return shaken
