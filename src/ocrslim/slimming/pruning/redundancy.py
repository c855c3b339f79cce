"""What a channel is worth beside the others: little where they can tell it.

After a cut :mod:`ocrslim.slimming.pruning.repair` lets the channels that stay stand in for those that go. So a score
that was taken with everything else in place is scaled to the share of the channel that they can't tell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ocrslim.slimming.pruning.groups import Channels, Group
from ocrslim.slimming.pruning.importance import Scores, never_falling
from ocrslim.slimming.pruning.moments import Layer, Moments, find_layers

__all__ = ["RIDGE", "eliminate", "untold"]

RIDGE = 1e-3  # of the mean variance, as in repair
TINY = 1e-12


def untold(channels: Channels, scores: Scores, moments: Mapping[str, Moments]) -> Scores:
    """Return the scores of channels that are cut one after the other, each told by those that are still there.

    Args:
        channels: of the model.
        scores: of each unit alone.
        moments: of what the layers read.

    Returns:
        dict: unit -> score; in the order in which a group's units should go the scores never fall.
    """
    layers = find_layers(channels)
    found = dict(scores)
    for group in channels.groups:
        readers = [layer for layer in layers if layer.node in moments and _reads(layer, group)]
        if group.reason or not readers:
            continue
        covariance, square = np.zeros((group.width, group.width)), np.zeros(group.width)
        for layer in readers:
            own_covariance, own_square = _of_units(channels, layer, group, moments[layer.node])
            total = max(float(own_square.sum()), TINY)
            covariance += own_covariance / total
            square += own_square / total
        alone = np.array([scores[unit] for unit in group.units])
        order, costs = eliminate(covariance, alone / np.maximum(square, TINY))
        for position, cost in zip(order, costs, strict=True):
            found[group.units[position]] = cost
    return found


def eliminate(covariance: NDArray[np.float64], prices: NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """Take variables away one by one, each time the one whose untold variance costs least.

    Args:
        covariance: ``[D, D]``.
        prices: cost of a variance that is not told, ``[D]``.

    Returns:
        tuple: the order, and the cost of each in it; a cost below an earlier one is raised to it, as much as rounding
            shows, so that sorting by costs gives the order back.

    >>> eliminate(np.diag([3.0, 1.0, 2.0]), np.ones(3))[0]
    [1, 2, 0]
    """
    ridge = RIDGE * float(np.trace(covariance)) / len(covariance) + TINY
    precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    there = np.ones(len(covariance), dtype=np.bool_)
    order: list[int] = []
    costs: list[float] = []
    for _ in range(len(covariance)):
        diagonal = np.maximum(np.diag(precision), TINY)
        cost = np.where(there, prices / diagonal, np.inf)
        taken = int(cost.argmin())
        order.append(taken)
        costs.append(float(cost[taken]))
        there[taken] = False
        # What is left is the precision of the others without the one that is gone.
        precision -= np.outer(precision[:, taken], precision[taken]) / diagonal[taken]
    return order, never_falling(costs)


def _reads(layer: Layer, group: Group) -> bool:
    return ((layer.weight, layer.axis), "reads") in group.weights


def _of_units(
    channels: Channels, layer: Layer, group: Group, moments: Moments
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return covariance ``[units, units]`` and mean square ``[units]``, summed over what a unit has several of."""
    places = channels.units(layer.weight)[layer.axis]
    pixels = len(moments.total) // len(places)
    position = {unit: index for index, unit in enumerate(group.units)}
    copies: dict[int, list[tuple[int, int]]] = {}  # how often the unit was seen before -> (place, unit)
    seen: dict[int, int] = {}
    for place, unit in enumerate(places.tolist()):
        if unit in position:
            copies.setdefault(seen.get(unit, 0), []).append((place, position[unit]))
            seen[unit] = seen.get(unit, 0) + 1
    covariance, square = np.zeros((group.width, group.width)), np.zeros(group.width)
    second, whole = moments.covariance(centred=bool(layer.bias)), np.diag(moments.outer) / moments.count
    for pairs in copies.values():
        at, units = (np.array(column) for column in zip(*pairs, strict=True))
        for pixel in range(pixels):
            rows = at * pixels + pixel
            covariance[np.ix_(units, units)] += second[np.ix_(rows, rows)]
            square[units] += whole[rows]
    return covariance, square
