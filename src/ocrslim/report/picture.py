"""Pictures of what was read: the page with its boxes, and beside it the texts where they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.ocr.crop import is_upright, line_size, paste_line
from ocrslim.ocr.difference import Difference
from ocrslim.ocr.fonts import UNICODE, Font
from ocrslim.ocr.polygon import Points

__all__ = ["draw_comparison", "draw_reading"]

Picture: TypeAlias = NDArray[np.uint8]
Lines: TypeAlias = Sequence[tuple[Points, str]]
Colour: TypeAlias = tuple[int, int, int]

SHORTEST, LONGEST = 960, 2400  # pixels; the longer side of a panel: legible, and no poster
GLYPH = 40  # pixels; texts are drawn in this size, then fitted into their boxes
CAPTION = 22  # pixels; of the line above a panel
BLACK = (0, 0, 0)
# BGR; told apart by those who do not see red and green apart as well (Okabe and Ito 2008).
EQUAL, CHANGED, SINGLE = (115, 158, 0), (0, 94, 213), (178, 114, 0)
PALE = (225, 225, 225)


def draw_reading(image: Picture, lines: Lines) -> Picture:
    """Return a page with its boxes, and a white panel beside it with the texts in their places.

    Args:
        image: BGR, u8 ``[H, W, 3]``.
        lines: box f32 ``[4, 2]`` in pixels of the image, and text.

    Raises:
        DataError: OpenCV has no font inside; the text says what to install.
    """
    page, scale = _panel(image)
    colours = [EQUAL] * len(lines)
    panel = _texts(page.shape, lines, colours, scale, Font(UNICODE))
    return np.hstack([_boxes(page, lines, colours, scale), panel])


def draw_comparison(
    image: Picture, ours: Lines, theirs: Lines, difference: Difference, captions: tuple[str, str]
) -> Picture:
    """Return a page with the boxes of two readings, and two panels: the texts of ours, and of theirs.

    Green lines are equal; red ones, drawn thick, have another text on the other side; blue ones, thick too, have no
    partner there.

    Args:
        image: BGR, u8 ``[H, W, 3]``.
        ours: box f32 ``[4, 2]`` and text of each line.
        theirs: the same of the other reading.
        difference: between the two.
        captions: what to call ours and theirs.

    Raises:
        DataError: OpenCV has no font inside; the text says what to install.
    """
    page, scale = _panel(image)
    font = Font(UNICODE)
    left = _colours(len(ours), [a for a, _ in difference.changed], difference.only_ours)
    right = _colours(len(theirs), [b for _, b in difference.changed], difference.only_theirs)
    page = _boxes(page, ours, left, scale)
    alone = [theirs[index] for index in difference.only_theirs]
    page = _boxes(page, alone, [SINGLE] * len(alone), scale)
    panels = [_texts(page.shape, ours, left, scale, font), _texts(page.shape, theirs, right, scale, font)]
    told = (
        f"equal {len(difference.equal)}, other text {len(difference.changed)},"
        f" only left {len(difference.only_ours)}, only right {len(difference.only_theirs)}"
    )
    pieces = zip((page, *panels), (told, *captions), strict=True)
    return np.hstack([np.vstack([_caption(text, panel.shape[1], font), panel]) for panel, text in pieces])


def _colours(count: int, changed: Sequence[int], single: Sequence[int]) -> list[Colour]:
    other: Mapping[int, Colour] = dict.fromkeys(changed, CHANGED) | dict.fromkeys(single, SINGLE)
    return [other.get(index, EQUAL) for index in range(count)]


def _panel(image: Picture) -> tuple[Picture, float]:
    """Return the page in the size of a panel, and how much it was enlarged."""
    longer = max(image.shape[:2])
    scale = min(LONGEST, max(SHORTEST, longer)) / longer
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.ascontiguousarray(cv2.resize(image, size, interpolation=how), np.uint8), scale


def _boxes(page: Picture, lines: Lines, colours: Sequence[Colour], scale: float) -> Picture:
    """Outline the boxes; what differs is thick, so that it is found without colours too."""
    drawn = page.copy()
    for (box, _), colour in zip(lines, colours, strict=True):
        corners = np.round(box * scale).astype(np.int32)
        cv2.polylines(drawn, [corners], True, colour, 2 if colour in (CHANGED, SINGLE) else 1, cv2.LINE_AA)
    return drawn


def _texts(shape: tuple[int, ...], lines: Lines, colours: Sequence[Colour], scale: float, font: Font) -> Picture:
    """Return a white panel with the boxes, faint where nothing differs, and the texts in them."""
    pale = [colour if colour != EQUAL else PALE for colour in colours]
    panel = _boxes(np.full(shape, 255, np.uint8), lines, pale, scale)
    for (box, text), colour in zip(lines, colours, strict=True):
        corners = (box * scale).astype(np.float32)
        paste_line(panel, _text_picture(text, corners, BLACK if colour == EQUAL else colour, font), corners)
    return panel


def _text_picture(text: str, box: Points, colour: Colour, font: Font) -> Picture:
    """Return a text in the proportions of a box, on white: at its left, and squeezed only if it would not fit."""
    width, height = line_size(box)
    if is_upright(box):
        width, height = height, width
    ink = font.draw(text, GLYPH)
    end = int(np.flatnonzero(ink.any(axis=0))[-1]) + 1 if ink.any() else 1
    start = GLYPH // 2 - 2  # where draw() begins to write
    ink = ink[GLYPH // 2 - 4 : 2 * GLYPH, start : max(start + 1, end)]
    wanted = max(1, round(ink.shape[0] * width / height))
    canvas = np.zeros((ink.shape[0], max(wanted, ink.shape[1])), np.uint8)
    canvas[:, : ink.shape[1]] = ink
    cover = canvas[:, :, None].astype(np.float32) / 255
    return np.asarray(np.round(255 * (1 - cover) + np.array(colour, np.float32) * cover), np.uint8)


def _caption(text: str, width: int, font: Font) -> Picture:
    """Return a strip with a line of text, cut at its right end where it is too long."""
    ink = font.draw(text, CAPTION)
    strip = np.zeros((ink.shape[0], width), np.uint8)
    used = min(width, ink.shape[1])
    strip[:, :used] = ink[:, :used]
    return np.repeat(255 - strip[:, :, None], 3, axis=2)
