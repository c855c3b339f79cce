from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.slimming.training.schedule import Schedule


def test_warmup_rises_in_equal_steps_to_one() -> None:
    schedule = Schedule("constant", warmup=4)
    assert [schedule.factor(step, 10) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_cosine_ends_at_its_floor() -> None:
    schedule = Schedule("cosine", warmup=2, floor=0.1)
    assert schedule.factor(2, 12) == pytest.approx(1.0)
    assert schedule.factor(7, 12) == pytest.approx(0.55)
    assert schedule.factor(12, 12) == pytest.approx(0.1)
    assert schedule.factor(99, 12) == pytest.approx(0.1)


def test_cosine_may_end_before_the_run_and_stays_there() -> None:
    schedule = Schedule("cosine", floor=0.2, length=10)
    assert schedule.factor(5, 40) == pytest.approx(0.6)
    assert [schedule.factor(step, 40) for step in (10, 11, 40)] == pytest.approx([0.2, 0.2, 0.2])
    longer = Schedule("cosine", length=80)
    assert longer.factor(40, 40) == pytest.approx(0.5)


def test_piecewise_changes_at_its_boundaries() -> None:
    schedule = Schedule("piecewise", boundaries=(3, 5), values=(1.0, 0.5, 0.1))
    assert [schedule.factor(step, 8) for step in (0, 2, 3, 4, 5, 7)] == [1.0, 1.0, 0.5, 0.5, 0.1, 0.1]


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 0.1, 0.01)])
def test_piecewise_lists_must_fit(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="one value more"):
        Schedule("piecewise", boundaries=(3,), values=values)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="use cosine"):
        Schedule("linear")  # type: ignore[arg-type]


@given(step=st.integers(0, 500), steps=st.integers(1, 500), warmup=st.integers(0, 50))
def test_factor_stays_within_zero_and_one(step: int, steps: int, warmup: int) -> None:
    assert 0.0 <= Schedule("cosine", warmup=warmup).factor(step, steps) <= 1.0


@given(steps=st.integers(2, 300), warmup=st.integers(0, 40), floor=st.floats(0.0, 1.0, allow_subnormal=False))
def test_cosine_never_rises_after_its_warmup_and_keeps_above_its_floor(steps: int, warmup: int, floor: float) -> None:
    schedule = Schedule("cosine", warmup=warmup, floor=floor)
    after = [schedule.factor(step, steps) for step in range(warmup, steps + 5)]
    assert all(later <= sooner + 1e-12 for sooner, later in itertools.pairwise(after))
    assert min(after, default=1.0) >= floor - 1e-12
    before = [schedule.factor(step, steps) for step in range(warmup)]
    assert before == sorted(before)
    assert all(0.0 < factor < 1.0 for factor in before)


@given(steps=st.integers(1, 200), step=st.integers(0, 200))
def test_a_constant_is_one_and_a_step_depends_on_nothing_else(steps: int, step: int) -> None:
    assert Schedule("constant").factor(step, steps) == 1.0
    cosine = Schedule("cosine", warmup=3)
    assert cosine.factor(step, steps) == Schedule("cosine", warmup=3).factor(step, steps)


@given(
    boundaries=st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted), step=st.integers(0, 120)
)
def test_piecewise_counts_the_boundaries_behind_it(boundaries: list[int], step: int) -> None:
    values = tuple(float(index) for index in range(len(boundaries) + 1))
    schedule = Schedule("piecewise", boundaries=tuple(boundaries), values=values)
    assert schedule.factor(step, 1000) == sum(boundary <= step for boundary in boundaries)


def test_a_warmup_longer_than_the_run_only_rises() -> None:
    factors = [Schedule("cosine", warmup=100).factor(step, 10) for step in range(10)]
    assert factors == sorted(factors)
    assert factors[-1] < 0.1
