"""The interval against what statistics says it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from ocrslim.ocr.metrics.bootstrap import Interval, compute_figures, paired_bootstrap


@dataclass(frozen=True)
class Record:
    image: str
    value: float


def _mean(records: Sequence[Record]) -> float:
    return sum(record.value for record in records) / len(records)


def _records(values: Sequence[float]) -> list[Record]:
    return [Record(str(index), float(value)) for index, value in enumerate(values)]


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 400), rng.normal(0.0, 1.0, 400)
    interval = paired_bootstrap(_records(a), _records(b), _mean, n=2000)
    difference = a - b
    error = difference.std() / np.sqrt(400)
    assert interval.mean == pytest.approx(difference.mean(), abs=0.1 * error)
    assert interval.low == pytest.approx(difference.mean() - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(difference.mean() + 1.96 * error, abs=0.2 * error)


def test_pairing_cancels_what_is_hard_for_both() -> None:
    hard = np.random.default_rng(0).normal(0.0, 100.0, 200)
    interval = paired_bootstrap(_records(hard + 1.0), _records(hard), _mean, n=200)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_model_does_not_differ_from_itself() -> None:
    records = _records([0.0, 1.0, 1.0])
    assert paired_bootstrap(records, records, _mean) == Interval(0.0, 0.0, 0.0)


def test_a_seed_gives_the_same_interval_another_a_close_one() -> None:
    rng = np.random.default_rng(1)
    a, b = _records(rng.normal(size=100)), _records(rng.normal(size=100))
    first = paired_bootstrap(a, b, _mean, seed=3)
    assert paired_bootstrap(a, b, _mean, seed=3) == first
    other = paired_bootstrap(a, b, _mean, seed=4)
    assert other != first
    assert other.low == pytest.approx(first.low, abs=0.1)


def test_the_difference_changes_its_sign_with_the_order() -> None:
    rng = np.random.default_rng(2)
    a, b = _records(rng.normal(size=50)), _records(rng.normal(size=50))
    forth, back = paired_bootstrap(a, b, _mean), paired_bootstrap(b, a, _mean)
    assert (forth.mean, forth.low, forth.high) == pytest.approx((-back.mean, -back.high, -back.low))


def test_a_figure_that_is_no_mean_is_computed_on_the_whole_resample() -> None:
    sizes: list[int] = []

    def spread(records: Sequence[Record]) -> float:
        sizes.append(len(records))
        return max(record.value for record in records) - min(record.value for record in records)

    interval = paired_bootstrap(_records([0, 5, 10]), _records([0, 0, 0]), spread, n=50)
    assert set(sizes) == {3}
    assert 0.0 <= interval.low <= interval.mean <= interval.high <= 10.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([], []),
        (_records([1, 2]), _records([1])),
        (_records([1, 2]), _records([1, 2])[::-1]),
        ([Record("a", 1)], [Record("b", 1)]),
    ],
)
def test_other_images_are_refused(a: list[Record], b: list[Record]) -> None:
    with pytest.raises(ValueError, match="same images"):
        paired_bootstrap(a, b, _mean)


def test_figures_stand_alone_or_beside_their_difference() -> None:
    a, b = _records([1.0] * 10), _records([0.0] * 5 + [1.0] * 5)
    assert compute_figures({"mean": _mean}, a) == {"mean": 1.0}
    figures = compute_figures({"mean": _mean}, a, b)
    assert list(figures) == ["mean", "mean_difference", "mean_difference_low", "mean_difference_high"]
    assert figures["mean_difference"] == 0.5
    assert 0.1 <= figures["mean_difference_low"] < 0.5 < figures["mean_difference_high"] <= 0.9
