"""Detection and recognition scored as one: a box counts only if its text is right as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ocrslim.ocr.labels import TextBox
from ocrslim.ocr.metrics.bootstrap import compute_figures
from ocrslim.ocr.metrics.detection import IOU, DetectionMetric, DetRecord, is_covered
from ocrslim.ocr.metrics.recognition import fold
from ocrslim.ocr.polygon import Points, iou, is_valid

__all__ = ["EndToEndMetric"]


class EndToEndMetric:
    """Counts, image by image, the labelled boxes that were found and read.

    1. Polygons that are not valid are left out.
    2. A labelled box that says nothing cannot be judged: it is ignored as one marked ``###`` is.
    3. A detection that lies by more than half of its own area in one ignored box is left out.
    4. Labelled boxes, in their order, take the first detection still free, in its order, with an IoU above 0.5 and
       the same text: to the character, or after :func:`ocrslim.ocr.metrics.recognition.fold` for the loose figures.
    5. Matches, labels and detections are summed over the images, then divided, as in detection.

    ICDAR 2015's end-to-end protocol takes the first detection with such an IoU and then asks for its text; that
    differs only where two detections lie over each other.

    Attributes:
        records: one for each image so far; ``matched`` are those with the same text.
        loose_records: the same for folded texts.
        untold: labelled boxes without a text, ignored.
    """

    FIGURES = DetectionMetric.FIGURES

    def __init__(self) -> None:
        self.records: list[DetRecord] = []
        self.loose_records: list[DetRecord] = []
        self.untold = 0

    def reset(self) -> None:
        """Forget all images."""
        self.records, self.loose_records, self.untold = [], [], 0

    def update(
        self,
        boxes: Sequence[Points],
        texts: Sequence[str],
        truth: Sequence[TextBox],
        image: str = "",
        set_name: str = "",
    ) -> None:
        """Count one image.

        Args:
            boxes: detected polygons, each ``[k, 2]`` in pixels of the image.
            texts: what was read in each of them.
            truth: labelled boxes with their texts.
            image: its path.
            set_name: the set that it belongs to.

        Raises:
            ValueError: there are not as many texts as boxes.
        """
        found = [(box, text) for box, text in zip(boxes, texts, strict=True) if is_valid(box)]
        labelled = [box for box in truth if is_valid(box.points)]
        invalid = len(boxes) - len(found) + len(truth) - len(labelled)
        ignored = [box.points for box in labelled if box.ignore or not box.text]
        self.untold += sum(not box.ignore and not box.text for box in labelled)
        cared = [(box.points, box.text) for box in labelled if not box.ignore and box.text]
        found = [(box, text) for box, text in found if not is_covered(box, ignored)]
        matched = _match(cared, found, str)
        record = DetRecord(image, set_name, matched, len(cared), len(found), invalid)
        self.records.append(record)
        self.loose_records.append(replace(record, matched=_match(cared, found, fold)))

    def compute(self, baseline: EndToEndMetric | None = None) -> dict[str, float]:
        """Return hmean, precision and recall of all images.

        Args:
            baseline: as in :meth:`ocrslim.ocr.metrics.detection.DetectionMetric.compute`.

        Raises:
            ValueError: the baseline is of other images.
        """
        return compute_figures(self.FIGURES, self.records, None if baseline is None else baseline.records)

    def compute_loose(self) -> dict[str, float]:
        """Return the same figures for texts in NFKC without case and spaces."""
        return compute_figures(self.FIGURES, self.loose_records)


def _match(
    labelled: Sequence[tuple[Points, str]], found: Sequence[tuple[Points, str]], form: Callable[[str], str]
) -> int:
    """Return the number of pairs, taken greedily, whose texts are the same in a form."""
    free: dict[str, list[Points]] = {}
    for box, text in found:
        free.setdefault(form(text), []).append(box)
    matched = 0
    for label, text in labelled:
        candidates = free.get(form(text), [])
        taken = next((index for index, box in enumerate(candidates) if iou(label, box) > IOU), None)
        if taken is not None:
            del candidates[taken]
            matched += 1
    return matched
