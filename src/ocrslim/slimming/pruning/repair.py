"""Repair: what reads cut channels makes the best of those that stay, before any training.

A channel that goes can be told in part from the others: each reader's weights for the channels that stay are those of
the least squares fit to what it computed from all of them (channel pruning, arXiv 1707.06168), and its bias takes up
the mean of what is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrslim.graph.passes.base import array_of
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.moments import Layer, Moments, find_layers

__all__ = ["Repairs", "fit", "repair"]

Arrays = dict[str, NDArray[Any]]

REMEMBERED = 4  # fits of a layer: as it is, and as few cuts beside each other would have it
RIDGE = 1e-3  # of the mean variance: keeps weights small where channels hardly differ


class Repairs:
    """Repairs of one model, cut in one way after the other.

    The fit of a layer is remembered: ways that are tried side by side differ in few layers, and that of a layer with
    2,880 inputs, pixels of its window among them, takes a second.

    Args:
        channels: of the whole model.
        moments: of what its layers read; see :func:`ocrslim.slimming.pruning.moments.collect_moments`.
    """

    def __init__(self, channels: Channels, moments: Mapping[str, Moments]) -> None:
        self._channels, self._moments = channels, moments
        self._layers = [layer for layer in find_layers(channels) if layer.node in moments]
        self._known: dict[str, dict[bytes, Arrays]] = {layer.node: {} for layer in self._layers}

    def of(self, removed: Collection[int]) -> Arrays:
        """Return new values for weights and biases of the whole model, to be handed to ``cut``.

        Args:
            removed: units that go.

        Returns:
            dict: initializer -> array of the old shape and type; only what changes.
        """
        changed: Arrays = {}
        for layer in self._layers:
            stays = self._channels.kept(layer.weight, removed)[layer.axis]
            if not stays.all():
                changed |= self._of_layer(layer, stays)
        return changed

    def _of_layer(self, layer: Layer, stays: NDArray[np.bool_]) -> Arrays:
        known, key = self._known[layer.node], stays.tobytes()
        found = known.pop(key, None)
        if found is None:
            found = _repaired(self._channels, layer, stays, self._moments[layer.node])
        known[key] = found  # the last one that was asked for stands last
        if len(known) > REMEMBERED:
            del known[next(iter(known))]
        return found


def repair(channels: Channels, removed: Collection[int], moments: Mapping[str, Moments]) -> Arrays:
    """Return what :meth:`Repairs.of` does, for a model that is cut once."""
    return Repairs(channels, moments).of(removed)


def fit(covariance: NDArray[np.float64], stays: NDArray[np.bool_], ridge: float = RIDGE) -> NDArray[np.float64]:
    """Return the matrix ``[D, kept]`` that tells all channels from those that stay, with the least squared error.

    Args:
        covariance: of all channels, ``[D, D]``.
        stays: which of them stay, ``[D]``.
        ridge: added to the variances, as a share of their mean.
    """
    inner = covariance[np.ix_(stays, stays)]
    inner = inner + np.eye(len(inner)) * max(ridge * float(np.trace(inner)) / len(inner), 1e-12)
    told = np.asarray(np.linalg.solve(inner, covariance[stays, :]).T, np.float64)
    told[stays] = np.eye(len(inner))
    return told


def _repaired(channels: Channels, layer: Layer, stays: NDArray[np.bool_], moments: Moments) -> Arrays:
    weight = _constant(channels, layer.weight)
    turned = np.moveaxis(weight, layer.axis, 1)  # [outputs, inputs, ...]
    flat = turned.reshape(len(turned), -1).astype(np.float64)
    rows = np.repeat(stays, flat.shape[1] // len(stays))
    told = fit(moments.covariance(centred=bool(layer.bias)), rows)
    new = np.zeros_like(flat)
    new[:, rows] = flat @ told
    values = np.moveaxis(new.reshape(turned.shape), 1, layer.axis)
    changed = {layer.weight: values.astype(weight.dtype)}
    if layer.bias:
        bias = _constant(channels, layer.bias)
        changed[layer.bias] = (bias + (flat - new) @ moments.mean()).astype(bias.dtype)
    return changed


def _constant(channels: Channels, name: str) -> NDArray[Any]:
    array = array_of(channels.model.graph.initializers[name])
    assert array is not None  # an initializer has a value
    return array
