"""Elementwise arithmetic with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ocrslim.graph.executor.ops.geometry import ints
from ocrslim.graph.executor.registry import register

__all__ = ["add", "div", "erf", "mul", "power", "reduce_mean_13", "reduce_mean_18", "sqrt", "sub"]


@register("Add", 7, 13, 14)
def add(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a + b``."""
    return a + b


@register("Sub", 7, 13, 14)
def sub(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a - b``."""
    return a - b


@register("Mul", 7, 13, 14)
def mul(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a * b``."""
    return a * b


@register("Div", 7, 13, 14)
def div(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a / b``; integers are divided towards zero."""
    if a.is_floating_point():
        return a / b
    return torch.div(a, b, rounding_mode="trunc")


@register("Pow", 7, 12, 13, 15)
def power(base: Tensor, exponent: Tensor) -> Tensor:
    """Return ``base ** exponent`` in the type of ``base``."""
    return torch.pow(base, exponent).to(base.dtype)


@register("Sqrt", 6, 13)
def sqrt(x: Tensor) -> Tensor:
    """Return the square root."""
    return torch.sqrt(x)


@register("Erf", 9, 13)
def erf(x: Tensor) -> Tensor:
    """Return the Gauss error function."""
    return torch.erf(x)


@register("ReduceMean", 1, 11, 13)
def reduce_mean_13(x: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> Tensor:
    """Return the mean over ``axes``, an attribute up to opset 17; over all of them without it."""
    return x.mean(tuple(range(x.dim())) if axes is None else tuple(axes), keepdim=bool(keepdims))


@register("ReduceMean", 18)
def reduce_mean_18(
    x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """Return the mean over ``axes``, an input since opset 18."""
    if axes is None or axes.numel() == 0:
        return x if noop_with_empty_axes else reduce_mean_13(x, keepdims=keepdims)
    return reduce_mean_13(x, axes=ints(axes), keepdims=keepdims)
