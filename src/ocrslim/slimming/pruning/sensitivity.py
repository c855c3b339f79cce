"""How far the answers move when channels are cut, and what that makes of the scores.

Scores are derivatives at the whole model, taken channel by channel; a quarter of a group is no small change, and where
a normalization runs along the channels it is no sum either. What the answers really do sets the scale of each group's
scores; within a group their order stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import Scores, never_falling
from ocrslim.slimming.pruning.moments import Moments
from ocrslim.slimming.pruning.repair import Repairs

__all__ = ["RATIOS", "Answers", "Divergence", "measure_groups", "weighed"]

Divergence = Callable[[Tensor, Tensor], float]
"""(answer of a smaller model, of the whole one) -> how far they are apart."""

RATIOS = (0.25, 0.5, 0.75)
LEAST = 1e-9  # divergence that counts as none: it is smaller than what rounding makes


class Answers:
    """The answers of the whole model, that those of smaller ones are compared with.

    Args:
        channels: of the whole model.
        batches: images ``[N, 3, H, W]``, at least one batch.
        logits: name of the value that is compared.
        divergence: (answer of the smaller model, of the whole one) -> how far they are apart.
        moments: of what the layers read, to repair those that lose channels; without any they stay as they are.
    """

    def __init__(
        self,
        channels: Channels,
        batches: Sequence[Tensor],
        logits: str,
        divergence: Divergence,
        moments: Mapping[str, Moments],
    ) -> None:
        self._channels, self._batches, self._logits = channels, batches, logits
        self._divergence, self._repairs = divergence, Repairs(channels, moments)
        self._targets = self._of(channels.model)
        self._known: dict[frozenset[int], float] = {}  # a search asks again where the clock refuted a round

    def moved(self, removed: Collection[int]) -> float:
        """Return how far the answers are from the whole model's without some units, the mean of the batches."""
        key = frozenset(removed)
        if key not in self._known:
            smaller = cut(self._channels, removed, self._repairs.of(removed))
            self._known[key] = sum(map(self._divergence, self._of(smaller), self._targets)) / len(self._targets)
        return self._known[key]

    def _of(self, model: ir.Model) -> list[Tensor]:
        module = GraphModule(model).eval()
        with torch.no_grad():
            return [module(images, fetch=(self._logits,))[self._logits] for images in self._batches]


def measure_groups(
    channels: Channels,
    scores: Scores,
    batches: Sequence[Tensor],
    logits: str,
    divergence: Divergence,
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
    answers, rows = Answers(channels, batches, logits, divergence, moments), list[dict[str, Any]]()
    for group in channels.groups:
        if not group.reason:
            order = sorted(group.units, key=scores.__getitem__)
            counts = sorted({count for ratio in ratios if 0 < (count := round(ratio * group.width)) < group.width})
            moved = {count: answers.moved(order[:count]) for count in counts}
            rows.append({"group": group.name, "width": group.width, "divergence": moved})
    return sorted(rows, key=lambda row: -max(row["divergence"].values(), default=0.0))


def weighed(channels: Channels, scores: Scores, rows: Sequence[Mapping[str, Any]]) -> Scores:
    """Return the scores in units of what the answers really moved by, group by group.

    What the first quarter of a group costs says little of the second, which may move the answers ten times as far; so
    the units between two measurements share what lies between these, each by its score.

    Args:
        channels: of the whole model.
        scores: of every unit.
        rows: of :func:`measure_groups`; a group without a measurement keeps the mean scale of the others.

    Returns:
        dict: unit -> score; in the order in which a group's units should go the scores never fall.
    """
    found: Scores = {}
    told, moved = 0.0, 0.0
    groups = {group.name: sorted(group.units, key=scores.__getitem__) for group in channels.groups if not group.reason}
    for row in rows:
        if not row["divergence"]:
            continue
        units, shares, begin, before, factor = groups.pop(row["group"]), list[float](), 0, 0.0, 0.0
        for end, divergence in row["divergence"].items():
            said, real = sum(scores[unit] for unit in units[begin:end]), max(divergence - before, LEAST)
            told, moved = told + said, moved + real
            factor = real / max(said, LEAST)
            shares += [scores[unit] * factor for unit in units[begin:end]]
            begin, before = end, max(before, divergence)
        shares += [scores[unit] * factor for unit in units[begin:]]
        found.update(zip(units, never_falling(shares), strict=True))
    usual = max(moved, LEAST) / max(told, LEAST)
    return found | {unit: scores[unit] * usual for units in groups.values() for unit in units}
