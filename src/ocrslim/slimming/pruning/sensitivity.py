"""How far the answers move when one group alone is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import Scores

__all__ = ["RATIOS", "measure_groups"]

RATIOS = (0.25, 0.5)


def measure_groups(
    channels: Channels,
    scores: Scores,
    images: Tensor,
    logits: str,
    divergence: Callable[[Tensor, Tensor], float],
    ratios: Sequence[float] = RATIOS,
) -> list[dict[str, Any]]:
    """Measure every group that can be cut.

    Args:
        channels: of the whole model.
        scores: of every unit; the least important go.
        images: ``[N, 3, H, W]``.
        logits: name of the value that is compared.
        divergence: (answer of the smaller model, of the whole one) -> how far they are apart.
        ratios: shares of a group that go, each a number between 0 and 1.

    Returns:
        list: of each group ``group``, ``width`` and ``divergence``, which maps the channels that went to how far the
            answers moved; the most sensitive group first.
    """
    with torch.no_grad():
        target = GraphModule(channels.model).eval()(images, fetch=(logits,))[logits]
        rows: list[dict[str, Any]] = []
        for group in channels.groups:
            if group.reason:
                continue
            order = sorted(group.units, key=scores.__getitem__)
            counts = sorted({count for ratio in ratios if 0 < (count := round(ratio * group.width)) < group.width})
            moved = {}
            for count in counts:
                smaller = GraphModule(cut(channels, order[:count])).eval()
                moved[count] = divergence(smaller(images, fetch=(logits,))[logits], target)
            rows.append({"group": group.name, "width": group.width, "divergence": moved})
    return sorted(rows, key=lambda row: -max(row["divergence"].values(), default=0.0))
