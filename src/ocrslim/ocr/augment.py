"""Random changes to training images: light, focus, noise, compression, viewpoint.

In the spirit of PaddleOCR's ``RecAug`` and of STR augmentation (arXiv 2108.06949), but mild: a student that is taught
by its own teacher needs to see what the deployed model will see, not what would make learning from scratch robust.
Images are BGR ``uint8`` arrays ``[H, W, 3]``, are never changed in place, and come out in the same layout. Every
function draws from the ``numpy.random.Generator`` that it is given and from nothing else.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "augment_line",
    "augment_page",
    "blur",
    "brightness_contrast",
    "busiest_window",
    "jpeg",
    "noise",
    "perspective",
    "photometric",
    "rescale",
    "scaled_square",
    "shrink_to_height",
    "stretch",
    "window_around",
]

Image = NDArray[np.uint8]

SMALLEST = 4  # pixels; no change makes a side shorter than this
LOOKS = 4  # windows compared when text is looked for by its edges
EDGE_GRID = 4  # pixels to a cell of the map of edges; fine enough for strokes to survive

# Quantiles of the normal distribution at the middles of 256 equal shares: a random byte looks up a normal number.
_NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)


def brightness_contrast(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Scale around mid-grey and shift: ``(x - 128) * contrast + 128 + shift``, clipped to 0 to 255.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 draws the contrast from 0.7 to 1.3 and the shift from -40 to 40 levels; 0 changes nothing.
    """
    contrast = 1.0 + 0.3 * strength * rng.uniform(-1.0, 1.0)
    shift = 40.0 * strength * rng.uniform(-1.0, 1.0)
    levels = (np.arange(256, dtype=np.float64) - 128.0) * contrast + 128.0 + shift
    return np.asarray(cv2.LUT(image, np.clip(np.rint(levels), 0, 255).astype(np.uint8)), np.uint8)


def blur(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Blur as a camera does: half the time out of focus (Gaussian), half the time moved (a line in any direction).

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 means sigma of 0.3 to 1.0 pixels, or 3 to 5 pixels of motion.
    """
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.1, strength * rng.uniform(0.3, 1.0))), np.uint8)
    size = 2 * round(strength * rng.uniform(1.0, 2.0)) + 1
    angle = rng.uniform(0.0, math.pi)
    kernel = np.zeros((size, size), np.float32)
    middle = (size - 1) / 2
    reach = np.array([math.cos(angle), math.sin(angle)]) * middle
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)


def noise(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Add independent normal noise to every value.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 draws the standard deviation from 1 to 10 levels.
    """
    sigma = strength * rng.uniform(1.0, 10.0)
    table = np.rint(_NORMAL * sigma).astype(np.int16)
    draws = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    return np.asarray(cv2.add(image, cv2.LUT(draws, table), dtype=cv2.CV_8U), np.uint8)


def jpeg(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Compress and decompress.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 draws the JPEG quality from 30 to 95, 0.5 from 62 to 95.
    """
    lowest = 95.0 - 65.0 * min(1.0, strength)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, round(rng.uniform(lowest, 95.0))])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    return image if decoded is None else np.asarray(decoded, np.uint8)


def rescale(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Lose detail: shrink, then enlarge to the size that it had.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 shrinks to 0.5 to 1.0 of the size.
    """
    height, width = image.shape[:2]
    factor = 1.0 - 0.5 * min(1.0, strength) * rng.random()
    small = (max(SMALLEST, round(width * factor)), max(SMALLEST, round(height * factor)))
    shrunk = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def stretch(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Change the width, so that letters become narrower or wider.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 multiplies the width by 0.8 to 1.25, log-uniformly.
    """
    height, width = image.shape[:2]
    factor = 1.25 ** (strength * rng.uniform(-1.0, 1.0))
    size = (max(SMALLEST, round(width * factor)), height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def perspective(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Look at the image from a little aside: each corner moves on its own; the frame keeps its size.

    What comes into view beyond the border repeats the border's pixels.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: 1.0 moves corners by up to a tenth of the shorter side, in each direction.
    """
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + np.float32(0.1 * strength * min(height, width)) * rng.uniform(-1.0, 1.0, (4, 2))
    matrix = cv2.getPerspectiveTransform(moved.astype(np.float32), corners)
    warped = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def photometric(image: Image, rng: np.random.Generator, strength: float = 1.0) -> Image:
    """Apply some of light, focus, detail, noise and compression, each with its own chance, in the order of a camera.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.
        strength: handed to each; see there.
    """
    for chance, change in ((0.5, brightness_contrast), (0.2, blur), (0.2, rescale), (0.25, noise), (0.25, jpeg)):
        if rng.random() < chance:
            image = change(image, rng, strength)
    return image


def augment_line(image: Image, rng: np.random.Generator) -> Image:
    """Augment a text line for recognition; four in ten stay as they are.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.

    Returns:
        NDArray: BGR ``[H, W', 3]``; the width differs by at most a quarter.
    """
    if rng.random() < 0.4 or min(image.shape[:2]) < SMALLEST:
        return image
    if rng.random() < 0.5:
        image = stretch(image, rng)
    if rng.random() < 0.4:
        image = perspective(image, rng)
    return photometric(image, rng)


def augment_page(image: Image, rng: np.random.Generator) -> Image:
    """Augment a crop of a page or scene for detection, by light, focus, noise and compression only; half stay.

    Args:
        image: BGR ``[H, W, 3]``.
        rng: source of randomness.

    Returns:
        NDArray: BGR ``[H, W, 3]``.
    """
    if rng.random() < 0.5:
        return image
    return photometric(image, rng, strength=0.6)


def window_around(
    points: NDArray[np.float32], shape: tuple[int, ...], side: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Place a square window so that the middle of ``points`` falls at a random place in it.

    Args:
        points: ``[K, 2]``, (x, y) in pixels.
        shape: height and width of the image.
        side: of the window in pixels; where the image is smaller the window starts at 0 and sticks out.
        rng: source of randomness.

    Returns:
        tuple: top and left of the window.
    """
    left, top = (round(float(at - side * rng.random())) for at in points.mean(axis=0))
    height, width = shape
    return min(max(0, top), max(0, height - side)), min(max(0, left), max(0, width - side))


def busiest_window(image: Image, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return the one with most edges among some random square windows: text is rich in edges.

    Args:
        image: BGR ``[H, W, 3]``.
        side: of the window in pixels; where the image is smaller the window starts at 0 and sticks out.
        rng: source of randomness.

    Returns:
        tuple: top and left of the window.
    """
    height, width = image.shape[:2]
    rooms = np.array([max(0, height - side), max(0, width - side)])
    if not rooms.any():
        return 0, 0
    cells = (max(1, width // EDGE_GRID), max(1, height // EDGE_GRID))
    grey = cv2.cvtColor(cv2.resize(image, cells, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    sums = cv2.integral(cv2.absdiff(grey, cv2.blur(grey, (3, 3))))
    best, place = -1.0, (0, 0)
    for top, left in rng.integers(0, rooms + 1, (LOOKS, 2)).tolist():
        y0, x0 = top // EDGE_GRID, left // EDGE_GRID
        y1, x1 = min(cells[1], (top + side) // EDGE_GRID), min(cells[0], (left + side) // EDGE_GRID)
        edges = float(sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0])
        if edges > best:
            best, place = edges, (top, left)
    return place


def scaled_square(
    window: Image, side: int, scale: float, rng: np.random.Generator
) -> tuple[Image, tuple[slice, slice]]:
    """Resize a window and put it on a black square, at a random place where it does not fill it.

    Args:
        window: BGR ``[H, W, 3]``; sides of at most ``side / scale`` pixels, rounded.
        side: of the square, pixels.
        scale: of the window.
        rng: source of randomness.

    Returns:
        tuple: BGR ``[side, side, 3]``; its rows and columns that hold the window.
    """
    height, width = (min(side, max(1, round(size * scale))) for size in window.shape[:2])
    resized = np.asarray(cv2.resize(window, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if (height, width) == (side, side):
        return resized, (slice(0, side), slice(0, side))
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (int(rng.integers(0, side - size + 1)) for size in (height, width))
    where = slice(top, top + height), slice(left, left + width)
    square[where] = resized
    return square, where


def shrink_to_height(image: Image, height: int) -> Image:
    """Shrink an image taller than ``height`` pixels to it, keeping its shape.

    Args:
        image: BGR ``[H, W, 3]``.
        height: pixels.
    """
    if image.shape[0] <= height:
        return image
    size = (max(1, round(image.shape[1] * height / image.shape[0])), height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
