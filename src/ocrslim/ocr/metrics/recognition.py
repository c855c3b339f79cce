"""Accuracy and normalised edit distance of texts: PaddleOCR's ``RecMetric``, and a loose reading of the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ocrslim.ocr.metrics.bootstrap import compute_figures

__all__ = [
    "RecRecord",
    "RecognitionMetric",
    "accuracy",
    "edit_distance",
    "fold",
    "loose_accuracy",
    "loose_norm_edit_distance",
    "norm_edit_distance",
    "normalized_distance",
]

EPSILON = 1e-5  # PaddleOCR divides by n + 1e-5, so that no data is 0 and a perfect score is a little under 1


@dataclass(frozen=True)
class RecRecord:
    """What one image adds to the score.

    Args:
        image: its path.
        set_name: the set that it belongs to.
        label: the text that it shows.
        text: the text that was read.
        correct: whether they are the same.
        distance: edits between them / length of the longer, 0 to 1.
        loose_correct: the same after :func:`fold`.
        loose_distance: the same after :func:`fold`.
    """

    image: str
    set_name: str
    label: str
    text: str
    correct: bool
    distance: float
    loose_correct: bool
    loose_distance: float


def accuracy(records: Sequence[RecRecord]) -> float:
    """Return correct / (n + 1e-5)."""
    return sum(record.correct for record in records) / (len(records) + EPSILON)


def norm_edit_distance(records: Sequence[RecRecord]) -> float:
    """Return 1 - sum of distances / (n + 1e-5), which PaddleOCR calls ``norm_edit_dis``: 1 is perfect."""
    return 1 - sum(record.distance for record in records) / (len(records) + EPSILON)


def loose_accuracy(records: Sequence[RecRecord]) -> float:
    """Return :func:`accuracy` of folded texts."""
    return sum(record.loose_correct for record in records) / (len(records) + EPSILON)


def loose_norm_edit_distance(records: Sequence[RecRecord]) -> float:
    """Return :func:`norm_edit_distance` of folded texts."""
    return 1 - sum(record.loose_distance for record in records) / (len(records) + EPSILON)


def edit_distance(a: str, b: str) -> int:
    """Return the Levenshtein distance in code points, by Hyyrö's bit-parallel form (2003) of Myers's algorithm.

    The column of the dynamic-programming table after each character of ``b`` is held as two integers, a bit for each
    character of ``a``: where the cell is one more (``plus``) or one less (``minus``) than the one above it.

    >>> edit_distance("kitten", "sitting")
    3
    """
    if not a:
        return len(b)
    places: dict[str, int] = {}
    for index, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << index
    all_bits, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, distance = all_bits, 0, len(a)
    for character in b:
        equal = places.get(character, 0)
        diagonal = ((((equal & plus) + plus) ^ plus) | equal | minus) & all_bits
        up = minus | (~(diagonal | plus) & all_bits)
        down = plus & diagonal
        distance += bool(up & last) - bool(down & last)
        up = (up << 1 | 1) & all_bits
        down = down << 1 & all_bits
        plus, minus = down | (~(diagonal | up) & all_bits), up & diagonal
    return distance


def normalized_distance(a: str, b: str) -> float:
    """Return edits / length of the longer text, 0 where both are empty."""
    longer = max(len(a), len(b))
    return edit_distance(a, b) / longer if longer else 0.0


def fold(text: str) -> str:
    """Return the text in NFKC, without case and without white space.

    >>> fold("ＡＢ c")
    'abc'
    """
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


class RecognitionMetric:
    """Compares texts image by image.

    Args:
        ignore_space: leave spaces out of both texts, for the exact figures too; PaddleOCR does unless it is told
            otherwise, and its PP-OCR configurations tell it otherwise.

    Attributes:
        records: one for each image so far.
    """

    FIGURES: ClassVar[dict[str, Callable[[Sequence[RecRecord]], float]]] = {
        "accuracy": accuracy,
        "norm_edit_distance": norm_edit_distance,
    }
    LOOSE_FIGURES: ClassVar[dict[str, Callable[[Sequence[RecRecord]], float]]] = {
        "accuracy": loose_accuracy,
        "norm_edit_distance": loose_norm_edit_distance,
    }

    def __init__(self, ignore_space: bool = False) -> None:
        self.ignore_space = ignore_space
        self.records: list[RecRecord] = []

    def reset(self) -> None:
        """Forget all images."""
        self.records = []

    def update(self, text: str, label: str, image: str = "", set_name: str = "") -> None:
        """Count one image.

        Args:
            text: that was read.
            label: that it shows.
            image: its path.
            set_name: the set that it belongs to.
        """
        ours, theirs = (value.replace(" ", "") if self.ignore_space else value for value in (text, label))
        loose_ours, loose_theirs = fold(text), fold(label)
        record = RecRecord(
            image,
            set_name,
            label,
            text,
            ours == theirs,
            normalized_distance(ours, theirs),
            loose_ours == loose_theirs,
            normalized_distance(loose_ours, loose_theirs),
        )
        self.records.append(record)

    def compute(self, baseline: RecognitionMetric | None = None) -> dict[str, float]:
        """Return accuracy and norm_edit_distance of all images.

        Args:
            baseline: another model's metric of the same images; adds ``NAME_difference``, ours less its,
                ``NAME_difference_low`` and ``NAME_difference_high``, the bounds of its 95 % interval.

        Raises:
            ValueError: the baseline is of other images.
        """
        return compute_figures(self.FIGURES, self.records, None if baseline is None else baseline.records)
