"""Small pictures of images, as text that stands in a page: JPEGs in base64, no more of them than a page may hold."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ocrslim.errors import DataError
from ocrslim.ocr.image import read_image

__all__ = ["Album", "Thumbnail"]

WIDEST, HIGHEST = 320, 480  # pixels
QUALITY = 80  # of 100


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Args:
        uri: ``data:`` address.
        width: of the thumbnail, pixels.
        height: of the thumbnail, pixels.
        full_width: of the image that it was made of.
        full_height: of that too.
    """

    uri: str
    width: int
    height: int
    full_width: int
    full_height: int


class Album:
    """Makes thumbnails until the page is full.

    Args:
        room: characters that all of them may take.
    """

    def __init__(self, room: int) -> None:
        self._room = room

    def add(self, path: Path) -> Thumbnail | None:
        """Return a thumbnail of an image; ``None`` where no room is left for it.

        Args:
            path: see :func:`ocrslim.ocr.image.read_image`.

        Raises:
            DataError: the image can't be read.
        """
        if self._room <= 0:
            return None
        image = read_image(path)
        height, width = image.shape[:2]
        scale = min(1.0, WIDEST / width, HIGHEST / height)
        size = (max(1, round(scale * width)), max(1, round(scale * height)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        done, content = cv2.imencode(".jpg", np.ascontiguousarray(small), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise DataError(f"{path}: can't be written as JPEG")
        uri = "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
        if len(uri) > self._room:
            return None
        self._room -= len(uri)
        return Thumbnail(uri, *size, width, height)
