"""Hmean, precision and recall of boxes: PaddleOCR's ``DetMetric``, which is ICDAR 2015's rule at IoU 0.5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ocrslim.ocr.labels import TextBox
from ocrslim.ocr.metrics.bootstrap import compute_figures
from ocrslim.ocr.polygon import Points, intersection_area, iou, is_valid, polygon_area

__all__ = ["DetRecord", "DetectionMetric", "hmean", "is_covered", "match_boxes", "precision", "recall"]

IOU = 0.5  # a match is above, strictly
COVERED = 0.5  # a detection with a larger share in an ignored box counts neither way


@dataclass(frozen=True)
class DetRecord:
    """What one image adds to the score.

    Args:
        image: its path.
        set_name: the set that it belongs to.
        matched: pairs of a labelled and a detected box.
        labelled: boxes that should be found.
        detected: boxes that were found, without those in ignored places.
        invalid: polygons left out, labelled or detected, because they cross themselves or have no area.
        boxes: that were found, all of them, each ``[k, 2]`` in pixels; no part of the score.
    """

    image: str
    set_name: str
    matched: int
    labelled: int
    detected: int
    invalid: int = 0
    boxes: tuple[Points, ...] = field(default=(), compare=False, repr=False)


def precision(records: Sequence[DetRecord]) -> float:
    """Return matched / detected over all images together, 0 where nothing was detected."""
    detected = sum(record.detected for record in records)
    return sum(record.matched for record in records) / detected if detected else 0.0


def recall(records: Sequence[DetRecord]) -> float:
    """Return matched / labelled over all images together, 0 where nothing is labelled."""
    labelled = sum(record.labelled for record in records)
    return sum(record.matched for record in records) / labelled if labelled else 0.0


def hmean(records: Sequence[DetRecord]) -> float:
    """Return 2PR / (P + R), 0 where both are 0."""
    p, r = precision(records), recall(records)
    return 2 * p * r / (p + r) if p + r else 0.0


class DetectionMetric:
    """Counts matches image by image.

    1. Polygons that are not valid are left out.
    2. A detection that lies by more than half of its own area in one ignored box is left out.
    3. Labelled boxes, in their order, take the first detection still free, in its order, with an IoU above 0.5.
    4. Matches, labels and detections are summed over the images, then divided.

    Attributes:
        records: one for each image so far.
    """

    FIGURES: ClassVar[dict[str, Callable[[Sequence[DetRecord]], float]]] = {
        "hmean": hmean,
        "precision": precision,
        "recall": recall,
    }

    def __init__(self) -> None:
        self.records: list[DetRecord] = []

    def reset(self) -> None:
        """Forget all images."""
        self.records = []

    def update(self, boxes: Sequence[Points], truth: Sequence[TextBox], image: str = "", set_name: str = "") -> None:
        """Count one image.

        Args:
            boxes: detected polygons, each ``[k, 2]`` in pixels of the image.
            truth: labelled boxes.
            image: its path.
            set_name: the set that it belongs to.
        """
        found = [box for box in boxes if is_valid(box)]
        labelled = [box for box in truth if is_valid(box.points)]
        invalid = len(boxes) - len(found) + len(truth) - len(labelled)
        ignored = [box.points for box in labelled if box.ignore]
        cared = [box.points for box in labelled if not box.ignore]
        found = [box for box in found if not is_covered(box, ignored)]
        matched = len(match_boxes(cared, found))
        self.records.append(DetRecord(image, set_name, matched, len(cared), len(found), invalid, tuple(boxes)))

    def compute(self, baseline: DetectionMetric | None = None) -> dict[str, float]:
        """Return hmean, precision and recall of all images.

        Args:
            baseline: another model's metric of the same images; adds ``NAME_difference``, ours less its,
                ``NAME_difference_low`` and ``NAME_difference_high``, the bounds of its 95 % interval.

        Raises:
            ValueError: the baseline is of other images.
        """
        return compute_figures(self.FIGURES, self.records, None if baseline is None else baseline.records)


def is_covered(box: Points, ignored: Sequence[Points]) -> bool:
    """Say whether a detection lies by more than half of its own area in one of the ignored boxes.

    Args:
        box: a valid polygon, ``[k, 2]``.
        ignored: valid polygons.
    """
    area = polygon_area(box)
    return any(intersection_area(box, other) > COVERED * area for other in ignored)


def match_boxes(labelled: Sequence[Points], found: Sequence[Points]) -> list[tuple[int, int]]:
    """Pair boxes one to one: each label, in its order, takes the first detection still free with an IoU above 0.5.

    Args:
        labelled: valid polygons, each ``[k, 2]``.
        found: the same.

    Returns:
        list: (index of the label, index of the detection), in the order of the labels.
    """
    if not labelled or not found:
        return []
    pairs: list[tuple[int, int]] = []
    free = set(range(len(found)))
    for label, candidates in enumerate(_near(labelled, found)):
        for index in candidates:
            if index in free and iou(labelled[label], found[index]) > IOU:
                free.remove(index)
                pairs.append((label, index))
                break
    return pairs


def _near(labelled: Sequence[Points], found: Sequence[Points]) -> list[list[int]]:
    """Return for each label the detections, in their order, whose upright bounding box overlaps its own.

    A page has a hundred of each, and nearly no pair of them overlaps: the polygons need not be asked.
    """
    (a_low, a_high), (b_low, b_high) = (
        (np.array([box.min(axis=0) for box in boxes]), np.array([box.max(axis=0) for box in boxes]))
        for boxes in (labelled, found)
    )
    overlap = np.all((a_low[:, None] < b_high[None]) & (b_low[None] < a_high[:, None]), axis=2)
    return [np.flatnonzero(overlap[index]).tolist() for index in range(len(labelled))]
