"""What a user names to be read - images, folders, PDF files - as one sequence of pages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import DataError
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import list_images
from ocrslim.ocr.pdf import DPI, PdfFile, is_pdf

__all__ = ["Page", "SkippedPage", "count_pages", "find_files", "read_pages"]


@dataclass(frozen=True)
class Page:
    """One picture to read.

    Args:
        file: that it is from.
        number: of the page in a PDF, from 1; ``None`` for an image file.
        image: u8 ``[H, W, 3]``, BGR.
    """

    file: Path
    number: int | None
    image: NDArray[np.uint8]

    @property
    def name(self) -> str:
        """The file, and the page where it has several."""
        return str(self.file) if self.number is None else f"{self.file}, page {self.number}"


@dataclass(frozen=True)
class SkippedPage:
    """What could not be read.

    Args:
        file: its path.
        number: of the page in a PDF, from 1; ``None`` for an image, or where the whole file is meant.
        reason: why.
    """

    file: Path
    number: int | None
    reason: str


def find_files(inputs: Sequence[Path], leave_out: Path | None = None) -> list[Path]:
    """Return the files that are meant: those named, and the images and PDFs in folders named, at any depth.

    Args:
        inputs: files and folders, in the order in which they are read; a file that comes twice is read once.
        leave_out: a folder; what lies in it is meant only where it is named itself.

    Raises:
        DataError: one of them does not exist, or a folder holds nothing to read.
    """
    files: list[Path] = []
    left = None if leave_out is None else leave_out.resolve()
    for path in inputs:
        # Of os.path: Path's own raise OSError for a name that is too long and a folder that one may not enter.
        if os.path.isdir(path):
            found = sorted({*list_images(path), *(pdf for pdf in path.rglob("*") if _is_listed(pdf, path))})
            if left is not None and not path.resolve().is_relative_to(left):
                found = [file for file in found if not file.resolve().is_relative_to(left)]
            if not found:
                raise DataError(f"{path}: neither images nor PDFs are in this folder")
            files += found
        elif os.path.exists(path):
            files.append(path)
        else:
            raise DataError(f"{path}: no such image, folder or PDF")
    return list(dict.fromkeys(files))


def count_pages(files: Sequence[Path]) -> int:
    """Return the number of pages; a file that cannot be opened counts as one, which will be skipped.

    Raises:
        InputError: there is a PDF, and pypdfium2 is not installed.
    """
    return sum(_pages_of(file) for file in files)


def read_pages(files: Sequence[Path], dpi: int = DPI) -> Iterator[Page | SkippedPage]:
    """Yield the pages of all files in order, one at a time in memory; what is broken is named and passed over.

    Args:
        files: images and PDFs.
        dpi: pixels per inch of PDF pages.

    Raises:
        InputError: there is a PDF, and pypdfium2 is not installed.
    """
    for file in files:
        try:
            if is_pdf(file):
                yield from _read_pdf(file, dpi)
            else:
                yield Page(file, None, read_image(file))
        except DataError as error:
            yield SkippedPage(file, None, _reason(error, str(file)))


def _read_pdf(file: Path, dpi: int) -> Iterator[Page | SkippedPage]:
    with PdfFile(file) as pdf:
        for number in range(1, pdf.pages + 1):
            try:
                page: Page | SkippedPage = Page(file, number, pdf.render(number, dpi))
            except DataError as error:
                page = SkippedPage(file, number, _reason(error, f"{file}, page {number}"))
            yield page


def _pages_of(file: Path) -> int:
    if not is_pdf(file):
        return 1
    try:
        with PdfFile(file) as pdf:
            return pdf.pages
    except DataError:
        return 1


def _is_listed(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return is_pdf(path) and os.path.isfile(path) and not hidden


def _reason(error: DataError, where: str) -> str:
    """Return the error's text without the name of what is broken, which stands beside it."""
    return str(error).removeprefix(f"{where}: ")
