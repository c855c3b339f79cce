"""Judging a compressed model against its float original: the same images, the same engine, the paired interval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ocrslim.config.profile import Profile
from ocrslim.engines.session import InferenceSession
from ocrslim.errors import DataError
from ocrslim.evaluate import EvalResult, RecWidth, evaluate, read_line, read_page
from ocrslim.graph.importers.source import ModelSource
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.db import DBPostProcess
from ocrslim.ocr.image import read_image
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, TextBox
from ocrslim.ocr.metrics.bootstrap import Interval, paired_bootstrap
from ocrslim.ocr.metrics.detection import DetectionMetric, hmean
from ocrslim.ocr.metrics.differing import differing
from ocrslim.ocr.metrics.recognition import RecognitionMetric, RecRecord, accuracy, loose_accuracy
from ocrslim.slimming.training.data import Image

__all__ = ["Judged", "Pair", "judge_by_agreement", "judge_by_labels"]

LOOSE = "loose accuracy"
Progress = Callable[[int, int], None]
Metric = DetectionMetric | RecognitionMetric


@dataclass(frozen=True)
class Pair:
    """The two models, loaded in the same engine, and how images reach them.

    Args:
        source: the float model.
        original: that in its engine.
        compressed: the other; the same engine.
        profile: pre- and post-processing.
        rec_width: see :func:`ocrslim.evaluate.evaluate`.
        ignore_space: see there.
        known: what the original answered before; shared by pairs made with :func:`dataclasses.replace`, so that many
            compressed models are judged against one run of it on the same images.
    """

    source: ModelSource
    original: InferenceSession
    compressed: InferenceSession
    profile: Profile
    rec_width: RecWidth = "dynamic"
    ignore_space: bool = False
    known: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Judged:
    """Both models' metrics, and the loss between them.

    Args:
        judged_by: by what, in words.
        n: images.
        float_metrics: of the original.
        int8_metrics: of the compressed model.
        drop: ``metric``, ``against`` what it was judged (``labels``, or ``float`` for the original's answers), and the
            loss in ``points`` (hundredths; more is worse) with its interval ``low`` to ``high``; ``same`` where no
            image differs.
        skipped: images that were left out.
        differences: the images on which they differ; see :mod:`ocrslim.ocr.metrics.differing`.
        loose_drop: of lines with labels, the loss when case, spaces and widths of characters are folded.
    """

    judged_by: str
    n: int
    float_metrics: dict[str, Any]
    int8_metrics: dict[str, Any]
    drop: dict[str, Any]
    skipped: tuple[Skipped, ...]
    differences: dict[str, Any]
    loose_drop: dict[str, Any] | None = None

    @property
    def worse_drop(self) -> dict[str, Any]:
        """The larger of the two losses, by which candidates are chosen.

        Labels disagree with themselves about spaces, case and full-width signs, and a model that reads these otherwise
        wins or loses by that alone: PP-OCRv4 rec for Paddle seemed to gain 0.7 points on 1,000 lines, where the folded
        texts had lost 0.3, and lost 1.1 on 1,601 others.
        """
        if self.loose_drop is None or self.loose_drop["points"] <= self.drop["points"]:
            return self.drop
        return self.loose_drop


def judge_by_labels(
    pair: Pair,
    samples: Sequence[DetSample | RecSample],
    skipped: Sequence[Skipped],
    judged_by: str,
    progress: Progress | None = None,
) -> Judged:
    """Score both models on labelled images.

    Args:
        pair: the models.
        samples: with labels.
        skipped: what reading the labels left out.
        judged_by: in words; names these samples among others that the pair's models may be judged on.
        progress: see :func:`ocrslim.evaluate.evaluate`.

    Raises:
        DataError: no image can be scored.
    """

    def score(session: InferenceSession, skipped: Sequence[Skipped]) -> EvalResult:
        return evaluate(
            pair.source,
            samples,
            profile=pair.profile,
            session=session,
            loose=True,
            rec_width=pair.rec_width,
            ignore_space=pair.ignore_space,
            skipped=skipped,
            progress=progress,
        )

    if judged_by not in pair.known:
        pair.known[judged_by] = score(pair.original, skipped)
    before: EvalResult = pair.known[judged_by]
    after = score(pair.compressed, ())
    drop = _drop(after.headline, "labels", before.metrics, after.metrics, after.drop_from(before), before.n)
    differences = differing(before.records, after.records)
    loose = _loose_drop(before, after) if pair.source.task == "rec" else None
    return Judged(judged_by, before.n, before.metrics, after.metrics, drop, before.skipped, differences, loose)


def _loose_drop(before: EvalResult, after: EvalResult) -> dict[str, Any]:
    interval = paired_bootstrap(
        cast("tuple[RecRecord, ...]", before.records), cast("tuple[RecRecord, ...]", after.records), loose_accuracy
    )
    found = [{LOOSE: result.metrics["loose"]["accuracy"]} for result in (before, after)]
    return _drop(LOOSE, "labels", found[0], found[1], interval, before.n)


def judge_by_agreement(pair: Pair, images: Sequence[Image], judged_by: str, progress: Progress | None = None) -> Judged:
    """Score both models on images without labels: what the original reads is taken for the truth.

    The original scores 1 by definition. The loss is the share of lines, or of boxes, on which the compressed model
    differs from it: more than it loses against real labels, since a different answer can be the better one.

    Args:
        pair: the models.
        images: paths or arrays.
        judged_by: in words.
        progress: see :func:`ocrslim.evaluate.evaluate`.

    Raises:
        DataError: no image can be read.
    """
    compare, headline = (_compare_pages, "hmean") if pair.source.task == "det" else (_compare_lines, "accuracy")
    skipped: list[Skipped] = []
    readable = _readable(images, skipped, progress or (lambda done, total: None))
    truth, answer = compare(pair, readable)
    n = len(truth.records)
    if not n:
        raise DataError(f"no image can be read to judge by ({skipped[-1].reason if skipped else 'there is none'})")
    before, after = truth.compute(), answer.compute()
    drop = _drop(headline, "float", before, after, _interval(truth, answer), n)
    differences = differing(truth.records, answer.records)
    for item in differences["shown"]:
        image = images[int(item["image"])]
        # The float model's answer stood in for a label.
        item |= {"image": str(image) if isinstance(image, Path) else None, "label": None}
    return Judged(judged_by, n, before, after, drop, tuple(skipped), differences)


def _readable(
    images: Sequence[Image], skipped: list[Skipped], progress: Progress
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the place and the pixels of each image, one at a time in memory; note what can't be read."""
    for index, image in enumerate(images):
        try:
            yield str(index), read_image(image) if isinstance(image, Path) else image
        except DataError as error:
            skipped.append(Skipped(str(image), str(error)))
        progress(index + 1, len(images))


def _interval(truth: Metric, answer: Metric) -> Interval:
    if isinstance(truth, DetectionMetric):
        assert isinstance(answer, DetectionMetric)
        return paired_bootstrap(truth.records, answer.records, hmean)
    assert isinstance(answer, RecognitionMetric)
    return paired_bootstrap(truth.records, answer.records, accuracy)


def _compare_lines(pair: Pair, images: Iterator[tuple[str, NDArray[np.uint8]]]) -> tuple[Metric, Metric]:
    charset, profile = Charset.from_source(pair.source), pair.profile.rec

    def read(session: InferenceSession, image: Any) -> str:
        return read_line(session, charset, profile, image, pair.rec_width)[0]

    truth, answer = RecognitionMetric(), RecognitionMetric()
    for name, image in images:
        if name not in pair.known:
            pair.known[name] = read(pair.original, image)
        text = pair.known[name]
        truth.update(text, text, name)
        answer.update(read(pair.compressed, image), text, name)
    return truth, answer


def _compare_pages(pair: Pair, images: Iterator[tuple[str, NDArray[np.uint8]]]) -> tuple[Metric, Metric]:
    post_process = DBPostProcess(pair.profile.det)
    truth, answer = DetectionMetric(), DetectionMetric()
    for name, image in images:
        if name not in pair.known:
            pair.known[name] = read_page(pair.original, post_process, pair.profile.det, image)[0]
        boxes = pair.known[name]
        labels = [TextBox(points, "", ignore=False) for points in boxes]
        truth.update(boxes, labels, name)
        answer.update(read_page(pair.compressed, post_process, pair.profile.det, image)[0], labels, name)
    return truth, answer


def _drop(
    metric: str, against: str, before: Mapping[str, float], after: Mapping[str, float], interval: Interval, n: int
) -> dict[str, Any]:
    """Return the loss in points, as it was observed, with its interval.

    Where no resample differs, since no image does, the bootstrap says nothing: then at most 3 in ``n`` images differ,
    with 95 % confidence (the rule of three; Hanley and Lippman-Hand, JAMA 249, 1983), and that share stands for what
    they may lose. Against the float model nothing can be gained.
    """
    low, high, same = interval.low, interval.high, interval.low == interval.high == 0
    if same:
        high = min(1.0, 3 / n)
        low = 0.0 if against == "float" else -high
    points = {"points": before[metric] - after[metric], "low": low, "high": high}
    found: dict[str, Any] = {
        "metric": metric,
        "against": against,
        **{key: round(100 * value, 4) for key, value in points.items()},
        "n": n,
    }
    return found | {"same": True} if same else found
