"""Observers on samples whose range is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.errors import InputError
from ocrslim.slimming.quantization.numerics import fake_quantize, scale_and_zero_point
from ocrslim.slimming.quantization.observer import (
    OBSERVERS,
    MinMax,
    MovingAverage,
    MseRange,
    Percentile,
    mse_scale,
    open_observer,
)
from ocrslim.spec import PerAxis, PerTensor, QuantizationSpec

U8 = QuantizationSpec(8, signed=False, symmetric=False, granularity=PerTensor())
U4 = QuantizationSpec(4, signed=False, symmetric=False, granularity=PerTensor())
SPREADS = st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(2.0**-20, 1e6, width=32))  # middle and width


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_all_see_the_whole_of_a_uniform_sample(name: str) -> None:
    observer = open_observer(name, U8)
    for _ in range(3):
        observer.update(torch.linspace(-1.0, 3.0, 4001))
    low, high = observer.range()
    assert low == pytest.approx(-1.0, abs=0.05)
    assert high == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_nothing_seen_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="no value was observed"):
        open_observer(name, U8).range()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"entropy.*minmax.*percentile"):
        open_observer("entropy", U8)


def test_min_max_keeps_the_extremes_of_all_batches() -> None:
    observer = MinMax()
    for value in (1.0, -5.0, 2.0):
        observer.update(torch.tensor([value, 0.0]))
    assert observer.range() == (-5.0, 2.0)


def test_moving_average_follows_its_formula() -> None:
    observer = MovingAverage(rate=0.9)
    observer.update(torch.tensor([0.0, 10.0]))
    observer.update(torch.tensor([-1.0, 20.0]))
    assert observer.range() == pytest.approx((-0.1, 11.0))


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@given(
    parts=st.lists(
        st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(2.0**-20, 1e6, width=32)), min_size=1, max_size=7
    ),
    size=st.integers(2, 4),
)
def test_what_several_saw_is_what_one_sees_of_all(name: str, parts: list[tuple[float, float]], size: int) -> None:
    """To the last bit, however many there are, those that saw nothing among them."""
    tensors = [normal(64, seed=seed) * width + middle for seed, (middle, width) in enumerate(parts)]
    alone, ranks = open_observer(name, U8), [open_observer(name, U8) for _ in range(size)]
    for index, tensor in enumerate(tensors):
        alone.update(tensor)
        ranks[index % size].update(tensor)
    merged = open_observer(name, U8)
    merged.merge([rank.state() for rank in ranks])
    assert torch.equal(merged.state(), alone.state())
    assert merged.range() == alone.range()


def test_a_percentage_does_not_depend_on_the_order() -> None:
    parts = [normal(500, seed=seed) * 30.0**seed - seed for seed in range(4)] + [torch.zeros(3), torch.tensor([7.0])]
    forward, backward = Percentile(), Percentile()
    for one, other in zip(parts, reversed(parts), strict=True):
        forward.update(one)
        backward.update(other)
    assert torch.equal(forward.state(), backward.state())
    assert forward.range_at(90.0) == backward.range_at(90.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_finite_number_is_no_range(bad: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        Percentile().update(torch.tensor([0.0, bad]))


def test_percentile_ignores_a_lonely_outlier() -> None:
    observer = Percentile(99.9)
    x = torch.cat([normal(100_000).clamp(-3, 3), torch.tensor([1000.0])])
    observer.update(x)
    low, high = observer.range()
    assert -3.0 <= low < -2.5
    assert 2.5 < high < 5.0


def test_percentile_needs_no_second_look_when_the_range_grows() -> None:
    together, apart = Percentile(99.0), Percentile(99.0)
    parts = [normal(20_000, seed=seed) * 10.0**seed for seed in range(4)]
    together.update(torch.cat(parts))
    for part in parts:
        apart.update(part)
    assert apart.range() == pytest.approx(together.range(), rel=0.05)


def test_mse_beats_min_max_on_a_long_tail() -> None:
    x = normal(50_000) ** 3
    errors = []
    for observer in (MseRange(U4), MinMax()):
        observer.update(x)
        low, high = observer.range()
        grid = scale_and_zero_point(torch.tensor([low]), torch.tensor([high]), U4)
        errors.append((fake_quantize(x, *grid, U4) - x).square().mean().item())
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize("name", ["percentile", "mse"])
def test_values_that_are_no_numbers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="number"):
        open_observer(name, U8).update(torch.tensor([float("nan"), 1.0]))


@pytest.mark.parametrize("axis", [0, 1])
def test_weight_scales_are_no_worse_than_the_clip_free_ones(axis: int) -> None:
    spec = QuantizationSpec(4, signed=True, symmetric=True, granularity=PerAxis(axis))
    weight = normal(8, 12, 3, 3) ** 3
    best = mse_scale(weight, spec)
    assert best.shape == (weight.shape[axis],)
    others = [dim for dim in range(4) if dim != axis]
    plain, zero = scale_and_zero_point(weight.amin(others), weight.amax(others), spec)
    error = [(fake_quantize(weight, scale, zero, spec) - weight).square().sum(others) for scale in (best, plain)]
    assert bool((error[0] <= error[1]).all())
    assert error[0].sum() < 0.95 * error[1].sum()


def test_a_dead_channel_has_a_scale_that_can_be_divided_by() -> None:
    spec = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(0))
    scale = mse_scale(torch.stack([torch.zeros(9), torch.ones(9)]), spec)
    assert bool((scale > 0).all())


finite = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)


@given(st.lists(st.lists(finite, min_size=1, max_size=20), min_size=1, max_size=5))
def test_min_max_is_that_of_all_values_together(batches: list[list[float]]) -> None:
    observer = MinMax()
    for batch in batches:
        observer.update(torch.tensor(batch))
    whole = [value for batch in batches for value in batch]
    assert observer.range() == (min(whole), max(whole))


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@given(batches=st.lists(st.lists(finite, min_size=1, max_size=30), min_size=1, max_size=4))
def test_a_range_lies_within_what_was_seen(name: str, batches: list[list[float]]) -> None:
    observer = open_observer(name, U8)
    for batch in batches:
        observer.update(torch.tensor(batch))
    whole = [value for batch in batches for value in batch]
    low, high = observer.range()
    # An end at 0 is a range too: every grid holds 0.
    slack = 1e-3 * (max(whole) - min(whole)) + 1e-6
    assert min(0.0, *whole) - slack <= low <= high <= max(0.0, *whole) + slack


@pytest.mark.parametrize("name", ["minmax", "percentile", "mse"])
def test_the_order_of_batches_changes_little(name: str) -> None:
    batches = [normal(5_000, seed=seed) * (1 + seed) for seed in range(4)]
    forward, backward = open_observer(name, U8), open_observer(name, U8)
    for batch in batches:
        forward.update(batch)
    for batch in reversed(batches):
        backward.update(batch)
    assert forward.range() == pytest.approx(backward.range(), rel=0.03)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
def test_a_constant_gives_a_grid_that_holds_it(name: str, value: float) -> None:
    observer = open_observer(name, U8)
    observer.update(torch.full((4, 5), value))
    low, high = observer.range()
    scale, zero = scale_and_zero_point(torch.tensor([low]), torch.tensor([high]), U8)
    back = fake_quantize(torch.tensor([value]), scale, zero, U8).item()
    assert back == pytest.approx(value, abs=0.02 * abs(value) + 1e-6)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_the_shape_and_the_gradient_of_what_is_seen_do_not_matter(name: str) -> None:
    flat = normal(600)
    one, other = open_observer(name, U8), open_observer(name, U8)
    one.update(flat)
    other.update(flat.reshape(2, 3, 10, 10).requires_grad_())
    assert one.range() == other.range()


@pytest.mark.parametrize("percent", [95.0, 99.0, 99.9])
def test_percentile_leaves_its_share_outside(percent: float) -> None:
    observer = Percentile(percent)
    x = normal(200_000)
    observer.update(x)
    low, high = observer.range()
    outside = 1 - percent / 100
    assert ((x > high).double().mean().item(), (x < low).double().mean().item()) == pytest.approx(
        (outside, outside), rel=0.2
    )


def test_percentile_of_a_relu_begins_at_nought() -> None:
    observer = Percentile(99.0)
    observer.update(normal(50_000).relu())
    low, high = observer.range()
    assert low == 0.0
    assert 2.0 < high < 2.6


@given(st.floats(0.01, 100.0), st.integers(0, 5))
def test_weight_scales_grow_with_the_weights(factor: float, seed: int) -> None:
    spec = QuantizationSpec(4, signed=True, symmetric=True, granularity=PerAxis(0))
    weight = normal(4, 30, seed=seed)
    assert torch.allclose(mse_scale(weight * factor, spec), mse_scale(weight, spec) * factor, rtol=0.05)


def test_weight_scales_of_a_channel_do_not_depend_on_its_neighbours() -> None:
    spec = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(0))
    weight = normal(6, 4, 3, 3)
    louder = weight.clone()
    louder[0] *= 1000
    assert torch.equal(mse_scale(weight, spec)[1:], mse_scale(louder, spec)[1:])
    one = QuantizationSpec(8, signed=True, symmetric=True, granularity=PerTensor())
    assert mse_scale(weight, one).shape == (1,)
    assert mse_scale(louder, one) > 100 * mse_scale(weight, one)
