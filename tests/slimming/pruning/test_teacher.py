"""The teacher's narrowed view."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ocrslim.slimming.pruning.teacher import SameChannels


class Fixed(nn.Module):
    """Answers what it is told, whatever the images."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Tensor, fetch: tuple[str, ...]) -> dict[str, Tensor]:
        return {name: self.values[name] for name in fetch}


def test_the_teacher_shows_the_channels_that_the_student_has() -> None:
    map_, frames = torch.arange(24.0).reshape(1, 4, 2, 3), torch.arange(12.0).reshape(1, 3, 4)
    kept = {"map": {1: torch.tensor([0, 3])}, "frames": {2: torch.tensor([1, 2])}}
    teacher = SameChannels(Fixed({"map": map_, "frames": frames, "logits": frames}), kept)
    shown = teacher(torch.zeros(1), fetch=("map", "frames", "logits"))
    assert torch.equal(shown["map"], map_[:, [0, 3]])
    assert torch.equal(shown["frames"], frames[:, :, 1:3])
    assert torch.equal(shown["logits"], frames)
