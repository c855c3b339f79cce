"""How sure one may be of a difference: the paired bootstrap (Efron 1979) over images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

__all__ = ["Interval", "compute_figures", "figures_per_set", "paired_bootstrap"]

LEVEL = 95.0  # percent


class _Record(Protocol):
    @property
    def image(self) -> str: ...
    @property
    def set_name(self) -> str: ...


_R = TypeVar("_R", bound=_Record)


@dataclass(frozen=True)
class Interval:
    """A difference with the interval that holds it with 95 % confidence.

    Args:
        mean: of the resampled differences.
        low: their 2.5th percentile.
        high: their 97.5th percentile.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(
    a_records: Sequence[_R],
    b_records: Sequence[_R],
    compute: Callable[[Sequence[_R]], float],
    n: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return the interval of ``compute(a) - compute(b)``, two models on the same images.

    Each round draws as many images as there are, with replacement, and takes both models' records of these images:
    what is hard for both models cancels out.

    Args:
        a_records: of one model, one for each image.
        b_records: of the other, for the same images in the same order.
        compute: from records to a figure.
        n: rounds.
        seed: of the draws.

    Raises:
        ValueError: there are no records, or those of the two models are of different images.

    >>> from ocrslim.ocr.metrics.recognition import RecRecord, accuracy
    >>> right, wrong = (RecRecord("1.png", "", "a", read, *score) for read, *score in
    ...                 [("a", True, 0.0, True, 0.0), ("b", False, 1.0, False, 1.0)])
    >>> round(paired_bootstrap([right], [wrong], accuracy, n=10).low, 3)
    1.0
    """
    if not a_records or [record.image for record in a_records] != [record.image for record in b_records]:
        raise ValueError("the two models must have been scored on the same images, at least one, in the same order")
    count = len(a_records)
    rng = np.random.default_rng(seed)
    differences = np.empty(n)
    for turn in range(n):
        drawn = rng.integers(count, size=count).tolist()
        differences[turn] = compute([a_records[i] for i in drawn]) - compute([b_records[i] for i in drawn])
    low, high = np.percentile(differences, [50 - LEVEL / 2, 50 + LEVEL / 2])
    return Interval(float(differences.mean()), float(low), float(high))


def compute_figures(
    figures: Mapping[str, Callable[[Sequence[_R]], float]], records: Sequence[_R], baseline: Sequence[_R] | None = None
) -> dict[str, float]:
    """Return each figure of ``records``.

    Args:
        figures: from records to a figure, by name.
        records: of a model.
        baseline: another model's records of the same images; adds ``NAME_difference``, ours less the other's, with
            ``NAME_difference_low`` and ``NAME_difference_high``, the bounds of its 95 % interval.

    Raises:
        ValueError: the baseline is of other images.
    """
    found = {name: compute(records) for name, compute in figures.items()}
    if baseline is not None:
        for name, compute in figures.items():
            interval = paired_bootstrap(records, baseline, compute)
            found[f"{name}_difference"] = found[name] - compute(baseline)
            found |= {f"{name}_difference_low": interval.low, f"{name}_difference_high": interval.high}
    return found


def figures_per_set(
    records: Sequence[_R], figures: Callable[[Sequence[_R]], Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return for each set of images its number of them and its figures, by the sets' names in order.

    Args:
        records: of all sets.
        figures: of the records of one.
    """
    sets: dict[str, list[_R]] = {}
    for record in records:
        sets.setdefault(record.set_name, []).append(record)
    return {name: {"n": len(of_set), **figures(of_set)} for name, of_set in sorted(sets.items())}
