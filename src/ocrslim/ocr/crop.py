"""A line of text cut out of its page and laid straight, and the way back; PaddleOCR's ``get_rotate_crop_image``."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.ocr.polygon import Points

__all__ = ["crop_line", "is_upright", "line_size", "paste_line"]

MARGIN = 4  # pixels that cubic interpolation may look at beyond the box, and some
UPRIGHT = 1.5  # height / width from which a box is taken for a line that runs upwards or downwards
LONGEST = 8192  # pixels; no text is longer, and a corner far outside the image would ask for any amount of memory


def line_size(box: Points) -> tuple[int, int]:
    """Return width and height of the picture that a box becomes before it is turned, pixels, at least 1.

    Args:
        box: ``[4, 2]``, clockwise from the corner at the top left.
    """
    sides = np.linalg.norm(box - np.roll(box, -1, axis=0), axis=1)
    width, height = max(sides[0], sides[2]), max(sides[1], sides[3])
    return min(LONGEST, max(1, int(width))), min(LONGEST, max(1, int(height)))


def is_upright(box: Points) -> bool:
    """Say whether a box is so much taller than wide that its text is taken to run upwards or downwards."""
    width, height = line_size(box)
    return height >= UPRIGHT * width


def crop_line(image: NDArray[np.uint8], box: Points) -> NDArray[np.uint8]:
    """Cut a box out of an image.

    1. Its four corners become those of a rectangle as wide and as high as its longer opposite sides.
    2. A box that is taller than wide by half or more is turned to the left by a quarter, as PaddleOCR does: its text
       ran downwards.

    Args:
        image: u8 ``[H, W, 3]``.
        box: f32 ``[4, 2]``, clockwise from the corner at the top left; beyond the edge of the image the pixels of the
            edge go on.

    Returns:
        NDArray: u8 ``[h, w, 3]``, the line from left to right.
    """
    # OpenCV warps no image with a side above 32,767; of the box and its surroundings it always can.
    last = np.array([image.shape[1] - 1, image.shape[0] - 1])
    low = np.clip(np.floor(box.min(axis=0)) - MARGIN, 0, last).astype(int)
    high = np.clip(np.ceil(box.max(axis=0)) + MARGIN, low, last).astype(int)
    cut = cv2.warpPerspective(
        image[low[1] : high[1] + 1, low[0] : high[0] + 1],
        _to_rectangle((box - low).astype(np.float32)),
        line_size(box),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if is_upright(box):
        cut = np.rot90(cut)
    return np.ascontiguousarray(cut, np.uint8)


def paste_line(canvas: NDArray[np.uint8], line: NDArray[np.uint8], box: Points) -> None:
    """Lay the picture of a line over a box: what :func:`crop_line` would cut out again. Darker pixels win.

    Args:
        canvas: u8 ``[H, W, 3]``, changed in place.
        line: u8 ``[h, w, 3]``, from left to right; squeezed or stretched into the box.
        box: f32 ``[4, 2]``, clockwise from the corner at the top left.
    """
    low = np.maximum(0, np.floor(box.min(axis=0))).astype(int)
    high = np.minimum(canvas.shape[1::-1], np.ceil(box.max(axis=0)) + 1).astype(int)
    if (low >= high).any():
        return
    width, height = line_size(box)
    turned = np.rot90(line, -1) if is_upright(box) else line
    fitted = cv2.resize(np.ascontiguousarray(turned), (width, height), interpolation=cv2.INTER_AREA)
    back = np.linalg.inv(_to_rectangle((box - low).astype(np.float32)))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    laid = cv2.warpPerspective(fitted, back, size, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255))
    place = canvas[low[1] : high[1], low[0] : high[0]]
    np.minimum(place, laid, out=place)


def _to_rectangle(box: Points) -> NDArray[np.float64]:
    """Return the perspective ``[3, 3]`` that takes the corners of a box to those of its rectangle.

    A box without an area has none that can be turned back; its upright bounds stand in for it.
    """
    width, height = line_size(box)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    found = np.asarray(cv2.getPerspectiveTransform(np.asarray(box, np.float32), corners), np.float64)
    if np.isfinite(found).all() and abs(np.linalg.det(found)) > np.finfo(np.float32).eps ** 2:
        return found
    x, y = box.min(axis=0)
    wide, high = np.maximum(1, np.ptp(box, axis=0))
    return np.array([[width / wide, 0, -x * width / wide], [0, height / high, -y * height / high], [0, 0, 1]])
