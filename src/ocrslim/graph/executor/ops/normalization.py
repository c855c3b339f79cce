"""Normalisation; batch statistics are never computed: a deployed model has them fixed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.errors import ModelError
from ocrslim.graph.executor.registry import register

__all__ = ["batch_normalization", "layer_normalization"]


@register("BatchNormalization", 9, 14, 15)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Tensor:
    """Return ``(x - mean) / sqrt(variance + epsilon) * scale + bias`` for each channel of ``x`` ``[N, C, ...]``.

    The statistics are inputs and get no gradient.
    """
    del momentum
    if training_mode:
        raise ModelError("BatchNormalization with training_mode=1: export the model for inference")
    return F.batch_norm(x, mean.detach(), variance.detach(), scale, bias, False, 0.0, epsilon)


@register("LayerNormalization", 17)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    num_outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Return ``(x - mean) / sqrt(variance + epsilon) * scale + bias`` over the axes from ``axis`` on.

    The paper is arXiv 1607.06450.

    Returns:
        Tensor: the result; where the node has more outputs, also the mean and the reciprocal of the standard
        deviation, both with the normalised axes kept as 1.
    """
    del stash_type  # the type of the intermediate figures: here always that of x
    axis = axis % x.dim()
    shape = x.shape[axis:]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        y = F.layer_norm(x, shape, scale, bias, epsilon)
    else:
        y = F.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if num_outputs == 1:
        return y
    axes = tuple(range(axis, x.dim()))
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    return y, mean, torch.rsqrt(variance + epsilon)
