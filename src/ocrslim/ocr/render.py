"""Text images made here, for when there is no data: lines for recognition, pages and signs for detection.

After SynthText (arXiv 1604.06646) in outline, without photographs: random fonts, inks and papers, then the camera's
doings of :mod:`ocrslim.ocr.augment`. Everything depends on the seed and on the fonts of the machine only.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ocrslim.ocr.augment import augment_line, photometric
from ocrslim.ocr.corpus import Corpus, common_characters
from ocrslim.ocr.fonts import Font, as_fonts, drawable

__all__ = ["render_lines", "render_pages"]

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Colour = NDArray[np.float32]
Fonts = Sequence[Font] | Collection[str | Path] | None

LEAST_CONTRAST = 60.0  # levels of brightness between ink and paper
LONGEST_LINE = 24  # characters
PAGE_SIDES = (640, 1120)  # pixels, shortest and longest


@dataclass(frozen=True)
class _Style:
    """How a text is written: one style for a line, or for a block of a page."""

    font: Font
    weight: int
    spacing: float  # of the font's size
    slant: float  # pixels to the right per pixel up
    bold: bool

    @staticmethod
    def draw(rng: np.random.Generator, fonts: Sequence[Font]) -> _Style:
        """Draw a style."""
        return _Style(
            font=fonts[int(rng.integers(len(fonts)))],
            weight=int(rng.integers(2, 9)) * 100,
            spacing=float(rng.uniform(0.0, 0.3)) if rng.random() < 0.2 else 0.0,
            slant=float(rng.uniform(-0.1, 0.3)) if rng.random() < 0.15 else 0.0,
            bold=bool(rng.random() < 0.15),
        )

    def ink(self, text: str, size: int) -> Image:
        """Return the text's ink, grey ``[H, W]``, cut to what is not empty."""
        mask = self.font.draw(text, size, self.weight, round(self.spacing * size), margin=1)
        if self.bold and size >= 20:
            mask = np.asarray(cv2.dilate(mask, np.ones((2, 2), np.uint8)), np.uint8)
        if not self.slant:
            return mask
        height, width = mask.shape
        lean = abs(self.slant) * height
        shift = lean if self.slant > 0 else 0.0
        matrix = np.array([[1.0, -self.slant, shift], [0.0, 1.0, 0.0]])
        return np.asarray(cv2.warpAffine(mask, matrix, (width + math.ceil(lean), height)), np.uint8)


def render_lines(characters: Iterable[str], n: int, seed: int, fonts: Fonts = None) -> list[tuple[Image, str]]:
    """Render text lines for recognition.

    Args:
        characters: the model's dictionary; entries that no font can draw are left out.
        n: how many lines.
        seed: of everything random.
        fonts: names of OpenCV's fonts or paths of font files; ``None`` is all that can be found.

    Returns:
        list: ``n`` pairs of a BGR image ``[H, W, 3]``, cut to the line as a detector would cut it, and its text.

    Raises:
        DataError: there is no font (the text says what to install), or nothing to draw.
    """
    loaded = as_fonts(fonts)
    corpus = Corpus(drawable(characters))
    return [_line(corpus, loaded, np.random.default_rng([seed, index, 3])) for index in range(n)]


def render_pages(
    n: int, seed: int, characters: Iterable[str] | None = None, fonts: Fonts = None
) -> list[tuple[Image, Points, list[str]]]:
    """Render pages for detection: documents in columns, receipts, and signs at an angle.

    Args:
        n: how many pages.
        seed: of everything random.
        characters: to write with; ``None`` is :func:`ocrslim.ocr.corpus.common_characters`.
        fonts: as for :func:`render_lines`.

    Returns:
        list: ``n`` triples of a BGR image ``[H, W, 3]``, the boxes of its lines f32 ``[K, 4, 2]`` as (x, y) pixels
        clockwise from the text's upper left, and their texts.

    Raises:
        DataError: there is no font (the text says what to install), or nothing to draw.
    """
    loaded = as_fonts(fonts)
    corpus = Corpus(drawable(common_characters() if characters is None else characters))
    return [_page(corpus, loaded, np.random.default_rng([seed, index, 4])) for index in range(n)]


def _line(corpus: Corpus, fonts: Sequence[Font], rng: np.random.Generator) -> tuple[Image, str]:
    size = int(rng.integers(18, 57))
    text = corpus.line(rng, LONGEST_LINE)
    ink = _Style.draw(rng, fonts).ink(text, size)
    top, bottom, left, right = (round(size * float(share)) for share in rng.uniform(0.02, 0.3, 4))
    ink = np.pad(ink, ((top, bottom), (left, right)))
    image = _write(_background(ink.shape[0], ink.shape[1], rng), ink, rng)
    return augment_line(_tilt_line(image, rng), rng), text


def _tilt_line(image: Image, rng: np.random.Generator) -> Image:
    """Turn a line by a degree or two, as crops of detected boxes are, without losing its ends."""
    if rng.random() < 0.6:
        return image
    height, width = image.shape[:2]
    rise = min(0.03 * width, 0.12 * height) * rng.uniform(-1.0, 1.0)
    corners = np.array([[0, 0], [width, 0], [0, height]], np.float32)
    moved = corners + np.array([[0, -rise], [0, rise], [0, -rise]], np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


@dataclass
class _Page:
    """A page being written: its image, and the boxes and texts of the lines so far."""

    image: Image
    boxes: list[Points] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def place(
        self, text: str, ink: Image, left: int, top: int, rng: np.random.Generator, colour: Colour | None = None
    ) -> None:
        """Write a line, and note the box of its ink; a line without ink or without room is left out."""
        x, y, width, height = cv2.boundingRect(ink)
        if width == 0 or top + ink.shape[0] > self.image.shape[0] or left + ink.shape[1] > self.image.shape[1]:
            return
        window = (slice(top, top + ink.shape[0]), slice(left, left + ink.shape[1]))
        self.image[window] = _write(self.image[window], ink, rng, colour)
        x0, y0, x1, y1 = left + x, top + y, left + x + width, top + y + height
        self.boxes.append(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32))
        self.texts.append(text)


def _page(corpus: Corpus, fonts: Sequence[Font], rng: np.random.Generator) -> tuple[Image, Points, list[str]]:
    height, width = (int(side) for side in rng.integers(PAGE_SIDES[0], PAGE_SIDES[1] + 1, 2))
    page = _Page(_background(height, width, rng))
    kind = rng.choice(3, p=(0.45, 0.2, 0.35))
    if kind == 2:
        _write_signs(page, corpus, fonts, rng)
        turn, aside = 5.0, 0.03
    else:
        left, right = (0.06, 0.94) if kind == 0 else (0.2, 0.8)
        _write_columns(page, (int(left * width), int(right * width)), corpus, fonts, rng)
        turn, aside = 2.0, 0.015
    boxes = np.array(page.boxes, np.float32).reshape(-1, 4, 2)
    image, boxes = _look_aside(page.image, boxes, turn, aside, rng)
    return photometric(image, rng, 0.7), boxes, page.texts


def _write_columns(
    page: _Page, span: tuple[int, int], corpus: Corpus, fonts: Sequence[Font], rng: np.random.Generator
) -> None:
    """Fill one or two columns with blocks of lines; each block has its style, its size and its ink."""
    columns = 2 if span[1] - span[0] > 600 and rng.random() < 0.4 else 1
    width = (span[1] - span[0]) // columns
    for column in range(columns):
        top, end = int(rng.integers(20, 60)), page.image.shape[0] - 20
        while top < end:
            left = span[0] + column * width
            top = _write_block(page, (left, top, width, end - top), corpus, fonts, rng)


def _write_block(
    page: _Page, room: tuple[int, int, int, int], corpus: Corpus, fonts: Sequence[Font], rng: np.random.Generator
) -> int:
    """Write lines of one style into a room (left, top, width, height); return where the next block may begin.

    Half the blocks are prose, whose lines fill the column; the others are lists and forms of short lines.
    """
    left, top, width, height = room
    end = top + height
    style, size = _Style.draw(rng, fonts), int(rng.integers(14, 34))
    colour = _ink_colour(page.image[top : top + size, left : left + width], rng)
    prose = rng.random() < 0.5
    leading = size * float(rng.uniform(1.3, 1.9))
    for _ in range(int(rng.integers(1, 9))):
        if top + 2 * size > end:
            return end
        text = corpus.line(rng, max(1, min(LONGEST_LINE, width // size)))
        while prose and len(text) < width // size:
            text += corpus.line(rng, max(1, width // size - len(text)))
        text, ink = _fitting(style, text, size, width - size)
        shift = 0 if prose or rng.random() < 0.7 else int(rng.integers(0, max(1, width - size - ink.shape[1])))
        page.place(text, ink, left + shift, top, rng, colour)
        top += max(round(leading), ink.shape[0] + 4)
    return top + int(rng.integers(size // 2, 2 * size))


def _fitting(style: _Style, text: str, size: int, width: int) -> tuple[str, Image]:
    """Return the text, shortened until its ink is at most ``width`` pixels wide, and the ink."""
    ink = style.ink(text, size)
    while ink.shape[1] > width and len(text) > 1:
        text = text[: max(1, min(len(text) - 1, len(text) * width // ink.shape[1]))].rstrip()
        ink = style.ink(text, size)
    return text, ink


def _write_signs(page: _Page, corpus: Corpus, fonts: Sequence[Font], rng: np.random.Generator) -> None:
    """Write a few large lines where there is room, each on a board of its own colour or on the background."""
    room = page.image.shape
    taken = np.zeros(room[:2], bool)
    for _ in range(int(rng.integers(6, 24))):
        size = int(rng.integers(20, 80))
        text = corpus.line(rng, max(1, min(10, room[1] // (2 * size))))
        ink = np.pad(_Style.draw(rng, fonts).ink(text, size), round(0.2 * size))
        height, width = ink.shape
        if height >= room[0] or width >= room[1]:
            continue
        top, left = (int(rng.integers(0, space)) for space in (room[0] - height, room[1] - width))
        window = (slice(top, top + height), slice(left, left + width))
        if taken[window].any():
            continue
        taken[window] = True
        if rng.random() < 0.5:
            page.image[window] = _background(height, width, rng)
        page.place(text, ink, left, top, rng)


def _write(paper: Image, ink: Image, rng: np.random.Generator, colour: Colour | None = None) -> Image:
    """Lay ink over the paper, in a colour that stands out; sometimes with an outline or a shadow."""
    if colour is None:
        colour = _ink_colour(paper, rng)
    opacity = rng.uniform(0.75, 1.0)
    written = paper.astype(np.float32)
    effect = rng.random()
    if effect < 0.1:
        below = np.roll(ink, (2, 2), (0, 1)) if effect < 0.05 else cv2.dilate(ink, np.ones((3, 3), np.uint8))
        other = np.full(3, 255.0 if colour.mean() < 128 else 0.0, np.float32)
        written += (other - written) * (below[..., None].astype(np.float32) * np.float32(0.6 / 255))
    written += (colour - written) * (ink[..., None].astype(np.float32) * np.float32(opacity / 255))
    return np.clip(np.rint(written), 0, 255).astype(np.uint8)


def _ink_colour(paper: Image, rng: np.random.Generator) -> Colour:
    """Return a colour that stands out: mostly black or white, nearly, whichever is farther from the paper."""
    ground = float(paper.mean())
    if rng.random() < 0.66:
        edge = 0.0 if ground > 127.5 else 255.0
        return _tinted(abs(edge - float(rng.uniform(0.0, 60.0))), 4.0, rng)
    for _ in range(8):
        colour = _tinted(float(rng.uniform(0.0, 255.0)), 60.0, rng)
        if abs(float(colour.mean()) - ground) >= LEAST_CONTRAST:
            return colour
    return np.full(3, 0.0 if ground > 127.5 else 255.0, np.float32)


def _tinted(grey: float, tint: float, rng: np.random.Generator) -> Colour:
    """Return a BGR colour around a grey level, ``tint`` being the channels' standard deviation."""
    return np.clip(grey + tint * rng.standard_normal(3), 0.0, 255.0).astype(np.float32)


def _background(height: int, width: int, rng: np.random.Generator) -> Image:
    """Return paper or a wall: a colour that changes slowly, with a grain; now and then with shapes on it."""
    light = rng.random() < 0.6
    base = _tinted(float(rng.uniform(200, 255)), 6.0, rng) if light else _tinted(float(rng.uniform(10, 230)), 30.0, rng)
    # Light falls unevenly on all channels, and a little more so on each.
    cells = rng.normal(0.0, rng.uniform(1.0, 8.0 if light else 30.0), (4, 4, 1)) + rng.normal(0.0, 3.0, (4, 4, 3))
    shades = cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) + base
    if rng.random() < 0.5:
        grain = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(0.5, 4.0))
        shades = shades + grain
    paper: Image = np.clip(shades, 0, 255).astype(np.uint8)
    if rng.random() < 0.15:
        for _ in range(int(rng.integers(1, 5))):
            start = (int(rng.integers(width)), int(rng.integers(height)))
            end = (int(rng.integers(width)), int(rng.integers(height)))
            shade = np.clip(base + rng.normal(0, 15, 3), 0, 255).tolist()
            cv2.line(paper, start, end, shade, int(rng.integers(1, 4)), cv2.LINE_AA)
    return paper


def _look_aside(
    page: Image, boxes: Points, turn: float, aside: float, rng: np.random.Generator
) -> tuple[Image, Points]:
    """Turn the page by up to ``turn`` degrees and move its corners by up to ``aside`` of its sides, boxes along.

    The page is drawn a little smaller than its frame, so that nothing leaves it.
    """
    height, width = page.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    middle = np.array([width, height]) / 2
    angle = math.radians(turn * rng.uniform(-1.0, 1.0))
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    moved = (corners - middle) @ rotation + aside * rng.uniform(-1.0, 1.0, (4, 2)) * (width, height)
    moved *= min(1.0, float((middle / np.abs(moved).max(axis=0)).min()))
    moved += middle
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    seen = cv2.warpPerspective(page, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    if not len(boxes):
        return np.asarray(seen, np.uint8), boxes
    points = cv2.perspectiveTransform(boxes.reshape(-1, 1, 2), matrix).reshape(-1, 4, 2)
    return np.asarray(seen, np.uint8), np.asarray(points, np.float32)
