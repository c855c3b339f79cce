"""Pooling over windows and over the whole map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.errors import ModelError
from ocrslim.graph.executor.ops.geometry import as_torch_pad, effective_kernel, resolve_padding
from ocrslim.graph.executor.registry import register

__all__ = ["average_pool", "global_average_pool", "max_pool"]

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


@register("GlobalAveragePool", 1, 22)
def global_average_pool(x: Tensor) -> Tensor:
    """Return the mean of each channel of ``[N, C, *sizes]``, the sizes kept as 1."""
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@register("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    num_outputs: int = 1,
) -> Tensor:
    """Return the largest value of each window of ``x`` ``[N, C, *sizes]``; padding counts as minus infinity."""
    del storage_order  # of the indices
    if num_outputs > 1:
        raise ModelError("MaxPool with indices as its second output is not supported")
    rank = len(kernel_shape)
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    extents = effective_kernel(kernel_shape, dilations)
    begins, ends = resolve_padding(auto_pad, pads, x.shape[2:], extents, strides)
    if ceil_mode:
        ends = _ends_for_ceil(x.shape[2:], extents, strides, begins, ends)
    if any(begins) or any(ends):
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x = F.pad(x, as_torch_pad(begins, ends), value=lowest)
    if x.is_floating_point():
        return _MAX_POOL[rank](x, tuple(kernel_shape), tuple(strides), 0, tuple(dilations))
    return _MAX_POOL[rank](x.double(), tuple(kernel_shape), tuple(strides), 0, tuple(dilations)).to(x.dtype)


@register("AveragePool", 1, 7, 10, 11, 19, 22)
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return the mean of each window of ``x`` ``[N, C, *sizes]``; padding is left out unless ``count_include_pad``."""
    rank = len(kernel_shape)
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    extents = effective_kernel(kernel_shape, dilations)
    begins, ends = resolve_padding(auto_pad, pads, x.shape[2:], extents, strides)
    final = _ends_for_ceil(x.shape[2:], extents, strides, begins, ends) if ceil_mode else ends
    if not any(begins) and not any(final):
        return _window_mean(x, kernel_shape, strides, dilations)
    counted = torch.ones_like(x[:1, :1])
    if count_include_pad:  # the padding that was asked for counts; what ceil_mode adds never does
        counted = F.pad(counted, as_torch_pad(begins, ends), value=1.0)
        counted = F.pad(counted, as_torch_pad([0] * rank, [f - e for f, e in zip(final, ends, strict=True)]))
    else:
        counted = F.pad(counted, as_torch_pad(begins, final))
    total = _window_mean(F.pad(x, as_torch_pad(begins, final)), kernel_shape, strides, dilations)
    return total / _window_mean(counted, kernel_shape, strides, dilations)


def _window_mean(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """Return the mean of each whole window."""
    rank = len(kernel)
    if rank == 2 and all(dilation == 1 for dilation in dilations):
        return F.avg_pool2d(x, tuple(kernel), tuple(strides))
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True), start=2):
        x = x.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    return x.mean(tuple(range(-rank, 0)))


def _ends_for_ceil(
    sizes: Sequence[int], extents: Sequence[int], strides: Sequence[int], begins: Sequence[int], ends: Sequence[int]
) -> list[int]:
    """Return the padding at the ends that makes room for the last, partial window.

    A window that would start in the padding at the end is not made (ONNX pooling, opset 19 and later).
    """
    result = []
    for size, extent, stride, begin, end in zip(sizes, extents, strides, begins, ends, strict=True):
        windows = -(-(size + begin + end - extent) // stride) + 1
        if (windows - 1) * stride >= size + begin:
            windows -= 1
        result.append(max(end, (windows - 1) * stride + extent - size - begin))
    return result
