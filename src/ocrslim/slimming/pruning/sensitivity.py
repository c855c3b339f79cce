"""How far the answers move when one group alone is cut, and what that makes of the scores.

Scores are derivatives at the whole model, taken channel by channel; a quarter of a group is no small change, and where
a normalization runs along the channels it is no sum either. What the answers really do sets the scale of each group's
scores; within a group their order stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import Scores
from ocrslim.slimming.pruning.moments import Moments
from ocrslim.slimming.pruning.repair import repair

__all__ = ["RATIOS", "measure_groups", "weighed"]

RATIOS = (0.25, 0.5)
LEAST = 1e-9  # divergence that counts as none: it is smaller than what rounding makes


def measure_groups(
    channels: Channels,
    scores: Scores,
    batches: Sequence[Tensor],
    logits: str,
    divergence: Callable[[Tensor, Tensor], float],
    moments: Mapping[str, Moments],
    ratios: Sequence[float] = RATIOS,
) -> list[dict[str, Any]]:
    """Measure every group that can be cut.

    Args:
        channels: of the whole model.
        scores: of every unit; the least important go.
        batches: images ``[N, 3, H, W]``, at least one batch.
        logits: name of the value that is compared.
        divergence: (answer of the smaller model, of the whole one) -> how far they are apart.
        moments: of what the layers read, to repair those that lose channels; without any they stay as they are.
        ratios: shares of a group that go, each a number between 0 and 1.

    Returns:
        list: of each group ``group``, ``width`` and ``divergence``, which maps the channels that went to how far the
            answers moved; the most sensitive group first.
    """
    with torch.no_grad():
        whole = GraphModule(channels.model).eval()
        targets = [whole(images, fetch=(logits,))[logits] for images in batches]
        rows: list[dict[str, Any]] = []
        for group in channels.groups:
            if group.reason:
                continue
            order = sorted(group.units, key=scores.__getitem__)
            counts = sorted({count for ratio in ratios if 0 < (count := round(ratio * group.width)) < group.width})
            moved = {}
            for count in counts:
                gone = order[:count]
                smaller = GraphModule(cut(channels, gone, repair(channels, gone, moments))).eval()
                answers = (smaller(images, fetch=(logits,))[logits] for images in batches)
                moved[count] = sum(map(divergence, answers, targets)) / len(targets)
            rows.append({"group": group.name, "width": group.width, "divergence": moved})
    return sorted(rows, key=lambda row: -max(row["divergence"].values(), default=0.0))


def weighed(channels: Channels, scores: Scores, rows: Sequence[Mapping[str, Any]]) -> Scores:
    """Return the scores in units of what the answers really moved by, group by group.

    Args:
        channels: of the whole model.
        scores: of every unit.
        rows: of :func:`measure_groups`; a group without a measurement keeps the mean scale of the others.
    """
    factors: dict[str, float] = {}
    told, moved = 0.0, 0.0
    groups = {group.name: sorted(group.units, key=scores.__getitem__) for group in channels.groups if not group.reason}
    for row in rows:
        for count, divergence in list(row["divergence"].items())[:1]:
            said = sum(scores[unit] for unit in groups[row["group"]][:count])
            factors[row["group"]] = max(divergence, LEAST) / max(said, LEAST)
            told, moved = told + said, moved + divergence
    usual = max(moved, LEAST) / max(told, LEAST)
    return {unit: scores[unit] * factors.get(name, usual) for name, units in groups.items() for unit in units}
