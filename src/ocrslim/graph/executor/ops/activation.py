"""Activation functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.graph.executor.registry import register

__all__ = ["clip_6", "clip_11", "gelu", "hard_sigmoid", "hard_swish", "relu", "sigmoid", "softmax_1", "softmax_13"]


@register("Relu", 6, 13, 14)
def relu(x: Tensor) -> Tensor:
    """Return ``max(x, 0)``."""
    return F.relu(x)


@register("Sigmoid", 6, 13)
def sigmoid(x: Tensor) -> Tensor:
    """Return the logistic function."""
    return torch.sigmoid(x)


@register("HardSigmoid", 6, 22)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """Return ``alpha * x + beta`` within 0 and 1; PaddleOCR has slopes of 0.2, 1/6 and 0.1666667."""
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


@register("HardSwish", 14, 22)
def hard_swish(x: Tensor) -> Tensor:
    """Return ``x * min(max(x + 3, 0), 6) / 6`` (arXiv 1905.02244)."""
    return F.hardswish(x)


@register("Gelu", 20)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """Return ``x * P(X <= x)`` of a normal X (arXiv 1606.08415), exact or by tanh."""
    return F.gelu(x, approximate=approximate)


@register("Clip", 6)
def clip_6(x: Tensor, *, min: float = -3.4028234663852886e38, max: float = 3.4028234663852886e38) -> Tensor:
    """Return ``x`` within bounds, attributes up to opset 10."""
    return torch.clamp(x, min, max)


@register("Clip", 11, 12, 13)
def clip_11(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Return ``x`` within bounds, inputs since opset 11; where they cross, the upper one holds."""
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@register("Softmax", 1, 11)
def softmax_1(x: Tensor, *, axis: int = 1) -> Tensor:
    """Return the softmax over ``axis`` and all that follow it together, as up to opset 12."""
    axis = axis % max(1, x.dim())
    return torch.softmax(x.flatten(axis), axis).reshape(x.shape)


@register("Softmax", 13)
def softmax_13(x: Tensor, *, axis: int = -1) -> Tensor:
    """Return the softmax over one axis."""
    return torch.softmax(x, axis)
