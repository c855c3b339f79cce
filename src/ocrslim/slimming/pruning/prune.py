"""Pruning in one call: follow the channels, weigh them, and cut until the model is as fast as asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
from torch import Tensor

from ocrslim.config.profile import Task
from ocrslim.slimming.pruning.cost import Clock, Cost, Counter, Whole
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.importance import magnitude, sampled_loss, taylor
from ocrslim.slimming.pruning.moments import collect_moments
from ocrslim.slimming.pruning.plan import Goal, Progress, PruningResult, choose
from ocrslim.slimming.pruning.redundancy import untold
from ocrslim.slimming.pruning.sensitivity import Answers, Divergence, measure_groups, weighed

__all__ = ["Importance", "Machine", "prune"]

Importance = Literal["taylor", "l1"]
LOOKED_AT = 2  # batches on which each group is cut alone
COMPARED = {"rec": 8, "det": 4}  # batches on which each cut is looked at beside those before it


@dataclass(frozen=True)
class Machine:
    """What the smaller model shall be fast on.

    Args:
        engine: one of :data:`ocrslim.engines.session.ENGINES`.
        threads: of a run.
        table: JSON file of what was timed before; see :class:`ocrslim.slimming.pruning.cost.Clock`.
        whole: what the user runs now; ``None`` is the canonical graph.
    """

    engine: str
    threads: int = 2
    table: Path | None = None
    whole: Whole | None = None


def prune(
    model: ir.Model,
    images: Iterable[Tensor],
    goal: Goal,
    *,
    task: Task,
    logits: str,
    shape: Sequence[int],
    machine: Machine | None = None,
    importance: Importance = "taylor",
    divergence: Divergence | None = None,
    seed: int = 0,
    progress: Progress = lambda now, wanted: None,
) -> PruningResult:
    """Cut the channels that matter least for the time that they take.

    Args:
        model: canonical; not changed. It is its own teacher: no labels are needed.
        images: batches ``[N, 3, H, W]`` that importance is measured on and the layers are repaired by.
        goal: how small.
        task: det or rec.
        logits: name of the value before the final Softmax or Sigmoid.
        shape: of the input that the model shall be fast for, N x C x H x W.
        machine: whose clock decides; ``None`` counts multiply-accumulates.
        importance: ``taylor`` or ``l1``.
        divergence: by which each group is measured alone, and each cut beside those before it; ``None`` takes the
            scores as they are.
        seed: of what Taylor importance draws.
        progress: told the cost of each round and the goal's.

    Raises:
        ModelError: the shapes of the model can't be inferred.
        EngineError: the engine can't run a smaller model.
        InputError: there is no image to weigh the channels by.
    """
    channels, batches = Channels(model, shape), list(images)
    loss = sampled_loss(task, logits, seed)
    scores = magnitude(channels) if importance == "l1" else taylor(channels, batches, loss)
    moments = collect_moments(channels, batches, seed)
    scores = untold(channels, scores, moments)
    rows, moved = list[dict[str, Any]](), None
    if divergence is not None:
        moved = Answers(channels, _spread(batches, COMPARED[task]), logits, divergence, moments).moved
        rows = measure_groups(channels, scores, _spread(batches, LOOKED_AT), logits, divergence, moments)
        scores = weighed(channels, scores, rows)
    cost: Cost
    if machine is None:
        cost = Counter(channels, macs_per_float=0.0)
    else:
        cost = Clock(channels, machine.engine, machine.threads, shape, machine.table, machine.whole)
    done = choose(channels, scores, cost, goal, moments=moments, moved=moved, progress=progress)
    return replace(done, sensitivity=tuple(rows))


def _spread(batches: Sequence[Tensor], count: int) -> list[Tensor]:
    """Return some batches from among all: lines come sorted by shape, and the first batches hold the shortest."""
    count = min(count, len(batches))
    return [batches[(2 * index + 1) * len(batches) // (2 * count)] for index in range(count)]
