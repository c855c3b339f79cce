"""The images that two models answer differently: how many, and the few that show it best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from ocrslim.ocr.metrics.detection import DetRecord, match_boxes
from ocrslim.ocr.metrics.recognition import RecRecord
from ocrslim.ocr.polygon import Points, is_valid

__all__ = ["SHOWN", "differing"]

SHOWN = 12  # images that are told of

_Differing: TypeAlias = tuple[float, dict[str, Any]]  # what is lost on an image, and what is told of it


def differing(
    before: Sequence[DetRecord] | Sequence[RecRecord], after: Sequence[DetRecord] | Sequence[RecRecord]
) -> dict[str, Any]:
    """Return the lines that two models read differently, or the images on which only one of them finds a box.

    Args:
        before: of the original, one for each image.
        after: of the compressed model, on the same images in the same order.

    Returns:
        dict: ``n`` images that differ; on how many of them the compressed model is ``worse`` or ``better``, by the
        edit distance of lines and the hmean of pages; and ``shown``, at most :data:`SHOWN` of them. Of a line these
        say ``image``, ``label``, ``float`` and ``int8`` texts; of a page ``image``, ``labelled`` boxes, and for each
        model ``matched`` ones and its boxes as SVG writes polygons: those that ``both`` found, IoU above 0.5, and
        those that it ``alone`` found.
    """
    found = []
    for first, second in zip(before, after, strict=True):
        if isinstance(first, RecRecord) and isinstance(second, RecRecord):
            pair = _line(first, second)
        else:
            assert isinstance(first, DetRecord)
            assert isinstance(second, DetRecord)
            pair = _page(first, second)
        if pair is not None:
            found.append(pair)
    return _told(found)


def _line(before: RecRecord, after: RecRecord) -> _Differing | None:
    if before.text == after.text:
        return None
    item = {"image": after.image, "label": after.label, "float": before.text, "int8": after.text}
    return after.distance - before.distance, item


def _page(before: DetRecord, after: DetRecord) -> _Differing | None:
    pairs = match_boxes(*([box for box in record.boxes if is_valid(box)] for record in (before, after)))
    answers = [_answer(record, {pair[side] for pair in pairs}) for side, record in enumerate((before, after))]
    if not any(answer["alone"] for answer in answers):
        return None
    item = {"image": after.image, "labelled": after.labelled, "float": answers[0], "int8": answers[1]}
    return _share(before) - _share(after), item


def _told(found: Sequence[_Differing]) -> dict[str, Any]:
    """Count (loss, image), and keep the images with the largest losses and gains, half of each while there are."""
    ordered = sorted(found, key=lambda pair: -pair[0])
    gains = [pair for pair in ordered[SHOWN // 2 :] if pair[0] < 0][-(SHOWN // 2) :]
    losses = ordered[: SHOWN - len(gains)]
    shown = [*losses, *(pair for pair in reversed(gains) if pair not in losses)]
    return {
        "n": len(found),
        "worse": sum(loss > 0 for loss, _ in found),
        "better": sum(loss < 0 for loss, _ in found),
        "shown": [item for _, item in shown],
    }


def _answer(record: DetRecord, matched: set[int]) -> dict[str, Any]:
    boxes = [_points(box) for box in record.boxes if is_valid(box)]
    return {
        "matched": record.matched,
        "both": [points for index, points in enumerate(boxes) if index in matched],
        "alone": [points for index, points in enumerate(boxes) if index not in matched],
    }


def _points(box: Points) -> str:
    """Return a polygon as SVG writes it, whole pixels.

    >>> import numpy as np
    >>> _points(np.array([[0.0, 0.2], [9.6, 0.0], [9.6, 4.0]]))
    '0,0 10,0 10,4'
    """
    return " ".join(f"{round(float(x))},{round(float(y))}" for x, y in box)


def _share(record: DetRecord) -> float:
    """Return the hmean of one image; 1 where nothing is labelled and nothing was found."""
    total = record.labelled + record.detected
    return 2 * record.matched / total if total else 1.0
