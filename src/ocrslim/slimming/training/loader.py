"""Batches for training, calibration and judging: a pure function of (seed, step).

Because a batch depends on nothing but the seed, the step and the files, a run that goes on from a checkpoint sees the
batches that it would have seen. numpy and OpenCV only; the trainer turns batches into tensors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocrslim.config.profile import DetProfile, RecProfile
from ocrslim.errors import DataError
from ocrslim.ocr.augment import (
    augment_line,
    augment_page,
    busiest_window,
    scaled_square,
    shrink_to_height,
    window_around,
)
from ocrslim.ocr.det_targets import shrink_maps
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample, RecSample
from ocrslim.ocr.transforms import normalize, rec_width, resize_for_det, resize_for_rec

__all__ = ["DetBatches", "RecBatches"]

Image = NDArray[np.uint8]
Batch = NDArray[np.float32]
Source = Path | Image | DetSample | RecSample

TALLEST = 4  # lines taller than so many times the profile's height are shrunk before they are augmented, for speed
SORTED_TOGETHER = 256  # natural line images read and sorted by shape at a time: bounds memory
MAX_WIDTH = 640  # pixels, at the profile's height: a wider line is cut
WIDTH_STEP = 32  # pixels; training batches are as wide as a multiple: every other width wants memory and kernels anew
SCALES = 2.0  # detection images are enlarged or shrunk by up to this factor, log-uniformly around 1
MOST_OUTSIDE = 1.25  # a shrunk window is at most so many times the image's shorter side
NEAR_TEXT = 0.8  # share of crops placed around a box, where there are boxes


class _Shuffled(ABC):
    """What both kinds of batches share: the order of the images, and what happens to damaged ones."""

    def __init__(self, images: Sequence[Source], batch: int, seed: int, augment: bool, together: int = 1) -> None:
        if not images:
            raise DataError("no images to make batches of")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.damaged: dict[str, str] = {}
        self._images = images  # of a million images only their places: see ocrslim.ocr.sequences
        self._batch = batch
        self._seed = seed
        self._augment = augment
        self._together = together
        self._orders: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images)

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``, a pure function of the seed and the step.

        Within an epoch every image comes once, in an order of its own. A damaged image is noted in ``damaged`` and
        the next one of the epoch stands in for it.

        Args:
            step: from 0.

        Returns:
            NDArray: f32 ``[N, 3, H, W]``, normalised; of pages with targets ``[N, 5, H, W]``.

        Raises:
            DataError: not one image can be read.
        """
        return self._make(self._drawn(step), self._shared(step))

    def _drawn(self, step: int) -> list[_Drawn]:
        first = step * self._batch
        return [self._draw(position) for position in range(first, first + self._batch)]

    def _shared(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, step // self._together, 2])

    @abstractmethod
    def _make(self, drawn: list[_Drawn], rng: np.random.Generator) -> Batch:
        """Turn images into a batch; ``rng`` is for what the batches of one training step share."""

    def _draw(self, position: int) -> _Drawn:
        """Read the image at ``position`` of the endless stream, or the next readable one after it."""
        count = len(self._images)
        epoch, place = divmod(position, count)
        order = self._order(epoch)
        for turn in range(count):
            source = self._images[order[(place + turn) % count]]
            image = self._read(source)
            if image is not None:
                return _Drawn(source, image, np.random.default_rng([self._seed, position, 1]))
        raise DataError(f"none of {count} images can be read; {next(iter(self.damaged.values()))}")

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order = self._orders.get(epoch)
        if order is None:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._images))
            self._orders = {epoch: order}  # steps go up, so the last epoch's is all that is worth keeping
        return order

    def _read(self, source: Source) -> Image | None:
        """Return the image, or note that it is damaged and return ``None``."""
        if isinstance(source, (DetSample, RecSample)):
            source = source.image
        if isinstance(source, np.ndarray):
            return source
        if str(source) in self.damaged:
            return None
        try:
            return read_image(source)
        except DataError as error:
            self.damaged[str(source)] = str(error)
            return None

    def _readable(self) -> Iterator[tuple[Source, Image]]:
        """Yield the images, each with where it came from, in their order, without the damaged ones.

        Raises:
            DataError: that leaves none.
        """
        found = False
        for source in self._images:
            image = self._read(source)
            if image is not None:
                found = True
                yield source, image
        if not found:
            raise DataError(f"none of {len(self)} images can be read; {next(iter(self.damaged.values()))}")


@dataclass(frozen=True)
class _Drawn:
    """One image of a batch, and the randomness that belongs to its place in the stream."""

    source: Source
    image: Image
    rng: np.random.Generator


class RecBatches(_Shuffled):
    """Batches of text lines.

    Widths are mixed within a batch, not bucketed: batches of one width gave a spiky loss. All lines of a batch are
    padded with zeros on the right to the widest of them, as at inference, but to ``profile.width`` at least. A line
    wider than a bound is cut, at a random place, rather than squeezed: squeezed letters are none that the deployed
    model sees. With augmentation the batches of a training step draw a bound of their own between ``profile.width``
    and ``max_width``, else nearly every batch would be as wide as the widest lines. They draw one for all of them,
    since each process waits for the one that has the widest batch, and are padded to a multiple of
    :data:`WIDTH_STEP`.

    Args:
        images: paths, BGR arrays ``[H, W, 3]``, or samples with texts.
        batch: lines in a batch.
        profile: height, least width and normalisation.
        seed: of the order and of the augmentation.
        max_width: pixels at ``profile.height``; no batch is wider.
        augment: change lines at random; see :func:`ocrslim.ocr.augment.augment_line`.
        together: batches that make one training step, of all processes.

    Attributes:
        damaged: path -> reason, of the images found unreadable so far.

    Raises:
        DataError: there are no images.
    """

    def __init__(
        self,
        images: Sequence[Path | Image | RecSample],
        batch: int,
        profile: RecProfile,
        seed: int,
        max_width: int = MAX_WIDTH,
        augment: bool = True,
        together: int = 1,
    ) -> None:
        super().__init__(images, batch, seed, augment, together)
        self._profile = profile
        self._max_width = min(max_width, profile.max_width)

    def eval_batches(self) -> Iterator[Batch]:
        """Yield every readable image once, not augmented, similar widths together as at deployment.

        A line wider than ``max_width`` is cut in its middle. The last batches may be smaller.

        Returns:
            Iterator: f32 ``[N, 3, profile.height, W]``.

        Raises:
            DataError: not one image can be read.
        """
        held: list[Image] = []
        for _, image in self._readable():
            held.append(self._cut(image, self._max_width, 0.5))
            if len(held) == SORTED_TOGETHER:
                yield from self._sorted_batches(held)
                held = []
        yield from self._sorted_batches(held)

    def _sorted_batches(self, images: list[Image]) -> Iterator[Batch]:
        images = sorted(images, key=_ratio)
        for first in range(0, len(images), self._batch):
            yield self._stack(images[first : first + self._batch])

    def labelled(self, step: int) -> tuple[Batch, list[str]]:
        """Return the batch of ``step`` and the text of each line, empty where there is none or the line was cut."""
        drawn = self._drawn(step)
        lines = self._lines(drawn, self._shared(step))
        texts = [
            item.source.text or "" if whole and isinstance(item.source, RecSample) else ""
            for item, (_, whole) in zip(drawn, lines, strict=True)
        ]
        return self._joined(lines), texts

    def _make(self, drawn: list[_Drawn], rng: np.random.Generator) -> Batch:
        return self._joined(self._lines(drawn, rng))

    def _joined(self, lines: list[tuple[Image, bool]]) -> Batch:
        return self._stack([line for line, _ in lines], WIDTH_STEP if self._augment else 1)

    def _lines(self, drawn: list[_Drawn], rng: np.random.Generator) -> list[tuple[Image, bool]]:
        """Return the lines as they are stacked, each with whether it is whole."""
        bound, lines = self._max_width, list[tuple[Image, bool]]()
        least, most = -(-self._profile.width // WIDTH_STEP), bound // WIDTH_STEP
        if self._augment and least <= most:
            bound = WIDTH_STEP * int(rng.integers(least, most + 1))
        for item in drawn:
            image = item.image
            if self._augment:
                image = augment_line(shrink_to_height(image, TALLEST * self._profile.height), item.rng)
            line = self._cut(image, bound, item.rng.random())
            lines.append((line, line is image))
        return lines

    def _stack(self, lines: list[Image], step: int = 1) -> Batch:
        widest = rec_width([_ratio(line) for line in lines], self._profile)
        width = min(self._max_width, -(-widest // step) * step)
        return np.stack([resize_for_rec(line, self._profile, width) for line in lines])

    def _cut(self, image: Image, bound: int, place: float) -> Image:
        """Cut a line wider than ``bound`` pixels, ``place`` of the way from its left end to its right."""
        height, width = image.shape[:2]
        most = max(1, height * bound // self._profile.height)
        if width <= most:
            return image
        left = round(place * (width - most))
        return image[:, left : left + most]


class DetBatches(_Shuffled):
    """Batches of square crops of pages and scenes.

    An image is resized as at inference, times a random scale; a square is cut from it where text is likely (around a
    box where there are boxes, else where there are edges); what lies outside the image is black.

    Args:
        images: paths, BGR arrays ``[H, W, 3]``, or samples with boxes.
        batch: crops in a batch.
        profile: resizing and normalisation.
        seed: of the order, the crops and the augmentation.
        crop: side of the square in pixels, a multiple of 32.
        augment: scale and change crops at random; see :func:`ocrslim.ocr.augment.augment_page`. Without it crops are
            taken at the size of inference, still at random places.
        targets: two channels more, the map and the mask of :func:`ocrslim.ocr.det_targets.shrink_maps`; an image that
            is no sample has no text.

    Attributes:
        damaged: path -> reason, of the images found unreadable so far.

    Raises:
        DataError: there are no images.
    """

    def __init__(
        self,
        images: Sequence[Source],
        batch: int,
        profile: DetProfile,
        seed: int,
        crop: int = 640,
        augment: bool = True,
        targets: bool = False,
    ) -> None:
        super().__init__(images, batch, seed, augment)
        if crop < 32 or crop % 32:
            raise ValueError(f"crop must be a multiple of 32, got {crop}")
        self._profile = profile
        self._crop = crop
        self._targets = targets

    def eval_batches(self) -> Iterator[Batch]:
        """Yield every readable image once, whole, as the deployed model would see it.

        Returns:
            Iterator: f32 ``[1, 3, H, W]``, or ``[1, 5, H, W]`` with targets; sides multiples of 32.

        Raises:
            DataError: not one image can be read.
        """
        for source, image in self._readable():
            resized, ratio_h, ratio_w = resize_for_det(image, self._profile)
            channels = normalize(resized, self._profile.mean, self._profile.std)
            if self._targets:
                channels = np.concatenate([channels, _targets(source, resized.shape[:2], (ratio_w, ratio_h))])
            yield channels[None]

    def _make(self, drawn: list[_Drawn], rng: np.random.Generator) -> Batch:
        return np.stack([self._crop_of(item) for item in drawn])

    def _crop_of(self, item: _Drawn) -> Batch:
        rng = item.rng
        resized, ratio_h, ratio_w = resize_for_det(item.image, self._profile)
        scale = SCALES ** rng.uniform(-1.0, 1.0) if self._augment else 1.0
        # The square's side in the resized image; not so large that most of it lies outside.
        side = min(max(1, round(self._crop / scale)), max(self._crop, round(MOST_OUTSIDE * min(resized.shape[:2]))))
        scale = self._crop / side
        boxes = item.source.boxes if isinstance(item.source, DetSample) else ()
        if boxes and rng.random() < NEAR_TEXT:
            points = boxes[rng.integers(len(boxes))].points * np.array([ratio_w, ratio_h], np.float32)
            top, left = window_around(points, resized.shape[:2], side, rng)
        else:
            top, left = busiest_window(resized, side, rng)
        square, where = scaled_square(resized[top : top + side, left : left + side], self._crop, scale, rng)
        if self._augment:
            square = augment_page(square, rng)
        channels = normalize(square, self._profile.mean, self._profile.std)
        if not self._targets:
            return channels
        shape = (math.ceil(resized.shape[0] * scale), math.ceil(resized.shape[1] * scale))
        maps = np.zeros((2, self._crop, self._crop), np.float32)  # what lies outside the image counts neither way
        part = maps[:, where[0], where[1]]
        height, width = part.shape[1:]
        y, x = min(round(top * scale), shape[0] - height), min(round(left * scale), shape[1] - width)
        part[:] = _targets(item.source, shape, (ratio_w * scale, ratio_h * scale), (y, x, height, width))
        return np.concatenate([channels, maps])


def _targets(
    source: Source,
    shape: tuple[int, int],
    factors: tuple[float, float],
    window: tuple[int, int, int, int] | None = None,
) -> Batch:
    """Return map and mask f32 ``[2, H, W]`` of a page of ``shape``, or of a window of it; (x, y) factors scale labels.

    A text at the window's border is shrunk as a whole, as it is on the page.
    """
    boxes = source.boxes if isinstance(source, DetSample) else ()
    polygons = [np.asarray(box.points * np.array(factors, np.float32), np.float32) for box in boxes]
    return np.stack(shrink_maps(shape, polygons, [box.ignore for box in boxes], window=window))


def _ratio(image: Image) -> float:
    """Return width over height."""
    return float(image.shape[1]) / float(image.shape[0])
