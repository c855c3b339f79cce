"""Which channels matter least: by the size of their weights, or by what the answers would change without them.

Both give a score to each unit (see :class:`ocrslim.slimming.pruning.groups.Group`); removing several costs the sum of
their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ocrslim.errors import InputError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.passes.base import array_of
from ocrslim.slimming.pruning.groups import Channels, Group
from ocrslim.slimming.pruning.trace import Role

__all__ = ["Loss", "Scores", "magnitude", "never_falling", "sampled_loss", "taylor"]

Scores = dict[int, float]
"""Unit -> what it costs to remove it, 0 or more."""

Loss = Callable[[GraphModule, Tensor], Tensor]
"""(the whole model, images [N, 3, H, W]) -> a scalar whose gradient weighs the channels."""

BLANK, BLANK_WEIGHT = 0, 0.1  # class and least weight of a frame that is blank, as in distillation
TEXT_WEIGHT = 5.0  # further weight of a pixel of text, as in distillation


def magnitude(channels: Channels) -> Scores:
    """Score by the mean absolute weight (L1), over all weights that make or read a channel.

    A weight counts in units of its tensor's mean, and the scores of a group are divided by their sum: a whole group
    costs 1, whatever the size of its weights.
    """
    scores: Scores = {}
    for group in _prunable(channels):
        total = np.zeros(group.width)
        for (name, axis), role in group.weights:
            if role != "passes":
                array = np.abs(_constant(channels, name))
                each = array.mean(axis=_others(array.ndim, axis)) / max(float(array.mean()), 1e-12)
                total += _by_unit(each, channels.units(name)[axis], group)
        total /= max(float(total.sum()), 1e-12)
        scores.update(zip(group.units, total.tolist(), strict=True))
    return scores


def taylor(channels: Channels, batches: Iterable[Tensor], loss: Loss) -> Scores:
    """Score by the squared first-order change of a loss without the channel (arXiv 1906.10771).

    With ``w`` the weights that read a channel and ``g`` their gradient, ``sum(w * g)`` is the derivative by a gate on
    that channel; those that make it give the same where everything between is homogeneous, as ReLU is. The score is
    the mean of the two squares, averaged over the batches. For :func:`sampled_loss` its expectation is the second order
    of the divergence between the answers with and without the channel (the Fisher information), which the distillation
    loss itself can't tell: its gradient is zero where student and teacher are one.

    Args:
        channels: of the model.
        batches: images ``[N, 3, H, W]``.
        loss: see :func:`sampled_loss`.

    Raises:
        InputError: there is no batch.
    """
    module = GraphModule(channels.model).eval()
    groups = _prunable(channels)
    totals = {group.name: np.zeros(group.width) for group in groups}
    count = 0
    for images in batches:
        module.zero_grad(set_to_none=True)
        loss(module, images).backward()  # type: ignore[no-untyped-call]
        for group in groups:
            totals[group.name] += _squared_gates(module, channels, group)
        count += 1
    if not count:
        raise InputError("pruning: no images to weigh the channels by; give --data with readable images")
    return {
        unit: value / count
        for group in groups
        for unit, value in zip(group.units, totals[group.name].tolist(), strict=True)
    }


def sampled_loss(task: str, logits: str, seed: int) -> Loss:
    """Return the negative log-likelihood of answers that are drawn at random as the model itself believes in them.

    Its gradients are those whose squares make up the Fisher information. Frames of characters and pixels of text weigh
    more, as they do in distillation.

    Args:
        task: rec draws a class for each frame, det text or not for each pixel.
        logits: name of the value before the final Softmax or Sigmoid.
        seed: of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(module: GraphModule, images: Tensor) -> Tensor:
        answer = module(images, fetch=(logits,))[logits]
        if task == "rec":
            p = torch.softmax(answer.detach(), dim=-1).flatten(0, -2)
            drawn = torch.multinomial(p, 1, generator=generator).squeeze(-1)
            weights = (1.0 - p[:, BLANK]).clamp_min(BLANK_WEIGHT)
            likelihood = F.cross_entropy(answer.flatten(0, -2), drawn, reduction="none")
        else:
            p = torch.sigmoid(answer.detach())
            truth = torch.bernoulli(p, generator=generator)
            weights = 1.0 + TEXT_WEIGHT * p
            likelihood = F.binary_cross_entropy_with_logits(answer, truth, reduction="none")
        # The square of the gradient of a sum of independent draws is the sum of their squares in expectation, so the
        # root of a weight goes in and the root of the total comes out.
        return (likelihood * weights.sqrt()).sum() / weights.sum().sqrt()

    return loss


def never_falling(scores: Iterable[float]) -> list[float]:
    """Raise each score that is not above the one before it to a little above that: sorting gives the order back.

    >>> [round(score, 3) for score in never_falling([1.0, 3.0, 2.0, 4.0])]
    [1.0, 3.0, 3.0, 4.0]
    """
    raised: list[float] = []
    least = 0.0
    for score in scores:
        least = max(score, least * (1 + 1e-9) + 1e-300)
        raised.append(least)
    return raised


def _squared_gates(module: GraphModule, channels: Channels, group: Group) -> NDArray[np.float64]:
    """Return the mean over the two sides, makers and readers, of the squared derivative by each unit's gate."""
    sides: dict[Role, NDArray[np.float64]] = {}
    for (name, axis), role in group.weights:
        parameter = module.parameter(name)
        if role == "passes" or parameter.grad is None:
            continue
        product = (parameter.detach() * parameter.grad).double().numpy()
        gates = _by_unit(product.sum(axis=_others(product.ndim, axis)), channels.units(name)[axis], group)
        sides[role] = sides.get(role, np.zeros(group.width)) + gates
    squares = [side**2 for side in sides.values()]
    return np.mean(squares, axis=0) if squares else np.zeros(group.width)


def _constant(channels: Channels, name: str) -> NDArray[np.float64]:
    array = array_of(channels.model.graph.initializers[name])
    assert array is not None  # an initializer has a value
    return array.astype(np.float64)


def _by_unit(values: NDArray[np.float64], units: NDArray[np.int64], group: Group) -> NDArray[np.float64]:
    """Add up the values of the indices that belong to each unit of a group."""
    place = {unit: position for position, unit in enumerate(group.units)}
    total = np.zeros(group.width)
    for value, unit in zip(values.tolist(), units.tolist(), strict=True):
        if unit in place:
            total[place[unit]] += value
    return total


def _others(rank: int, axis: int) -> tuple[int, ...]:
    return tuple(index for index in range(rank) if index != axis)


def _prunable(channels: Channels) -> list[Group]:
    return [group for group in channels.groups if not group.reason]
