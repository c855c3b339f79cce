"""Judging a compressed model against its float original: the same images, the same engine, the paired interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ocrslim.errors import DataError
from ocrslim.evaluate import Reader, evaluate
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample, RecSample, Skipped
from ocrslim.ocr.metrics.bootstrap import paired_bootstrap
from ocrslim.ocr.metrics.detection import DetMetric
from ocrslim.ocr.metrics.recognition import RecMetric
from ocrslim.slimming.training.data import Image

__all__ = ["MAIN_METRIC", "Judged", "judge_by_agreement", "judge_by_labels"]

MAIN_METRIC = {"det": "hmean", "rec": "accuracy"}

Progress = Callable[[int, int], None]
Record = TypeVar("Record")


@dataclass(frozen=True)
class Judged:
    """Both models' metrics, and the loss between them.

    Args:
        judged_by: by what, in words.
        n: images.
        float_metrics: of the original.
        int8_metrics: of the compressed model.
        drop: ``metric``, and the loss in ``points`` (hundredths; more is worse) with its 95 % interval ``low`` to ``high``.
        skipped: images that were left out.
    """

    judged_by: str
    n: int
    float_metrics: dict[str, float]
    int8_metrics: dict[str, float]
    drop: dict[str, Any]
    skipped: tuple[Skipped, ...]


def judge_by_labels(
    original: Reader,
    compressed: Reader,
    samples: Sequence[DetSample] | Sequence[RecSample],
    skipped: Sequence[Skipped],
    judged_by: str,
    progress: Progress | None = None,
) -> Judged:
    """Score both models on labelled images.

    Raises:
        DataError: no image could be scored.
    """
    before = evaluate(original, samples, skipped=skipped, loose=True, progress=progress)
    after = evaluate(compressed, samples, loose=True, progress=progress)
    metric: DetMetric | RecMetric = DetMetric() if original.task == "det" else RecMetric(loose=True)
    drop = _drop(metric.compute, before.records, after.records, MAIN_METRIC[original.task])
    return Judged(judged_by, before.n, before.metrics, after.metrics, drop, tuple(before.skipped))


def judge_by_agreement(
    original: Reader, compressed: Reader, images: Sequence[Image], judged_by: str, progress: Progress | None = None
) -> Judged:
    """Score both models on images without labels: what the original reads is taken for the truth.

    The original scores 1 by definition; the loss is the share of lines (or boxes) on which the compressed model
    differs, an upper bound of what it loses against real labels.

    Args:
        original: the float model.
        compressed: the int8 model.
        images: paths or arrays.
        judged_by: in words.
        progress: see :func:`ocrslim.evaluate.evaluate`.

    Raises:
        DataError: no image could be read.
    """
    truth: DetMetric | RecMetric
    answer: DetMetric | RecMetric
    if original.task == "det":
        truth, answer = DetMetric(), DetMetric()
    else:
        truth, answer = RecMetric(ignore_space=False), RecMetric(ignore_space=False)
    skipped: list[Skipped] = []
    for index, image in enumerate(images):
        try:
            pixels = read_image(image) if isinstance(image, Path) else image
        except DataError as error:
            skipped.append(Skipped(str(image), str(error)))
            continue
        if isinstance(truth, DetMetric) and isinstance(answer, DetMetric):
            boxes = original.find_text(pixels)[0]
            truth.update(boxes, boxes, [False] * len(boxes))
            answer.update(compressed.find_text(pixels)[0], boxes, [False] * len(boxes))
        elif isinstance(truth, RecMetric) and isinstance(answer, RecMetric):
            text = original.read_line(pixels)[0]
            truth.update(text, text)
            answer.update(compressed.read_line(pixels)[0], text)
        if progress:
            progress(index + 1, len(images))
    if not truth.records:
        raise DataError(
            f"no image could be read to judge by; the last reason: {skipped[-1].reason if skipped else 'none'}"
        )
    drop = _drop(truth.compute, truth.records, answer.records, MAIN_METRIC[original.task])
    return Judged(judged_by, len(truth.records), truth.compute(), answer.compute(), drop, tuple(skipped))


def _drop(
    compute: Callable[[Sequence[Any]], dict[str, float]], before: Sequence[Any], after: Sequence[Any], name: str
) -> dict[str, Any]:
    """Return the loss in points with its interval."""
    interval = paired_bootstrap(before, after, lambda records: compute(records)[name])
    points = {"points": interval.mean, "low": interval.low, "high": interval.high}
    return {"metric": name, **{key: round(100 * value, 4) for key, value in points.items()}, "n": len(before)}
