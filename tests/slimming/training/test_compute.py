"""What makes a step, and the rate that belongs to it."""

from __future__ import annotations

import pytest

from ocrslim.errors import InputError
from ocrslim.slimming.training.compute import WARM_UP, Compute
from ocrslim.slimming.training.schedule import Schedule
from ocrslim.slimming.training.trainer import TrainSettings

USUAL = TrainSettings(100, 5e-4, accumulate=3, schedule=Schedule("constant"))


def test_one_process_and_one_batch_change_nothing() -> None:
    said: list[str] = []
    assert Compute().fit(USUAL, said.append) is USUAL
    assert said == []


def test_the_rate_grows_with_the_batch_after_a_warm_up_and_is_told() -> None:
    said: list[str] = []
    fitted = Compute(processes=4, accumulate=2).fit(USUAL, said.append)
    assert fitted.learning_rate == pytest.approx(8 * 5e-4)
    assert fitted.accumulate == 6, "the parts that a batch comes in are of each batch"
    assert fitted.schedule == Schedule("constant", warmup=WARM_UP)
    assert said == [
        "learning rate 0.004: 0.0005 times 8, for steps of 8 batches, 4 processes with 2 each; 10 steps of warm-up;"
        " --no-scale-lr leaves it as it is"
    ]


def test_the_rate_can_be_left_as_it_is() -> None:
    said: list[str] = []
    fitted = Compute(processes=4, scale_rate=False).fit(USUAL, said.append)
    assert (fitted.learning_rate, fitted.schedule) == (5e-4, Schedule("constant"))
    assert "not scaled" in said[0]


@pytest.mark.parametrize(("given", "bound"), [(None, 1.0), (0.0, 0.0), (2.5, 2.5)])
def test_the_bound_of_the_norm(given: float | None, bound: float) -> None:
    assert Compute(clip_norm=given).fit(USUAL, lambda line: None).clip_norm == bound


def test_as_many_images_in_fewer_steps() -> None:
    assert [Compute(processes=count).steps(200) for count in (1, 2, 3, 8)] == [200, 100, 67, 50]
    assert Compute(processes=8).steps(20) == 20


@pytest.mark.parametrize("wrong", [{"accumulate": 0}, {"clip_norm": -1.0}, {"clip_norm": float("nan")}])
def test_what_can_not_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="--"):
        Compute(**wrong)  # type: ignore[arg-type]
