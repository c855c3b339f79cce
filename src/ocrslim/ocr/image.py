"""Images as PaddleOCR reads them: BGR, 8 bits, turned upright where EXIF says how."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import DataError
from ocrslim.ocr.lmdb import is_lmdb_image, read_lmdb_image

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_image", "read_image"]

MAX_BYTES = 256 << 20
MAX_PIXELS = 1 << 27  # 134 million, 400 MB when decoded; A3 at 600 dpi has 70 million

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
# JPEG markers that begin a frame and hold its size (ITU T.81, table B.1): SOF0 to SOF15 without DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file, or an image of an LMDB (see :mod:`ocrslim.ocr.lmdb`).

    Returns:
        NDArray: u8 ``[H, W, 3]``, channels BGR. Grey and 16-bit images are converted, transparency is dropped.

    Raises:
        DataError: it is missing, larger than :data:`MAX_BYTES` or :data:`MAX_PIXELS`, cut short, or no image.
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
    except cv2.error as error:
        raise DataError(f"{name}: no image that can be decoded ({str(error.err).strip()})") from error
    if image is None or image.size == 0:
        raise DataError(f"{name}: no image that can be decoded")
    return np.asarray(image, np.uint8)


def _check_header(content: bytes, name: str) -> None:
    """Refuse what would fill the memory, and what is cut short: OpenCV decodes that in silence, the rest grey."""
    if content.startswith(_PNG):
        width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
        whole = b"IEND" in content
    elif content.startswith(_JPEG):
        width, height, scan = _jpeg_header(content)
        whole = content.rfind(b"\xff\xd9") > scan
    else:
        return
    if width * height > MAX_PIXELS:
        raise DataError(f"{name}: {width} x {height} pixels; images of at most {MAX_PIXELS:,} are read")
    if not whole:
        raise DataError(f"{name}: the image is cut short")


def _jpeg_header(content: bytes) -> tuple[int, int, int]:
    """Return width, height and where the first scan begins; 0, 0 and the end where the file ends before."""
    place, width, height = 2, 0, 0
    while place + 9 <= len(content):
        if content[place] != 0xFF:
            return width, height, place  # no marker where one belongs: the decoder shall say what it makes of it
        marker = content[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAMES:
            height = int.from_bytes(content[place + 5 : place + 7], "big")
            width = int.from_bytes(content[place + 7 : place + 9], "big")
        if marker == _SCAN:
            return width, height, place
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return width, height, len(content)
