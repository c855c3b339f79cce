"""The whole model as the teacher of a smaller one: it shows what the smaller one has too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

__all__ = ["SameChannels"]


class SameChannels(nn.Module):
    """A teacher that shows of each value only the channels that the student has too.

    Args:
        teacher: of the whole model.
        kept: name of a value -> axis -> indices that stay; other values are shown whole.
    """

    def __init__(self, teacher: nn.Module, kept: Mapping[str, Mapping[int, Tensor]]) -> None:
        super().__init__()
        self.teacher = teacher
        self.kept = kept

    def forward(self, x: Tensor, fetch: Sequence[str]) -> dict[str, Tensor]:
        """Return the values by name, for images ``[N, 3, H, W]``."""
        values: dict[str, Tensor] = self.teacher(x, fetch=fetch)
        for name in fetch:
            for axis, indices in self.kept.get(name, {}).items():
                values[name] = values[name].index_select(axis, indices.to(values[name].device))
        return values
