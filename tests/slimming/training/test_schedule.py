from __future__ import annotations

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
