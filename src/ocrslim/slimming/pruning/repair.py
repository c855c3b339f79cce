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

__all__ = ["fit", "repair"]

RIDGE = 1e-3  # of the mean variance: keeps weights small where channels hardly differ


def repair(channels: Channels, removed: Collection[int], moments: Mapping[str, Moments]) -> dict[str, NDArray[Any]]:
    """Return new values for weights and biases of the whole model, to be handed to ``cut``.

    Args:
        channels: of the whole model.
        removed: units that go.
        moments: of what its layers read; see :func:`ocrslim.slimming.pruning.moments.collect_moments`.

    Returns:
        dict: initializer -> array of the old shape and type; only what changes.
    """
    changed: dict[str, NDArray[Any]] = {}
    for layer in find_layers(channels):
        stays = channels.kept(layer.weight, removed)[layer.axis]
        if layer.node in moments and not stays.all():
            changed.update(_repaired(channels, layer, stays, moments[layer.node]))
    return changed


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


def _repaired(channels: Channels, layer: Layer, stays: NDArray[np.bool_], moments: Moments) -> dict[str, NDArray[Any]]:
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
