"""The trainer on a problem with a known answer: a linear student of a linear teacher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ocrslim.errors import OcrslimError
from ocrslim.slimming.training.schedule import Schedule
from ocrslim.slimming.training.trainer import ParameterGroup, Score, Trainer, TrainSettings


def batches(start: int, count: int) -> Iterator[Tensor]:
    for index in range(start, start + count):
        yield torch.randn(8, 3, generator=torch.Generator().manual_seed(index))


def make(folder: Path | None = None, fingerprint: str = "same", **settings: object) -> Trainer:
    torch.manual_seed(0)
    teacher, student = nn.Linear(3, 2), nn.Linear(3, 2)
    held = torch.randn(64, 3, generator=torch.Generator().manual_seed(99))

    def criterion(images: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = (student(images) - teacher(images).detach()).square().mean()
        return loss, {"loss": loss.item()}

    def judge() -> Score:
        with torch.no_grad():
            return Score(-(student(held) - teacher(held)).square().mean().item())

    options = {"steps": 60, "learning_rate": 0.05, "judge_every": 10, "checkpoint_every": 10} | settings
    groups = [ParameterGroup("weights", (student.weight,)), ParameterGroup("bias", (student.bias,), 2.0)]
    return Trainer(student, groups, criterion, judge, TrainSettings(**options), folder=folder, fingerprint=fingerprint)  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_it_learns(optimizer: str) -> None:
    trainer = make(optimizer=optimizer)
    result = trainer.run(batches)
    assert result.best.value > 0.2 * result.history[0]["score"]
    assert result.steps == 60
    assert [line["step"] for line in result.history] == [0, 10, 20, 30, 40, 50, 60]


def test_it_never_ends_worse_than_it_began() -> None:
    trainer = make(learning_rate=1e3, clip_norm=0.0, schedule=Schedule("constant"))
    before = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    result = trainer.run(batches)
    assert result.best_step == 0
    assert all(torch.equal(before[name], value) for name, value in trainer.student.state_dict().items())


def test_a_loss_that_is_no_number_stops_with_advice() -> None:
    trainer = make()
    trainer.criterion = lambda images: (torch.tensor(float("nan"), requires_grad=True), {"loss": float("nan")})
    with pytest.raises(OcrslimError, match=r"step 0.*learning-rate"):
        trainer.run(batches)


def test_a_resumed_run_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    whole.run(batches)
    broken = make(tmp_path / "broken")

    def interrupted(start: int, count: int) -> Iterator[Tensor]:
        for index, batch in enumerate(batches(start, count)):
            if index == 37:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        broken.run(interrupted)
    again = make(tmp_path / "broken")
    assert again.resume()
    assert again.step == 30
    again.run(batches)
    for name, value in whole.student.state_dict().items():
        assert torch.equal(again.student.state_dict()[name], value)
    assert again.history == whole.history


def test_another_runs_checkpoints_are_refused(tmp_path: Path) -> None:
    make(tmp_path).run(batches)
    with pytest.raises(OcrslimError, match="other settings"):
        make(tmp_path, fingerprint="other").resume()


def test_accumulation_equals_one_large_batch() -> None:
    def halves(start: int, count: int) -> Iterator[Tensor]:
        for index in range(start, start + count):
            (whole,) = batches(index // 2, 1)
            yield whole[:4] if index % 2 == 0 else whole[4:]

    one, two = make(steps=20), make(steps=20, accumulate=2)
    one.run(batches)
    two.run(halves)
    for name, value in one.student.state_dict().items():
        assert torch.allclose(two.student.state_dict()[name], value, atol=1e-5)


def test_zero_steps_only_judge() -> None:
    result = make(steps=0).run(batches)
    assert result.best_step == 0
    assert len(result.history) == 1


def test_groups_learn_at_their_own_rate() -> None:
    trainer = make(steps=1, clip_norm=0.0, optimizer="sgd", schedule=Schedule("constant"))
    trainer.run(batches)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.05, 0.1]
