"""Where two readings of one page differ: boxes that only one of them has, and texts that are not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocrslim.ocr.metrics.detection import match_boxes
from ocrslim.ocr.metrics.recognition import normalized_distance
from ocrslim.ocr.polygon import Points, is_valid

__all__ = ["Difference", "compare_readings"]


@dataclass(frozen=True)
class Difference:
    """How a reading differs from the one that it is held against; numbers are places in the two lists of lines.

    Args:
        equal: pairs (ours, theirs) of boxes with an IoU above 0.5 and the same text.
        changed: pairs of such boxes with other texts.
        only_ours: boxes without a partner.
        only_theirs: the same on the other side.
        distance: sum over all pairs and single boxes of edits / length of the longer text; a single box counts 1.
    """

    equal: tuple[tuple[int, int], ...] = ()
    changed: tuple[tuple[int, int], ...] = ()
    only_ours: tuple[int, ...] = ()
    only_theirs: tuple[int, ...] = ()
    distance: float = 0.0

    @property
    def lines(self) -> int:
        """The number of pairs and single boxes."""
        return len(self.equal) + len(self.changed) + len(self.only_ours) + len(self.only_theirs)


def compare_readings(ours: Sequence[tuple[Points, str]], theirs: Sequence[tuple[Points, str]]) -> Difference:
    """Hold one reading of a page against another.

    Boxes are paired as in :func:`ocrslim.ocr.metrics.detection.match_boxes`; one that is no valid polygon has no
    partner.

    Args:
        ours: box ``[k, 2]`` and text of each line.
        theirs: the same.
    """
    a = [index for index, (box, _) in enumerate(ours) if is_valid(box)]
    b = [index for index, (box, _) in enumerate(theirs) if is_valid(box)]
    pairs = [(a[left], b[right]) for left, right in match_boxes([ours[i][0] for i in a], [theirs[i][0] for i in b])]
    equal = tuple((left, right) for left, right in pairs if ours[left][1] == theirs[right][1])
    changed = tuple(pair for pair in pairs if pair not in equal)
    only_ours = tuple(sorted(set(range(len(ours))) - {left for left, _ in pairs}))
    only_theirs = tuple(sorted(set(range(len(theirs))) - {right for _, right in pairs}))
    distance = sum(normalized_distance(ours[left][1], theirs[right][1]) for left, right in changed)
    return Difference(equal, changed, only_ours, only_theirs, distance + len(only_ours) + len(only_theirs))
