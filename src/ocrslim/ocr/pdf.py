"""Pages of PDF files as images, by PDFium (pypdfium2; the extra ``[pdf]`` brings it).

A PDF is a program that somebody else wrote, so there are bounds: on the file, on its number of pages, and on the
pixels of a page. A page that PDFium cannot draw is an error of that page alone.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import DataError, InputError
from ocrslim.ocr.image import MAX_BYTES, MAX_PIXELS

__all__ = ["DPI", "MAX_PAGES", "PdfFile", "is_pdf"]

DPI = 200
MAX_PAGES = 10_000
POINTS_PER_INCH = 72  # a PDF's unit, ISO 32000-1, 8.3.2.3
INSTALL = "reading PDF files needs pypdfium2: pip install 'ocrslim[pdf]'"


def is_pdf(path: Path) -> bool:
    """Say whether a file's name ends as a PDF's does."""
    return path.suffix.lower() == ".pdf"


class PdfFile:
    """An open PDF; a context manager that closes it.

    Args:
        path: the file.

    Raises:
        InputError: pypdfium2 is not installed.
        DataError: the file is missing, too large, damaged, locked by a password, or has no page or too many.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pypdfium2
        except ImportError as error:
            raise InputError(f"{path}: {INSTALL}") from error
        if not os.path.isfile(path):
            raise DataError(f"{path}: no such PDF file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path}: {size / 1e6:.0f} MB; PDFs of at most {MAX_BYTES >> 20} MiB are read")
        self._path = path
        self._broken: type[Exception] = pypdfium2.PdfiumError
        try:
            self._document: Any = pypdfium2.PdfDocument(path)
        except self._broken as error:
            why = "it is locked by a password" if "password" in str(error).lower() else "it is damaged or no PDF"
            raise DataError(f"{path}: can't be opened, {why}") from error
        self.pages: int = len(self._document)
        if not 0 < self.pages <= MAX_PAGES:
            self.close()
            raise DataError(f"{path}: {self.pages:,} pages; PDFs of 1 to {MAX_PAGES:,} are read")

    def __enter__(self) -> PdfFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._document.close()

    def render(self, number: int, dpi: int = DPI) -> NDArray[np.uint8]:
        """Draw a page on white.

        Args:
            number: of the page, from 1.
            dpi: pixels per inch.

        Returns:
            NDArray: u8 ``[H, W, 3]``, BGR.

        Raises:
            DataError: the page is damaged, or would have more than :data:`ocrslim.ocr.image.MAX_PIXELS`.
        """
        where = f"{self._path}, page {number}"
        try:
            page = self._document[number - 1]
        except self._broken as error:
            raise DataError(f"{where}: the page is damaged") from error
        try:
            return self._draw(page, where, dpi)
        finally:
            page.close()

    def _draw(self, page: Any, where: str, dpi: int) -> NDArray[np.uint8]:
        scale = dpi / POINTS_PER_INCH
        width, height = (math.ceil(side * scale) for side in page.get_size())
        if width < 1 or height < 1 or width * height > MAX_PIXELS:
            raise DataError(
                f"{where}: {width} x {height} pixels at {dpi} dpi; pages of 1 to {MAX_PIXELS:,} are read;"
                " take another --dpi"
            )
        try:
            bitmap = page.render(scale=scale)
        except self._broken as error:
            raise DataError(f"{where}: PDFium cannot draw it") from error
        try:
            pixels = np.array(bitmap.to_numpy(), np.uint8)  # a copy: the bitmap's own memory is let go
        finally:
            bitmap.close()
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        return np.ascontiguousarray(pixels[:, :, :3])
