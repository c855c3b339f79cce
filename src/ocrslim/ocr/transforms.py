"""From an image to what a model takes; PaddleOCR's ``DetResizeForTest``, ``NormalizeImage`` and ``RecResizeImg``.

Evaluation and training share these functions, so a model is trained on what it will see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.ocr.image import MAX_PIXELS

__all__ = ["RecWidth", "line_width", "normalize", "padded_width", "rec_width", "resize_for_det", "resize_for_rec"]

RecWidth = Literal["dynamic", "padded", "fixed"]

STRIDE = 32  # a detector's sides are multiples of it, and widths of lines that come again
SMALLEST = 64  # images with a smaller sum of height and width are padded to 32 x 32 first


def resize_for_det(image: NDArray[np.uint8], profile: DetProfile) -> tuple[NDArray[np.uint8], float, float]:
    """Resize an image for a detector.

    1. If height + width < 64: pad with black at the right and the bottom, to 32 at least.
    2. ``min``: enlarge until the shorter side is ``limit_side_len``; ``max``: shrink until the longer one is.
    3. Shrink until the longer side is at most ``max_side``, and until there are at most
       :data:`ocrslim.ocr.image.MAX_PIXELS`.
    4. Round each side to a multiple of 32, at least 32.

    Args:
        image: ``[H, W, C]``.
        profile: the rule and its bounds.

    Returns:
        tuple: image ``[H', W', C]``; H' / H; W' / W, where H and W are those after padding.
    """
    if sum(image.shape[:2]) < SMALLEST:
        image = _pad(image)
    height, width = image.shape[:2]
    ratio = _det_ratio(height, width, profile)
    new_height, new_width = int(height * ratio), int(width * ratio)
    longer = max(new_height, new_width)
    if longer > profile.max_side:
        ratio = profile.max_side / longer
        new_height, new_width = int(new_height * ratio), int(new_width * ratio)
    if new_height * new_width > MAX_PIXELS:
        ratio = math.sqrt(MAX_PIXELS / (new_height * new_width))
        new_height, new_width = int(new_height * ratio), int(new_width * ratio)
    new_height, new_width = _to_stride(new_height), _to_stride(new_width)
    resized = np.asarray(cv2.resize(image, (new_width, new_height)), np.uint8)
    return resized, new_height / height, new_width / width


def normalize(image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Return ``(image / 255 - mean) / std``, channels first.

    Args:
        image: u8 ``[H, W, C]``.
        mean: of each channel, in the image's order.
        std: the same.

    Returns:
        NDArray: f32 ``[C, H, W]``.
    """
    scaled = (image.astype(np.float32) / 255.0 - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1), np.float32)


def rec_width(ratios: Sequence[float], profile: RecProfile) -> int:
    """Return the width of a batch of lines, pixels: the widest line's, within the profile's bounds.

    A fraction of a pixel is rounded up, so that the widest line fits as it is; PaddleOCR's pipeline rounds down here,
    squeezes the line by that pixel, and reads some 0.2 % of lines otherwise.

    Args:
        ratios: width / height of each line.
        profile: height, least and most width.
    """
    widest = math.ceil(profile.height * max(ratios, default=0.0))
    return min(profile.max_width, max(profile.width, widest))


def padded_width(ratios: Sequence[float], profile: RecProfile) -> int:
    """Return :func:`rec_width` rounded up to a multiple of 32 pixels; what is more than the lines need is padding.

    An engine that makes kernels for each new width, as OpenVINO and Paddle do, otherwise takes longer for them than to
    read the line (``benchmarks/widths.py``).

    Args:
        ratios: width / height of each line.
        profile: height, least and most width.
    """
    return min(profile.max_width, -(-rec_width(ratios, profile) // STRIDE) * STRIDE)


def line_width(image: NDArray[np.uint8], profile: RecProfile, rule: RecWidth) -> int | None:
    """Return the width that a line is brought to when it is read alone, pixels; ``None`` is its own.

    Args:
        image: ``[H, W, 3]``.
        profile: height and widths.
        rule: ``dynamic`` gives each line its own width, ``padded`` that in whole 32 pixels, ``fixed`` the profile's.
    """
    if rule == "padded":
        return padded_width([image.shape[1] / image.shape[0]], profile)
    return profile.width if rule == "fixed" else None


def resize_for_rec(image: NDArray[np.uint8], profile: RecProfile, width: int | None = None) -> NDArray[np.float32]:
    """Resize a line to the profile's height, squeeze it into ``width``, and pad it with zeros on the right.

    Args:
        image: u8 ``[H, W, 3]``.
        profile: height, bounds of the width and normalisation.
        width: of the result, pixels; ``None`` is the line's own (:func:`rec_width`).

    Returns:
        NDArray: f32 ``[3, profile.height, width]``, normalised; the padding is 0 after normalisation.
    """
    ratio = image.shape[1] / image.shape[0]
    if width is None:
        width = rec_width([ratio], profile)
    used = min(width, math.ceil(profile.height * ratio))
    resized = np.asarray(cv2.resize(image, (used, profile.height)), np.uint8)
    padded = np.zeros((3, profile.height, width), np.float32)
    padded[:, :, :used] = normalize(resized, profile.mean, profile.std)
    return padded


def _det_ratio(height: int, width: int, profile: DetProfile) -> float:
    if profile.limit_type == "max":
        return min(1.0, profile.limit_side_len / max(height, width))
    return max(1.0, profile.limit_side_len / min(height, width))


def _to_stride(length: int) -> int:
    """Round to the nearest multiple of 32, halves to the even one, at least 32."""
    return max(STRIDE, round(length / STRIDE) * STRIDE)


def _pad(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, channels = image.shape
    padded = np.zeros((max(STRIDE, height), max(STRIDE, width), channels), np.uint8)
    padded[:height, :width] = image
    return padded
