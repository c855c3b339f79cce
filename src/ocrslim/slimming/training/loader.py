"""Batches for training, calibration and judging: a pure function of (seed, step), made ahead by one thread.

Because a batch depends on nothing but the seed, the step and the files, a run that goes on from a checkpoint sees the
batches that it would have seen. numpy and OpenCV only; the trainer turns batches into tensors.
"""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample
from ocrslim.ocr.transforms import normalize, rec_width, resize_for_det, resize_for_rec

__all__ = ["Batches", "DetBatches", "PrefetchingIterator", "RecBatches", "prefetch"]

Image = NDArray[np.uint8]
Batch = NDArray[np.float32]
Source = Path | Image | DetSample

TALLEST = 4  # lines taller than so many times the profile's height are shrunk before they are augmented, for speed
SORTED_TOGETHER = 256  # natural line images read and sorted by shape at a time: bounds memory
SCALES = 2.0  # detection images are enlarged or shrunk by up to this factor, log-uniformly around 1
MOST_OUTSIDE = 1.25  # a shrunk window is at most so many times the image's shorter side
NEAR_TEXT = 0.8  # share of crops placed around a box, where there are boxes


class Batches(Protocol):
    """Anything that makes the batch of a step."""

    def batch(self, step: int) -> Batch:
        """Return the batch of ``step``, f32 ``[N, 3, H, W]``."""
        ...


class _Shuffled(ABC):
    """What both kinds of batches share: the order of the images, and what happens to damaged ones."""

    def __init__(self, images: Sequence[Source], batch: int, seed: int, augment: bool) -> None:
        if not images:
            raise DataError("no images to make batches of")
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        self.damaged: dict[str, str] = {}
        self._images = images  # of a million images only their places: see ocrslim.ocr.sequences
        self._batch = batch
        self._seed = seed
        self._augment = augment
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
            NDArray: f32 ``[N, 3, H, W]``, normalised.

        Raises:
            DataError: not one image can be read.
        """
        first = step * self._batch
        drawn = [self._draw(position) for position in range(first, first + self._batch)]
        return self._make(drawn, np.random.default_rng([self._seed, step, 2]))

    @abstractmethod
    def _make(self, drawn: list[_Drawn], rng: np.random.Generator) -> Batch:
        """Turn images into a batch; ``rng`` is for what the whole batch shares."""

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
        if isinstance(source, DetSample):
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

    def _readable(self) -> Iterator[Image]:
        """Yield the images in the order given, without the damaged ones; :class:`DataError` if that leaves none."""
        found = False
        for source in self._images:
            image = self._read(source)
            if image is not None:
                found = True
                yield image
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
    model sees. With augmentation every batch draws a bound of its own between ``profile.width`` and ``max_width``,
    else nearly every batch would be as wide as the widest lines.

    Args:
        images: paths, or BGR arrays ``[H, W, 3]``.
        batch: lines in a batch.
        profile: height, least width and normalisation.
        seed: of the order and of the augmentation.
        max_width: pixels at ``profile.height``; no batch is wider.
        augment: change lines at random; see :func:`ocrslim.ocr.augment.augment_line`.

    Attributes:
        damaged: path -> reason, of the images found unreadable so far.

    Raises:
        DataError: there are no images.
    """

    def __init__(
        self,
        images: Sequence[Path | Image],
        batch: int,
        profile: RecProfile,
        seed: int,
        max_width: int = 640,
        augment: bool = True,
    ) -> None:
        super().__init__(images, batch, seed, augment)
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
        for image in self._readable():
            held.append(self._cut(image, self._max_width, 0.5))
            if len(held) == SORTED_TOGETHER:
                yield from self._sorted_batches(held)
                held = []
        yield from self._sorted_batches(held)

    def _sorted_batches(self, images: list[Image]) -> Iterator[Batch]:
        images = sorted(images, key=_ratio)
        for first in range(0, len(images), self._batch):
            yield self._stack(images[first : first + self._batch])

    def _make(self, drawn: list[_Drawn], rng: np.random.Generator) -> Batch:
        bound, lines = self._max_width, []
        if self._augment and bound > self._profile.width:
            bound = int(rng.integers(self._profile.width, bound + 1))
        for item in drawn:
            image = item.image
            if self._augment:
                image = augment_line(shrink_to_height(image, TALLEST * self._profile.height), item.rng)
            lines.append(self._cut(image, bound, item.rng.random()))
        return self._stack(lines)

    def _stack(self, lines: list[Image]) -> Batch:
        width = min(self._max_width, rec_width([_ratio(line) for line in lines], self._profile))
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
    ) -> None:
        super().__init__(images, batch, seed, augment)
        if crop < 32 or crop % 32:
            raise ValueError(f"crop must be a multiple of 32, got {crop}")
        self._profile = profile
        self._crop = crop

    def eval_batches(self) -> Iterator[Batch]:
        """Yield every readable image once, whole, as the deployed model would see it.

        Returns:
            Iterator: f32 ``[1, 3, H, W]``, sides multiples of 32.

        Raises:
            DataError: not one image can be read.
        """
        for image in self._readable():
            resized, _, _ = resize_for_det(image, self._profile)
            yield normalize(resized, self._profile.mean, self._profile.std)[None]

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
        square = scaled_square(resized[top : top + side, left : left + side], self._crop, scale, rng)
        if self._augment:
            square = augment_page(square, rng)
        return normalize(square, self._profile.mean, self._profile.std)


class PrefetchingIterator:
    """An iterator over the batches of some steps that makes the next ones in a thread while one is used.

    An error in the thread is raised where the batch would have come. The thread ends with the steps, by
    :meth:`close`, or when the iterator is garbage.

    Args:
        batches: makes the batch of a step.
        start_step: the first step.
        steps: how many.
        depth: batches kept ready.
    """

    def __init__(self, batches: Batches, start_step: int, steps: int, depth: int = 2) -> None:
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
        self._stop = threading.Event()
        self._done = False
        # The thread must not hold this object, or the object could never become garbage.
        self._thread = threading.Thread(
            target=_produce,
            args=(batches, range(start_step, start_step + steps), self._queue, self._stop),
            name="ocrslim-prefetch",
            daemon=True,
        )
        self._thread.start()

    def __iter__(self) -> PrefetchingIterator:
        return self

    def __next__(self) -> Batch:
        if self._done:
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, np.ndarray):
            return item
        self.close()
        if item is not None:
            raise item
        raise StopIteration

    def __del__(self) -> None:
        self._stop.set()

    def close(self) -> None:
        """Stop the thread and wait for it; safe to call twice."""
        self._done = True
        self._stop.set()
        self._thread.join()


def prefetch(batches: Batches, start_step: int, steps: int) -> PrefetchingIterator:
    """Iterate over the batches of ``steps`` steps from ``start_step`` on, two of them made ahead in a thread.

    >>> class Steps:
    ...     def batch(self, step):
    ...         return np.full((1, 3, 1, 1), step, np.float32)
    >>> [float(batch[0, 0, 0, 0]) for batch in prefetch(Steps(), 7, 3)]
    [7.0, 8.0, 9.0]
    """
    return PrefetchingIterator(batches, start_step, steps)


def _produce(
    batches: Batches, steps: range, ready: queue.Queue[Batch | BaseException | None], stop: threading.Event
) -> None:
    """Put the batch of every step, then ``None``; or the error that came instead of a batch."""
    try:
        for step in steps:
            if stop.is_set() or not _put(batches.batch(step), ready, stop):
                return
        _put(None, ready, stop)
    except Exception as error:  # noqa: BLE001 - handed to the consumer, which raises it
        _put(error, ready, stop)


def _put(
    item: Batch | BaseException | None, ready: queue.Queue[Batch | BaseException | None], stop: threading.Event
) -> bool:
    """Put ``item`` as soon as there is room; false when the consumer has gone."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False


def _ratio(image: Image) -> float:
    """Return width over height."""
    return float(image.shape[1]) / float(image.shape[0])
