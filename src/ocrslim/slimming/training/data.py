"""Which images train, calibrate and judge: the user's, split once, or rendered text where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocrslim.config.profile import Profile, Task
from ocrslim.errors import DataError
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, read_samples
from ocrslim.ocr.render import render_lines, render_pages
from ocrslim.slimming.training.loader import DetBatches, RecBatches, prefetch

__all__ = ["TrainingData", "calibration_batches", "open_training_data", "training_batches", "validation_batches"]

Image = Path | NDArray[np.uint8]
Item = TypeVar("Item")

HELD_SHARE = 0.1  # of the images, kept back from training and calibration
HELD_MOST = {"rec": 200, "det": 20}  # more judge no better and cost time at each look
FEWEST = 4  # images; below that a split leaves nothing to judge by
RENDERED = {"rec": 2000, "det": 80}
BATCH = {"rec": 8, "det": 2}
CALIBRATION_IMAGES = {"rec": 128, "det": 16}


@dataclass(frozen=True)
class TrainingData:
    """Images to learn from, images held back, and what could not be used.

    Args:
        task: det or rec.
        train: images, paths to them, or pages with their boxes, which training crops prefer.
        held: the same; never trained on.
        held_samples: the labelled samples of ``held``; empty for rendered images.
        rendered: true where no data was given.
        labelled: true where every held-back sample has a label.
        skipped: label lines and images left out, with the reason.
    """

    task: Task
    train: tuple[Image | DetSample, ...]
    held: tuple[Image, ...]
    held_samples: tuple[DetSample | RecSample, ...]
    rendered: bool
    labelled: bool
    skipped: tuple[Skipped, ...]


def open_training_data(
    task: Task, path: Path | None, data_dir: Path | None, characters: Sequence[str], seed: int
) -> TrainingData:
    """Read the user's data, or render text, and split off the held-back part.

    Args:
        task: det or rec.
        path: label file, folder of images or LMDB; ``None`` renders.
        data_dir: what the paths in a label file are relative to.
        characters: the model's dictionary, for rendering.
        seed: of the split and the rendering.

    Raises:
        DataError: fewer than four usable images.
    """
    if path is None:
        images: list[Image]
        if task == "rec":
            images = [image for image, _ in render_lines(characters, RENDERED[task], seed)]
        else:
            images = [image for image, *_ in render_pages(RENDERED[task], seed)]
        drawn, kept = _split(task, images, seed)
        return TrainingData(task, drawn, kept, (), True, False, ())
    found, skipped = read_samples(task, path, data_dir)
    samples: Sequence[DetSample | RecSample] = found  # one type for the two tasks from here on
    if len(samples) < FEWEST:
        raise DataError(f"{path}: {len(samples)} usable images, at least {FEWEST} are needed ({len(skipped)} skipped)")
    train, held = _split(task, samples, seed)
    return TrainingData(
        task,
        tuple(_source(sample) for sample in train),
        tuple(sample.image for sample in held),
        held,
        False,
        all(_has_label(sample) for sample in held),
        tuple(skipped),
    )


def training_batches(data: TrainingData, profile: Profile, seed: int, start: int, count: int) -> Iterator[Tensor]:
    """Yield batches ``start`` to ``start + count`` of the endless, shuffled, augmented stream."""
    source = _batches(data.task, data.train, profile, seed, augment=True)
    for batch in prefetch(source, start, count):
        yield torch.from_numpy(batch)


def calibration_batches(data: TrainingData, profile: Profile, seed: int) -> list[Tensor]:
    """Return batches of training images as the deployed model would see them, without augmentation."""
    return _natural(data.task, data.train[: CALIBRATION_IMAGES[data.task]], profile, seed)


def validation_batches(data: TrainingData, profile: Profile, seed: int) -> list[Tensor]:
    """Return batches of all held-back images, without augmentation."""
    return _natural(data.task, data.held, profile, seed)


def _natural(task: Task, images: Sequence[Image | DetSample], profile: Profile, seed: int) -> list[Tensor]:
    source = _batches(task, images, profile, seed, augment=False)
    return [torch.from_numpy(batch) for batch in source.eval_batches()]


def _batches(
    task: Task, images: Iterable[Image | DetSample], profile: Profile, seed: int, augment: bool
) -> RecBatches | DetBatches:
    if task == "rec":
        lines = tuple(image for image in images if not isinstance(image, DetSample))
        return RecBatches(lines, BATCH[task], profile.rec, seed, augment=augment)
    return DetBatches(tuple(images), BATCH[task], profile.det, seed, augment=augment)


def _split(task: Task, items: Sequence[Item], seed: int) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """Return what to learn from and what to hold back, at random by the seed."""
    order = np.random.default_rng([seed, len(items)]).permutation(len(items)).tolist()
    count = max(1, min(HELD_MOST[task], round(len(items) * HELD_SHARE)))
    return tuple(items[index] for index in order[count:]), tuple(items[index] for index in order[:count])


def _source(sample: DetSample | RecSample) -> Path | DetSample:
    return sample if isinstance(sample, DetSample) and sample.boxes else sample.image


def _has_label(sample: DetSample | RecSample) -> bool:
    return bool(sample.boxes) if isinstance(sample, DetSample) else sample.text is not None
