"""Convolution and its transpose; the weight is an ordinary input, so that it may be fake-quantized."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ocrslim.graph.executor.ops.geometry import as_torch_pad, effective_kernel, resolve_padding
from ocrslim.graph.executor.registry import register

__all__ = ["conv", "conv_transpose"]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@register("Conv", 1, 11, 22)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return the cross-correlation of ``x`` ``[N, C, *sizes]`` with ``weight`` ``[out, C / group, *kernel]``."""
    del kernel_shape  # the weight says it
    rank = weight.dim() - 2
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    extents = effective_kernel(weight.shape[2:], dilations)
    begins, ends = resolve_padding(auto_pad, pads, x.shape[2:], extents, strides)
    if begins != ends:  # torch pads both sides alike
        x = F.pad(x, as_torch_pad(begins, ends))
        begins = [0] * rank
    return _CONV[rank](x, weight, bias, tuple(strides), tuple(begins), tuple(dilations), group)


@register("ConvTranspose", 1, 11, 22)
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Return the transposed convolution of ``x`` ``[N, C, *sizes]`` with ``weight`` ``[C, out / group, *kernel]``."""
    del kernel_shape
    rank = weight.dim() - 2
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    extra = list(output_padding or (0,) * rank)
    # The size without any padding; ONNX crops from it what `pads` or `output_shape` says.
    full = [
        stride * (size - 1) + extent + more
        for size, stride, extent, more in zip(
            x.shape[2:], strides, effective_kernel(weight.shape[2:], dilations), extra, strict=True
        )
    ]
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if output_shape is None:
        begins, ends = resolve_padding(auto_pad, pads, x.shape[2:], (1,) * rank, strides)
    else:
        begins, ends = _crops(full, output_shape, auto_pad)
    y = _CONV_TRANSPOSE[rank](x, weight, bias, tuple(strides), 0, 0, group, tuple(dilations))
    # What is missing of the full size at the end (output padding, or a larger output_shape) holds the bias alone.
    for axis, (size, begin, end) in enumerate(zip(full, begins, ends, strict=True), start=2):
        missing = size - end - y.shape[axis]
        if missing > 0:
            y = _extend(y, axis, missing, bias)
        if begin or end:  # the backward of a crop that takes nothing away is three passes over memory
            y = y.narrow(axis, begin, size - begin - end)
    return y


def _crops(full: Sequence[int], wanted: Sequence[int], auto_pad: str) -> tuple[list[int], list[int]]:
    """Return what to crop at the beginning and the end to get from the full to the wanted size."""
    begins, ends = [], []
    for size, target in zip(full, wanted, strict=True):
        total = size - target
        half = total // 2 if total >= 0 else 0
        begins.append(half if auto_pad == "SAME_UPPER" or total < 0 else total - half)
        ends.append(total - begins[-1])
    return begins, ends


def _extend(y: Tensor, axis: int, count: int, bias: Tensor | None) -> Tensor:
    """Append ``count`` places along ``axis`` that no input reaches: zero plus the bias."""
    pad = [0, 0] * (y.dim() - 1 - axis) + [0, count]
    if bias is None:
        return F.pad(y, pad)
    offset = bias.reshape(1, -1, *([1] * (y.dim() - 2)))
    return F.pad(y - offset, pad) + offset
