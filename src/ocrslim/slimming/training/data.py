"""Which images train, calibrate and judge: the user's, split once, or rendered text where there are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocrslim.config.profile import Profile, Task
from ocrslim.errors import DataError
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, read_samples
from ocrslim.ocr.render import render_lines, render_pages
from ocrslim.ocr.sequences import pick
from ocrslim.slimming.training.loader import MAX_WIDTH, DetBatches, RecBatches
from ocrslim.slimming.training.prefetch import WHOLE, Shard, prefetch
from ocrslim.slimming.training.task_losses import LabelledBatch

__all__ = [
    "Spell",
    "TrainingData",
    "calibration_batches",
    "compared_batches",
    "labelled_pages",
    "labelled_validation",
    "open_training_data",
    "sensitivity_batches",
    "training_batches",
    "validation_batches",
]

Image = Path | NDArray[np.uint8]
Spell: TypeAlias = Callable[[str], NDArray[np.int64] | None]
"""Text -> classes of its characters; ``None`` where it can't be told in them."""

HELD_SHARE = {"rec": 0.4, "det": 0.4}  # kept back from training and calibration; what is few judges badly
HELD_MOST = {"rec": 2000, "det": 150}  # to tell some half a point; a training looks at 1,600 lines
VALIDATION_IMAGES = {"rec": 128, "det": 8}  # of them, for what torch looks at often
LABELLED_VALIDATION = 24  # pages; labels tell less than the float model's answers
LABELLED_PIXELS = 50_000_000  # of them, 20 bytes each: photos of 12 megapixels are fewer
COMPARED_IMAGES = {"rec": 256, "det": 16}  # of them, for what the engine looks at once for each candidate
WHOLE_PIXELS = 30_000_000  # of pages kept whole, 12 bytes each: 32 pages of 960 pixels a side, or 2 photos unshrunk
SENSITIVITY_IMAGES = {"rec": 12, "det": 1}  # of a batch: all values that the graph makes of it are stored
SENSITIVITY_BATCHES = {"rec": 4, "det": 2}  # of a climb: what a site costs, it costs on few lines
FEWEST = 4  # images; below that a split leaves nothing to judge by
RENDERED = {"rec": 2000, "det": 80}
BATCH = {"rec": 8, "det": 2}
CALIBRATION_IMAGES = {"rec": 128, "det": 16}


@dataclass(frozen=True)
class TrainingData:
    """Images to learn from, images held back, and what could not be used.

    Args:
        task: det or rec.
        train: images, paths to them, or pages with their boxes, which training crops prefer. Of very many images only
            the places in the label file are kept (:data:`ocrslim.ocr.label_file.MOST_OBJECTS`).
        held: the same; never trained on.
        held_samples: the labelled samples of ``held``; empty for rendered images.
        rendered: true where no data was given.
        labelled: true where the held-back samples have labels; a labelled page may have no text.
        skipped: label lines and images left out when the data was opened, with the reason.
        train_samples: the labelled samples of ``train`` where both halves have labels, made anew when asked for.
        damaged: path -> reason, of the images that were found unreadable since, when batches were made of them.
    """

    task: Task
    train: Sequence[Image | DetSample]
    held: tuple[Image, ...]
    held_samples: tuple[DetSample | RecSample, ...]
    rendered: bool
    labelled: bool
    skipped: tuple[Skipped, ...]
    train_samples: Sequence[DetSample | RecSample] = ()
    damaged: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> tuple[Skipped, ...]:
        """All that was not used so far: ``skipped``, then ``damaged``."""
        return (*self.skipped, *(Skipped(path, reason) for path, reason in self.damaged.copy().items()))


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
        learn, keep = _split(task, len(images), seed)
        return TrainingData(task, pick(images, learn), tuple(pick(images, keep)), (), True, False, ())
    found, skipped = read_samples(task, path, data_dir)
    samples: Sequence[DetSample | RecSample] = found  # one type for the two tasks from here on
    if len(samples) < FEWEST:
        raise DataError(f"{path}: {len(samples)} usable images, at least {FEWEST} are needed ({len(skipped)} skipped)")
    learn, keep = _split(task, len(samples), seed)
    held = tuple(pick(samples, keep))
    labelled = _are_labelled(held)
    return TrainingData(
        task,
        pick(samples, learn, _source),
        tuple(sample.image for sample in held),
        held,
        False,
        labelled,
        tuple(skipped),
        pick(samples, learn) if labelled else (),
    )


def training_batches(
    data: TrainingData,
    profile: Profile,
    seed: int,
    start: int,
    count: int,
    shard: Shard = WHOLE,
    batch: int | None = None,
    widest: int | None = None,
    spell: Spell | None = None,
) -> Iterator[Any]:
    """Yield batches ``start`` to ``start + count`` of a process's share of the endless, shuffled, augmented stream.

    Args:
        data: of it, ``train``.
        profile: pre-processing.
        seed: of the order and the augmentation.
        start: first batch.
        count: batches.
        shard: of the process.
        batch: images in a batch; ``None`` is :data:`BATCH`.
        widest: pixels that a batch of lines has at most; ``None`` leaves it to :class:`.loader.RecBatches`.
        spell: of a recogniser whose data has labels, to have those of the lines that are whole.

    Yields:
        Tensor: images; with ``spell`` a :class:`LabelledBatch`.
    """
    images = data.train if spell is None else cast("Sequence[RecSample]", data.train_samples)
    source = _batches(data, images, profile, seed, True, batch, together=shard.together, widest=widest)
    if spell is None:
        yield from map(torch.from_numpy, prefetch(shard.of(source), start, count))
        return
    assert isinstance(source, RecBatches)  # texts are a recogniser's
    for lines, texts in prefetch(shard.of(_Labelled(source)), start, count):
        yield _spelled(lines, texts, spell)


def labelled_pages(
    data: TrainingData, profile: Profile, seed: int, start: int, count: int, shard: Shard = WHOLE
) -> Iterator[LabelledBatch]:
    """Yield what :func:`training_batches` does for a detector, with the targets of its labels."""
    source = _batches(data, data.train, profile, seed, augment=True, targets=True)
    yield from map(_with_targets, prefetch(shard.of(source), start, count))


def _spelled(images: NDArray[np.float32], texts: Sequence[str], spell: Spell) -> LabelledBatch:
    """Return lines with the classes of their texts, padded, and how many these are: 0 without a label."""
    labels = [spell(text) for text in texts]
    lengths = [0 if label is None else len(label) for label in labels]
    padded = np.zeros((len(labels), max(lengths)), np.int64)
    for row, label in zip(padded, labels, strict=True):
        if label is not None:
            row[: len(label)] = label
    targets = {"label_ctc": torch.from_numpy(padded), "length": torch.tensor(lengths)}
    return LabelledBatch(torch.from_numpy(images), targets)


@dataclass(frozen=True)
class _Labelled:
    """Batches of lines with their texts, in the form that is made ahead."""

    lines: RecBatches

    def batch(self, step: int) -> tuple[NDArray[np.float32], list[str]]:
        return self.lines.labelled(step)


def labelled_validation(data: TrainingData, profile: Profile, seed: int) -> list[LabelledBatch]:
    """Return the first held-back pages, whole, with the targets of their labels: one, and more as memory allows."""
    held = cast("Sequence[Image | DetSample]", data.held_samples[:LABELLED_VALIDATION])
    found: list[LabelledBatch] = []
    pixels = 0
    for batch in _batches(data, held, profile, seed, augment=False, targets=True).eval_batches():
        pixels += batch[0, 0].size
        if found and pixels > LABELLED_PIXELS:
            break
        found.append(_with_targets(batch))
    return found


def _with_targets(batch: NDArray[np.float32]) -> LabelledBatch:
    image, text, mask = np.split(batch, [3, 4], axis=1)
    targets = {"shrink_map": torch.from_numpy(text[:, 0]), "shrink_mask": torch.from_numpy(mask[:, 0])}
    images = torch.from_numpy(image).contiguous(memory_format=torch.channels_last)  # as a training wants them, once
    return LabelledBatch(images, targets)


def calibration_batches(data: TrainingData, profile: Profile, seed: int, images: int | None = None) -> list[Tensor]:
    """Return batches of training images as the deployed model would see them, without augmentation.

    Args:
        data: the first of its training images are taken.
        profile: pre-processing.
        seed: as elsewhere.
        images: how many; ``None`` is :data:`CALIBRATION_IMAGES`.
    """
    chosen = data.train[: images or CALIBRATION_IMAGES[data.task]]
    return _natural(data, chosen, profile, seed, math.inf if images else WHOLE_PIXELS)


def validation_batches(data: TrainingData, profile: Profile, seed: int) -> list[Tensor]:
    """Return batches of the first held-back images, without augmentation."""
    return _natural(data, data.held[: VALIDATION_IMAGES[data.task]], profile, seed)


def compared_batches(data: TrainingData, profile: Profile, seed: int, images: int | None = None) -> list[Tensor]:
    """Return batches of the first held-back images, more than :func:`validation_batches` does.

    Args:
        data: the first of its held-back images are taken.
        profile: pre-processing.
        seed: as elsewhere.
        images: how many; ``None`` is :data:`COMPARED_IMAGES`.
    """
    return _natural(data, data.held[: images or COMPARED_IMAGES[data.task]], profile, seed)


def sensitivity_batches(data: TrainingData, profile: Profile, seed: int, images: int | None = None) -> list[Tensor]:
    """Return training images, those first that calibration does not see, in batches whose values fit in memory.

    Args:
        data: of it, only ``train``.
        profile: pre-processing.
        seed: as elsewhere.
        images: about how many, batches are of one size; ``None`` is :data:`SENSITIVITY_BATCHES` full ones.
    """
    size, seen = SENSITIVITY_IMAGES[data.task], CALIBRATION_IMAGES[data.task]
    wanted = images or size * SENSITIVITY_BATCHES[data.task]
    chosen = (*data.train[seen : seen + wanted], *data.train[:seen])[:wanted]
    parts = math.ceil(len(chosen) / size)
    source = _batches(data, chosen, profile, seed, augment=False, batch=len(chosen) // parts)
    return [torch.from_numpy(source.batch(step)) for step in range(parts)]


def _natural(
    data: TrainingData, images: Sequence[Image | DetSample], profile: Profile, seed: int, most: float = WHOLE_PIXELS
) -> list[Tensor]:
    """Return batches as at deployment; of pages one, and more up to so many pixels."""
    found: list[Tensor] = []
    pixels = 0
    for batch in _batches(data, images, profile, seed, augment=False).eval_batches():
        pixels += batch[:, 0].size
        if found and data.task == "det" and pixels > most:
            break
        found.append(torch.from_numpy(batch))
    return found


def _batches(
    data: TrainingData,
    images: Sequence[Image | DetSample | RecSample],
    profile: Profile,
    seed: int,
    augment: bool,
    batch: int | None = None,
    targets: bool = False,
    together: int = 1,
    widest: int | None = None,
) -> RecBatches | DetBatches:
    size = batch or BATCH[data.task]
    batches: RecBatches | DetBatches
    if data.task == "rec":
        lines = cast("Sequence[Image | RecSample]", images)  # pages with boxes are a detector's
        batches = RecBatches(lines, size, profile.rec, seed, widest or MAX_WIDTH, augment, together)
    else:
        batches = DetBatches(
            cast("Sequence[Image | DetSample]", images), size, profile.det, seed, augment=augment, targets=targets
        )
    batches.damaged = data.damaged  # the same for training, calibration and judging: each file is tried once
    return batches


def _split(task: Task, items: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of what to learn from and of what to hold back, at random by the seed."""
    order = np.random.default_rng([seed, items]).permutation(items)
    count = max(1, min(HELD_MOST[task], round(items * HELD_SHARE[task])))
    return order[count:], order[:count]


def _source(sample: DetSample | RecSample) -> Path | DetSample:
    return sample if isinstance(sample, DetSample) and sample.boxes else sample.image


def _are_labelled(held: Sequence[DetSample | RecSample]) -> bool:
    """Tell whether labels can judge: every line needs one; a page without boxes may be one without text."""
    if any(isinstance(sample, DetSample) for sample in held):
        return any(isinstance(sample, DetSample) and sample.boxes for sample in held)
    return all(isinstance(sample, RecSample) and sample.text is not None for sample in held)
