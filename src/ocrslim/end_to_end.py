"""The recipe: score a detector and a recogniser together, as the reader of a page meets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from ocrslim.errors import DataError
from ocrslim.evaluate import EvalResult, readable_samples
from ocrslim.ocr.labels import IGNORED, DetSample, read_det_labels
from ocrslim.ocr.metrics.bootstrap import compute_figures, figures_per_set
from ocrslim.ocr.metrics.detection import COVERED, IOU, DetRecord
from ocrslim.ocr.metrics.end_to_end import EndToEndMetric
from ocrslim.reader import Reader
from ocrslim.report.run_log import progress_bar

__all__ = ["evaluate_pages"]


def evaluate_pages(
    reader: Reader,
    data: Path,
    *,
    data_dir: Path | None = None,
    loose: bool = False,
    limit: int | None = None,
    console: Console | None = None,
) -> EvalResult:
    """Score a pair of models on a label file of boxes with texts.

    Args:
        reader: the pair, see :func:`ocrslim.reader.load_pair`.
        data: the label file; see :class:`ocrslim.ocr.metrics.end_to_end.EndToEndMetric` for what counts.
        data_dir: what image paths in the label file are relative to.
        loose: add the figures of texts in NFKC without case and spaces.
        limit: score the first ``limit`` images only.
        console: where a progress bar is shown; nowhere if ``None``.

    Raises:
        DataError: the labels cannot be used, none has a text, or no image can be read.
        EngineError: the engine failed.
    """
    started = time.perf_counter()
    samples, left_out = read_det_labels(data, data_dir)
    samples = samples[:limit]
    if not any(box.text and not box.ignore for sample in samples for box in sample.boxes):
        raise DataError(f"{data}: no box has a text to score by; --end-to-end needs transcriptions")
    metric = EndToEndMetric()
    with progress_bar("pages", console or Console(quiet=True)) as update:
        for sample, image in readable_samples(samples, left_out, update):
            lines = reader(image).lines
            boxes, texts = [line.points for line in lines], [line.text for line in lines]
            metric.update(boxes, texts, sample.boxes, str(sample.image), sample.set_name)
    if not metric.records:
        raise DataError(f"none of {len(samples)} images can be read; {left_out[-1].reason}")
    figures = _figures(metric, loose)
    return EvalResult(
        "end-to-end",
        reader.detector.session.engine,
        len(metric.records),
        tuple(left_out),
        figures(metric.records),
        figures_per_set(metric.records, figures),
        _protocol(reader, metric, samples, loose),
        time.perf_counter() - started,
        tuple(metric.records),
    )


def _figures(metric: EndToEndMetric, loose: bool) -> Callable[[Sequence[DetRecord]], dict[str, Any]]:
    """Return what computes the figures of some of the metric's records, with the loose ones of the same images."""
    folded = dict(zip(map(id, metric.records), metric.loose_records, strict=True))

    def figures(records: Sequence[DetRecord]) -> dict[str, Any]:
        found: dict[str, Any] = dict(compute_figures(metric.FIGURES, records))
        if loose:
            found["loose"] = compute_figures(metric.FIGURES, [folded[id(record)] for record in records])
        return found

    return figures


def _protocol(reader: Reader, metric: EndToEndMetric, samples: Sequence[DetSample], loose: bool) -> dict[str, Any]:
    session = reader.detector.session
    protocol: dict[str, Any] = {
        "det": reader.detector.source.name,
        "rec": reader.recognizer.source.name,
        "engine_version": session.version,
        "threads": session.threads,
        "iou_above": IOU,
        "texts": "the same to the character",
        "drop_score": reader.drop_score,
        "ignored_texts": list(IGNORED),
        "ignored_cover_above": COVERED,
        "boxes_without_text_ignored": metric.untold,
        "images_without_text": sum(not sample.boxes for sample in samples),
        "invalid_polygons": sum(record.invalid for record in metric.records),
        "det_profile": asdict(reader.detector.profile),
        "rec_profile": asdict(reader.recognizer.profile),
    }
    return protocol | {"loose": "NFKC, case and spaces folded"} if loose else protocol
