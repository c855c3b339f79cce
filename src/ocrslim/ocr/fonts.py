"""Fonts to render text with: those inside OpenCV 5, and those of the machine.

OpenCV 5's wheels carry a Unicode font (WenQuanYi Micro Hei: Chinese, Japanese, Korean, Greek, Cyrillic, Latin) and
the variable Latin font Rubik, upright and italic, so that text can be rendered on a bare machine. Whatever a font
lacks OpenCV takes from the Unicode font; what that one lacks too it draws as a question mark.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import DataError

__all__ = ["Font", "as_fonts", "drawable", "find_fonts", "font_folders"]

UNICODE = "uni"
BUILT_IN = (UNICODE, "sans", "italic")
SUFFIXES = frozenset({".ttf", ".otf", ".ttc"})
NO_TEXT = ("symbol", "dingbat", "emoji", "icon", "math", "webding", "wingding", "music", "awesome")  # no letters there
INSTALL = (
    "rendering text needs OpenCV 5, whose wheels carry fonts: pip install 'opencv-python-headless>=5'; "
    "or give images with --data"
)
MAGIC = frozenset({b"\x00\x01\x00\x00", b"true", b"OTTO"})
NEEDED = frozenset({b"cmap", b"head", b"hhea", b"hmtx", b"maxp"})
CELL = 48  # pixels; side of the picture in which a glyph is looked at


class Font:
    """A font that OpenCV can draw with.

    Args:
        name: ``uni``, ``sans`` or ``italic`` (inside OpenCV), or the path of a TrueType or OpenType file.

    Raises:
        DataError: OpenCV is older than 5, or the font cannot be loaded.
    """

    def __init__(self, name: str | Path) -> None:
        self.name = str(name)
        make = getattr(cv2, "FontFace", None)
        if make is None:
            raise DataError(INSTALL)
        if self.name not in BUILT_IN and not _is_sound(Path(name)):
            raise DataError(f"{name}: not a whole TrueType or OpenType font")
        self._question_marks: tuple[NDArray[np.uint8], ...] | None = None
        self._face: Any = make()
        if not self._face.set(self.name):
            raise DataError(INSTALL if self.name in BUILT_IN else f"{name}: OpenCV does not load this font")

    def __repr__(self) -> str:
        return f"Font({self.name!r})"

    def draw(
        self, text: str, size: int, weight: int = 400, spacing: int = 0, margin: int | None = None
    ) -> NDArray[np.uint8]:
        """Draw one line of text, white on black.

        Args:
            text: to draw, in the order of its characters.
            size: of the font in pixels.
            weight: 100 (thin) to 900 (black); only variable fonts heed it.
            spacing: pixels between two characters beyond the font's own.
            margin: pixels around the ink; ``None`` leaves the canvas uncut.

        Returns:
            NDArray: grey ``[H, W]``; all black where the font has no ink for the text.
        """
        canvas = np.zeros((2 * size + 8, (len(text) + 2) * (size + size // 4 + max(0, spacing)) + 8), np.uint8)
        at = (size // 2, size + size // 2)
        # Character by character: the same picture as in one piece, but for the spacing.
        for piece in text if spacing else [text]:
            at, _ = cv2.putText(canvas, piece, at, 255, self._face, size, weight)
            at = (at[0] + spacing, at[1])
        return canvas if margin is None else _trim(canvas, margin)

    def covers(self, character: str) -> bool:
        """Say whether a character has a picture of its own, here or in the Unicode font that stands in."""
        drawn = self.draw(character, CELL)
        if not drawn.any():
            return False
        return character in "?？" or not any(np.array_equal(drawn, other) for other in self._missing())

    def _missing(self) -> tuple[NDArray[np.uint8], ...]:
        """Return what OpenCV draws for a character that no font has: this font's question mark, or the other's."""
        if self._question_marks is None:
            self._question_marks = (self.draw("\U000effff", CELL), self.draw("?", CELL))
        return self._question_marks


def font_folders() -> list[Path]:
    """Return the folders in which fonts are installed on Linux, macOS and Windows, those that exist."""
    home = Path.home()
    data = os.environ.get("XDG_DATA_HOME") or str(home / ".local/share")
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [Path(data) / "fonts", home / ".fonts", *(Path(part) / "fonts" for part in shared.split(":") if part)]
    folders += [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    folders.append(Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts")
    return [folder for folder in folders if folder.is_dir()]


def find_fonts(folders: Iterable[Path] | None = None, most: int = 40) -> list[Font]:
    """Return OpenCV's own fonts and those found in folders, in a fixed order.

    Fonts without letters (symbols, icons) and files that do not load are left out.

    Args:
        folders: searched at any depth; ``None`` is :func:`font_folders`.
        most: files to use, at most: evenly spread over those found.

    Returns:
        list: at least one font; the Unicode font comes first.

    Raises:
        DataError: OpenCV has no font inside; the text says what to install.
    """
    fonts = [Font(name) for name in BUILT_IN]
    found = sorted({path for folder in (font_folders() if folders is None else folders) for path in _files(folder)})
    for path in found[:: max(1, -(-len(found) // most))]:
        try:
            fonts.append(Font(path))
        except DataError:
            continue
    return fonts


def drawable(characters: Iterable[str]) -> list[str]:
    """Return those characters, each once and in order, that can be drawn alone and from left to right.

    Left out are spaces, control and combining characters, scripts written from right to left, entries of several
    characters, and what the Unicode font has no picture of.

    Raises:
        DataError: OpenCV has no font inside; the text says what to install.
    """
    font = Font(UNICODE)
    return [character for character in dict.fromkeys(characters) if _stands_alone(character) and font.covers(character)]


def _stands_alone(character: str) -> bool:
    return (
        len(character) == 1
        and unicodedata.category(character)[0] not in "CMZ"
        and unicodedata.bidirectional(character) not in ("R", "AL")
    )


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not any(word in path.stem.lower() for word in NO_TEXT)
    ]


def _is_sound(path: Path) -> bool:
    """Say whether a file's table directory (OpenType 1.9, "Organization of an OpenType font") is whole.

    OpenCV trusts a font file: it crashes on some broken ones instead of refusing them.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(16)
            if start[:4] == b"ttcf":  # a collection: take the directory of its first font
                file.seek(int.from_bytes(start[12:16], "big"))
                start = file.read(16)
            if start[:4] not in MAGIC:
                return False
            directory = start[12:] + file.read(16 * int.from_bytes(start[4:6], "big") - 4)
    except OSError:
        return False
    tables = {}
    for at in range(0, len(directory) - 15, 16):
        offset, length = (int.from_bytes(directory[at + i : at + i + 4], "big") for i in (8, 12))
        tables[directory[at : at + 4]] = offset + length
    outlines = ({b"glyf", b"loca"} <= set(tables)) or b"CFF " in tables
    return set(tables) >= NEEDED and outlines and max(tables.values()) <= size


def _trim(canvas: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """Cut a picture down to its ink and a margin."""
    if not canvas.any():
        return canvas
    left, top, width, height = cv2.boundingRect(canvas)
    ink = canvas[top : top + height, left : left + width]
    return np.pad(ink, margin)


def as_fonts(fonts: Sequence[Font] | Collection[str | Path] | None) -> list[Font]:
    """Return ``fonts`` loaded; ``None`` is all that can be found.

    Raises:
        DataError: a font cannot be loaded, or there is none.
    """
    if fonts is None:
        return find_fonts()
    if not fonts:
        raise DataError("no fonts given to render text with")
    return [font if isinstance(font, Font) else Font(font) for font in fonts]
