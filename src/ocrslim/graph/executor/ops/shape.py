"""Operators that move values about, and the arithmetic on shapes that steers them.

Shapes are integer tensors on the CPU, whatever device the values are on, so that reading one never waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrslim.errors import ModelError
from ocrslim.graph.executor.ops.geometry import ints
from ocrslim.graph.executor.registry import register

__all__ = [
    "cast",
    "concat",
    "constant",
    "depth_to_space",
    "identity",
    "reshape",
    "shape",
    "slice_1",
    "slice_10",
    "squeeze_11",
    "squeeze_13",
    "transpose",
    "unsqueeze_11",
    "unsqueeze_13",
]

_DTYPES = {  # onnx.TensorProto.DataType
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}


@register("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(x: Tensor) -> Tensor:
    """Return ``x``."""
    return x


@register("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def constant(
    *,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> Tensor:
    """Return the attribute's value."""
    if value is not None:
        return value
    if value_int is not None or value_ints is not None:
        return torch.tensor(value_ints if value_int is None else value_int, dtype=torch.int64)
    return torch.tensor(value_floats if value_float is None else value_float, dtype=torch.float32)


@register("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Return ``x`` in another type; the two switches are for 8-bit floats, which are not supported."""
    del saturate, round_mode
    if to not in _DTYPES:
        raise ModelError(f"Cast to the ONNX data type {to} is not supported")
    return x.to(_DTYPES[to])


@register("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Return ``[N, C / b^2, H * b, W * b]``: b x b channels of each pixel of ``x`` ``[N, C, H, W]`` become pixels."""
    if mode == "DCR":  # depth, column, row: the channels of one place are neighbours
        images, channels, height, width = x.shape
        x = x.reshape(images, blocksize**2, channels // blocksize**2, height, width).transpose(1, 2).flatten(1, 2)
    return F.pixel_shuffle(x, blocksize)


@register("Shape", 1, 13, 15, 19, 21, 23, 24, 25)
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Return the sizes of the axes from ``start`` to ``end`` as int64 on the CPU."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@register("Reshape", 5, 13, 14, 19, 21, 23, 24, 25)
def reshape(x: Tensor, sizes: Tensor, *, allowzero: int = 0) -> Tensor:
    """Return ``x`` with other sizes; -1 is what is left over, 0 keeps the axis of that place."""
    target = ints(sizes)
    if not allowzero:
        target = [x.shape[place] if size == 0 else size for place, size in enumerate(target)]
    return x.reshape(target)


@register("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Return ``x`` with its axes in another order; reversed by default."""
    return x.permute(tuple(perm) if perm is not None else tuple(reversed(range(x.dim()))))


@register("Squeeze", 1, 11)
def squeeze_11(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Return ``x`` without the given axes of size 1, an attribute up to opset 12; without all of them by default."""
    if axes is None:
        return x.squeeze()
    wrong = [axis for axis in axes if x.shape[axis] != 1]
    if wrong:
        raise ModelError(f"Squeeze of axis {wrong[0]}, which has the size {x.shape[wrong[0]]}; only 1 can be dropped")
    return x.squeeze(tuple(axes))


@register("Squeeze", 13, 21, 23, 24, 25)
def squeeze_13(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Return ``x`` without the given axes of size 1, an input since opset 13."""
    return squeeze_11(x, axes=None if axes is None else ints(axes))


@register("Unsqueeze", 1, 11)
def unsqueeze_11(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Return ``x`` with new axes of size 1 at the given places of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@register("Unsqueeze", 13, 21, 23, 24, 25)
def unsqueeze_13(x: Tensor, axes: Tensor) -> Tensor:
    """Return ``x`` with new axes, an input since opset 13."""
    return unsqueeze_11(x, axes=ints(axes))


@register("Concat", 4, 11, 13)
def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Return the inputs one behind the other along ``axis``."""
    return torch.cat(inputs, axis)


@register("Slice", 1)
def slice_1(x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None) -> Tensor:
    """Return part of ``x``; bounds were attributes up to opset 9."""
    return _slice(x, starts, ends, axes, None)


@register("Slice", 10, 11, 13)
def slice_10(
    x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Return every ``steps``-th place from ``starts`` up to, without, ``ends``, for each axis of ``axes``."""
    return _slice(
        x,
        ints(starts),
        ints(ends),
        None if axes is None else ints(axes),
        None if steps is None else ints(steps),
    )


def _slice(
    x: Tensor,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> Tensor:
    """Slice with Python's rules for bounds, which are those of ONNX; torch has no negative steps."""
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = (number if axes is None else axes[number]) % x.dim()
        step = 1 if steps is None else steps[number]
        if step == 1:
            first, stop, _ = slice(start, end).indices(x.shape[axis])
            x = x.narrow(axis, first, max(stop - first, 0))
        else:
            # An end before the first place is written as a large negative number; Python would count it from behind.
            stop_at = None if step < 0 and end < -x.shape[axis] else end
            places = range(*slice(start, stop_at, step).indices(x.shape[axis]))
            x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64, device=x.device))
    return x
