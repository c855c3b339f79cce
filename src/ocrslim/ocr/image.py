"""Images as PaddleOCR reads them: BGR, 8 bits, turned upright where EXIF says how."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import DataError
from ocrslim.ocr.image_header import KINDS, read_header
from ocrslim.ocr.lmdb import is_lmdb_image, read_lmdb_image

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_image", "read_image"]

MAX_BYTES = 256 << 20
MAX_PIXELS = 1 << 27  # 134 million, 400 MB when decoded; A3 at 600 dpi has 70 million

MOST_SCANS = 64  # of a progressive JPEG; encoders write some ten, and each costs as much as a whole image
LONGEST_SIDE = 65_535  # pixels, JPEG's bound
SAID = 160  # characters of OpenCV's message that are worth repeating


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file, or an image of an LMDB (see :mod:`ocrslim.ocr.lmdb`).

    Returns:
        NDArray: u8 ``[H, W, 3]``, channels BGR. Grey and 16-bit images are converted, transparency is dropped.

    Raises:
        DataError: it is missing, larger than :data:`MAX_BYTES` or :data:`MAX_PIXELS`, cut short, or no image of the
            kinds that are read (:data:`ocrslim.ocr.image_header.KINDS`). Of an animation the first frame is taken.
    """
    if is_lmdb_image(path):
        return decode_image(read_lmdb_image(path), str(path))
    # A regular file only: reading a device or a pipe might never end.
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such image file")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size / 1e6:.0f} MB; images of at most {MAX_BYTES >> 20} MiB are read")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error
    return decode_image(content, str(path))


def decode_image(content: bytes, name: str) -> NDArray[np.uint8]:
    """Decode an image.

    Args:
        content: the file's bytes.
        name: for the error.

    Returns:
        NDArray: as :func:`read_image`.

    Raises:
        DataError: as :func:`read_image`.
    """
    if not content:
        raise DataError(f"{name}: the image is empty")
    _check_header(content, name)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        said = str(getattr(error, "err", error)).strip()[:SAID]
        raise DataError(f"{name}: no image that can be decoded ({said})") from error
    if image is None or image.size == 0:
        raise DataError(f"{name}: no image that can be decoded")
    return np.asarray(image, np.uint8)


def _check_header(content: bytes, name: str) -> None:
    """Refuse what would fill the memory or take minutes, and what is cut short: of that OpenCV leaves the rest grey."""
    header = read_header(content)
    if header is None:
        raise DataError(f"{name}: no image that can be decoded ({', '.join(KINDS)} are)")
    if header.width * header.height > MAX_PIXELS or max(header.width, header.height) > LONGEST_SIDE:
        raise DataError(
            f"{name}: {header.width} x {header.height} pixels; images of at most {MAX_PIXELS:,} are read, neither side"
            f" over {LONGEST_SIDE:,}"
        )
    if not header.whole:
        raise DataError(f"{name}: the image is cut short")
    # A decoder may find a size where the header shows none, and that would have no bound.
    if min(header.width, header.height) < 1:
        raise DataError(f"{name}: no image that can be decoded (its header tells no size)")
    if header.scans > MOST_SCANS:
        raise DataError(f"{name}: a JPEG of {header.scans} scans; at most {MOST_SCANS} are read")
