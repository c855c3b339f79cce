"""Labelled batches for training on a PaddleSlim file's data: a pure function of (seed, step), made ahead by threads.

Several label files with shares, and LMDBs, become one list of samples; a pipeline turns each into arrays. numpy and
OpenCV only; :func:`ocrslim.slimming.training.task_losses.labelled_batches` makes tensors of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ocrslim.config.paddleslim_data import Dataset
from ocrslim.config.profile import Task
from ocrslim.errors import DataError
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, read_samples
from ocrslim.ocr.pipeline import Pipeline, Values
from ocrslim.ocr.sequences import join, pick

__all__ = ["ArrayBatch", "LabelledBatches", "LabelledSamples", "check_paths", "make_ahead", "open_labelled"]

Sample: TypeAlias = DetSample | RecSample
ArrayBatch: TypeAlias = dict[str, Any]
"""Arrays by name, stacked to ``[N, ...]``; a list where the samples' differ in shape, as polygons do."""

WHERE = (
    "the data sets are listed at https://github.com/PaddlePaddle/PaddleOCR/blob/release/2.6/doc/doc_ch/dataset/"
    "ocr_datasets.md (ICDAR2015 text localization: https://rrc.cvc.uab.es/?ch=4, with PaddleOCR's label files)"
)
LAYOUT: dict[Task, str] = {
    "det": 'image<TAB>[{"transcription": "text", "points": [[x, y], [x, y], [x, y], [x, y]]}, ...]',
    "rec": "image<TAB>text",
}


@dataclass(frozen=True)
class LabelledSamples:
    """What a dataset holds: samples in the files' order, and what had to be left out."""

    samples: Sequence[Sample]
    skipped: tuple[Skipped, ...]


def open_labelled(dataset: Dataset, task: Task, seed: int) -> LabelledSamples:
    """Read a dataset's labels; of each file the share that its ratio says, drawn by the seed.

    Args:
        dataset: as the file describes it.
        task: det or rec.
        seed: of the draw.

    Raises:
        DataError: a path is missing (the text says where the data can be had and how they have to lie), a file holds
            labels for the other task, or nothing is left.
    """
    check_paths(dataset, task)
    sources = dataset.label_files if dataset.kind == "files" else (dataset.data_dir,)
    parts: list[Sequence[Sample]] = []
    skipped: list[Skipped] = []
    for number, (source, ratio) in enumerate(zip(sources, dataset.ratios, strict=True)):
        found, left_out = read_samples(task, source, dataset.data_dir if dataset.kind == "files" else None)
        skipped += left_out
        count = round(len(found) * ratio)
        drawn = np.random.default_rng([seed, number]).choice(len(found), count, replace=False)
        # In the file's order, so that ratio 1.0 is the file itself.
        parts.append(pick(found, np.sort(drawn)))
    samples = join(parts)
    if not samples:
        raise DataError(f"{dataset.where}: {dataset.name}.dataset: no sample is left of {len(skipped)} lines")
    return LabelledSamples(samples, tuple(skipped))


class LabelledBatches:
    """Batches of a labelled dataset.

    A sample whose image or label can't be used is noted in ``refused``, and the next one of the epoch stands in.

    Args:
        samples: images with labels.
        pipeline: what is done to each.
        batch: samples in a batch.
        seed: of the order and of all that is random in the pipeline.
        shuffle: a new order in each epoch.
        drop_last: leave out the last, smaller batch of an epoch, unless it is the only one.

    Attributes:
        refused: path -> reason, of the samples found unusable so far.

    Raises:
        DataError: there are no samples.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        pipeline: Pipeline,
        batch: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        if not samples:
            raise DataError("no samples to make batches of")
        self.refused: dict[str, str] = {}
        self._samples = samples
        self._pipeline = pipeline
        self._batch = batch
        self._seed = seed
        self._shuffle = shuffle
        self._orders: dict[int, NDArray[np.int64]] = {}
        whole, rest = divmod(len(samples), batch)
        self.steps_per_epoch = max(1, whole) if drop_last else whole + bool(rest)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self._samples)

    def batch(self, step: int) -> ArrayBatch:
        """Return the batch of ``step``, counted from 0 over all epochs.

        Raises:
            DataError: no sample can be used, or the images of a batch differ in size.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        first = place * self._batch
        positions = range(first, min(first + self._batch, len(order)))
        return _collate([self._make(epoch, position, order) for position in positions])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        order = self._orders.get(epoch)
        if order is None:
            order = np.arange(len(self._samples), dtype=np.int64)
            if self._shuffle:
                order = np.random.default_rng([self._seed, epoch]).permutation(len(self._samples))
            # Steps go up, so the last epoch's is all that is worth keeping. Another thread may do the same meanwhile.
            self._orders = {epoch: order}
        return order

    def _make(self, epoch: int, position: int, order: NDArray[np.int64]) -> Values:
        count = len(order)
        for turn in range(count):
            sample = self._samples[order[(position + turn) % count]]
            if str(sample.image) in self.refused:
                continue
            try:
                return self._pipeline(sample, np.random.default_rng([self._seed, epoch, position, 1]), self._draw)
            except DataError as error:
                self.refused[str(sample.image)] = str(error)
        raise DataError(f"none of {count} samples can be used; {next(iter(self.refused.values()))}")

    def _draw(self, rng: np.random.Generator) -> Sample:
        return self._samples[int(rng.integers(len(self._samples)))]


def make_ahead(batches: LabelledBatches, start: int, count: int, workers: int) -> Iterator[ArrayBatch]:
    """Yield the batches of ``count`` steps from ``start`` on, in order, made ahead by threads.

    Images are decoded and changed outside of Python's lock, so threads do, and nothing is copied between processes.
    The threads end with the iterator.

    Args:
        batches: makes each.
        start: first step.
        count: steps.
        workers: threads; 0 is one.
    """
    workers = max(1, workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="ocrslim-batches")
    steps = iter(range(start, start + count))
    pending: deque[Future[ArrayBatch]] = deque()
    try:
        for step in steps:
            pending.append(pool.submit(batches.batch, step))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _collate(samples: list[Values]) -> ArrayBatch:
    collated: ArrayBatch = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        alike = all(isinstance(value, np.ndarray) for value in values) and len({value.shape for value in values}) == 1
        if key == "image" and not alike:
            raise DataError(
                "the images of a batch differ in size; bring them to one with EastRandomCropData (det) or RecResizeImg"
                " (rec), or take batch_size_per_card: 1"
            )
        collated[key] = np.stack(values) if alike else values
    return collated


def check_paths(dataset: Dataset, task: Task) -> None:
    """Say once and completely what is missing.

    Args:
        dataset: as the file describes it.
        task: det or rec.

    Raises:
        DataError: see :func:`open_labelled`.
    """
    wanted: list[Path] = [dataset.data_dir, *dataset.label_files]
    missing = [path for path in wanted if not path.exists()]
    if not missing:
        return
    if dataset.kind == "lmdb":
        layout = f"{dataset.data_dir}/ must hold an LMDB (data.mdb with num-samples, image-%09d, label-%09d)"
    else:
        files = ", ".join(str(path) for path in dataset.label_files)
        layout = (
            f"put the images under {dataset.data_dir}/ and the labels, {LAYOUT[task]} a line with paths relative to"
        )
        layout += f" it, in {files}"
    raise DataError(
        f"{dataset.where}: {dataset.name}.dataset: {missing[0]} is missing (paths are relative to {Path.cwd()}); "
        f"{layout}; {WHERE}"
    )
