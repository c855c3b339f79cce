"""What the tests of the trainer train: a linear student of a linear teacher, and the batches that they see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ocrslim.slimming.training.trainer import ParameterGroup, Score, Trainer, TrainSettings


def batches(start: int, count: int) -> Iterator[Tensor]:
    for index in range(start, start + count):
        yield torch.randn(8, 3, generator=torch.Generator().manual_seed(index))


def stopped_after(steps: int) -> Callable[[int, int], Iterator[Tensor]]:
    """Return a stream that ends in an interrupt after so many batches."""

    def stream(start: int, count: int) -> Iterator[Tensor]:
        yield from batches(start, steps)
        raise KeyboardInterrupt

    return stream


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


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.student.state_dict().items()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
