"""The interval against what statistics says it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from ocrslim.ocr.metrics.bootstrap import Interval, compute_figures, paired_bootstrap
from ocrslim.ocr.metrics.detection import DetRecord, hmean


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


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of 200 experiments with a known difference 95 % of the intervals hold it, within the noise of 200 draws."""
    truth, held = 0.1, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        # A correct answer is 1; b gets wrong what a gets wrong, and one in ten of the others.
        a = (rng.random(150) < 0.8).astype(float)
        lost = (rng.random(150) < truth / 0.8) * a
        interval = paired_bootstrap(_records(a), _records(a - lost), _mean, n=200, seed=seed)
        held += interval.low <= truth <= interval.high
    assert 0.89 <= held / 200 <= 0.99


def test_the_interval_narrows_with_the_square_root_of_the_images() -> None:
    def width(n: int) -> float:
        rng = np.random.default_rng(0)
        interval = paired_bootstrap(_records(rng.normal(size=n)), _records(rng.normal(size=n)), _mean, n=500)
        return interval.high - interval.low

    assert width(100) / width(1600) == pytest.approx(4.0, rel=0.3)


def test_one_image_has_no_spread() -> None:
    assert paired_bootstrap(_records([3.0]), _records([1.0]), _mean, n=20) == Interval(2.0, 2.0, 2.0)


def test_records_are_drawn_whole_so_that_figures_of_several_counts_stay_paired() -> None:
    """hmean of pooled counts: both models see the same images in a round, however different the images are."""
    counts = [(9, 10, 10), (0, 1, 5), (50, 100, 60), (1, 1, 1)]
    records = [DetRecord(str(index), "s", *count) for index, count in enumerate(counts)]
    assert paired_bootstrap(records, records, hmean, n=100) == Interval(0.0, 0.0, 0.0)
    worse = [DetRecord(one.image, "s", 0, one.labelled, one.detected) for one in records]
    interval = paired_bootstrap(records, worse, hmean, n=300)
    assert 0.0 < interval.low < hmean(records) < interval.high <= 1.0


def test_the_drop_is_observed_not_resampled() -> None:
    a, b = _records([1.0, 0.0, 1.0]), _records([0.0, 0.0, 1.0])
    figures = compute_figures({"mean": _mean}, a, b)
    assert figures["mean_difference"] == pytest.approx(1 / 3)
    assert figures["mean_difference_low"] <= 1 / 3 <= figures["mean_difference_high"]
    with pytest.raises(ValueError, match="same images"):
        compute_figures({"mean": _mean}, a, b[:2])
