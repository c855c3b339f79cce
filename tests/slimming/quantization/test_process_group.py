"""Calibration shared out: processes as threads here, which meet at a barrier; real ones are in the training's tests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ocrslim.errors import ModelError
from ocrslim.slimming.quantization.observer import MinMax, Percentile
from ocrslim.slimming.quantization.prepare import calibrate, observe
from ocrslim.slimming.quantization.process_group import ALONE, ProcessGroup, merge_observers
from ocrslim.slimming.quantization.ranges import choose_ranges
from ocrslim.slimming.quantization.samples import collect_samples

from .conftest import calibrated


class Threads:
    """One of several threads that gather as processes do, and counts how often."""

    def __init__(
        self, rank: int, size: int, barrier: threading.Barrier, table: dict[int, Mapping[str, Tensor]]
    ) -> None:
        self.rank, self.size, self._barrier, self._table = rank, size, barrier, table
        self.gathered = 0

    def gather_tensors(self, tensors: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]]:
        self._table[self.rank] = {name: tensor.clone() for name, tensor in tensors.items()}
        self._barrier.wait(60)
        found = [dict(self._table[rank]) for rank in range(self.size)]
        self._barrier.wait(60)
        self.gathered += 1
        return found if self.rank == 0 else []


def together(size: int, do: Callable[[ProcessGroup], Any]) -> list[Any]:
    """Return what came of a function in each of so many threads; all have to have gathered as often."""
    barrier, table = threading.Barrier(size), dict[int, Mapping[str, Tensor]]()
    group = [Threads(rank, size, barrier, table) for rank in range(size)]
    found: list[Any] = [None] * size

    def work(rank: int) -> None:
        try:
            found[rank] = do(group[rank])
        except BaseException:
            barrier.abort()
            raise

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not barrier.broken
    assert len({one.gathered for one in group}) == 1
    return found


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("observer", ["minmax", "moving_average", "percentile", "mse"])
def test_the_first_process_has_the_grids_of_one_that_saw_all(observer: str, size: int) -> None:
    def grids(group: ProcessGroup) -> dict[str, Tensor]:
        small = calibrated()
        calibrate(small.quantization, small.batches, observer, group)
        return small.quantization.module.state_dict()

    wanted = grids(ALONE)
    first = together(size, grids)[0]
    assert first.keys() == wanted.keys()
    assert all(torch.equal(first[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("size", [2, 3])
def test_the_first_process_has_the_samples_of_all_batches(size: int) -> None:
    def samples(group: ProcessGroup) -> dict[str, Tensor]:
        small = calibrated()
        return collect_samples(small.quantization, small.batches, rows=30, seed=3, group=group)

    wanted = samples(ALONE)
    first, *others = together(size, samples)
    assert first.keys() == wanted.keys()
    assert all(torch.equal(first[node], wanted[node]) for node in wanted)
    assert others == [{}] * (size - 1)


def test_the_first_process_chooses_the_ranges() -> None:
    samples: dict[str, Tensor] = {}

    def chosen(group: ProcessGroup) -> dict[str, float]:
        small = calibrated()
        calibrate(small.quantization, small.batches)
        given = collect_samples(small.quantization, small.batches) if group is ALONE else samples
        samples.update(given)
        return choose_ranges(small.quantization, small.batches, given if group.rank == 0 else {}, group)

    wanted = chosen(ALONE)
    assert together(2, chosen) == [wanted, {}]


def test_what_two_sites_read_is_seen_once_a_batch() -> None:
    """An average that moves would count it twice, and merged ones in another order."""
    small = calibrated()
    readers = Counter(site.input_value for site in small.quantization.placement.sites)
    seen: Counter[str] = Counter()

    class Counting(MinMax):
        def __init__(self, value: str) -> None:
            super().__init__()
            self.value = value

        def update(self, x: Tensor) -> None:
            seen[self.value] += 1
            super().update(x)

    observe(small.quantization, {value: Counting(value) for value in readers}, small.batches)
    assert set(seen.values()) == {len(small.batches)}
    assert all(quantizer.mode == "quantize" for quantizer in small.quantization.activations.values())


def test_a_model_that_makes_no_numbers_is_refused_by_the_name_of_the_value() -> None:
    small = calibrated()
    bad = [batch.clone() for batch in small.batches]
    bad[-1][0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"not finite, on calibration images"):
        calibrate(small.quantization, bad)


def test_any_natural_number_is_a_seed() -> None:
    small = calibrated()
    taken = [collect_samples(small.quantization, small.batches, 30, seed) for seed in (20261128112121, 2**63, 0)]
    assert any(not torch.equal(taken[0][node], taken[1][node]) for node in taken[0])


def test_alone_nothing_is_sent() -> None:
    class Refusing:
        rank, size = 0, 1

        def gather_tensors(self, tensors: Mapping[str, Tensor]) -> Sequence[Mapping[str, Tensor]]:
            raise AssertionError("there is nobody to gather from")

    observer = MinMax()
    observer.update(torch.tensor([1.0, 2.0]))
    merge_observers(Refusing(), {"a": observer})
    assert observer.range() == (1.0, 2.0)
    given = {"a": torch.ones(1)}
    assert ALONE.gather_tensors(given) == [given]


def test_who_saw_nothing_learns_what_the_others_saw() -> None:
    def ends(group: ProcessGroup) -> tuple[float, float] | None:
        observer = Percentile()
        if group.rank == 1:
            observer.update(torch.linspace(-2.0, 5.0, 1001))
        merge_observers(group, {"value": observer})
        return observer.range_at(100.0) if group.rank == 0 else None

    assert together(2, ends) == [(-2.0, 5.0), None]
