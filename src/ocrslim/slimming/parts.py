"""Work on large tensors a part at a time, so that what lies between two passes stays in a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["IN_CACHE", "channel_sums", "dot", "in_parts"]

IN_CACHE = 1 << 17  # values of a part on a CPU: 0.5 MB, with their results a core's share of cache


def in_parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same part of each tensor, as views; all of them at once on other devices, or where layouts differ.

    Args:
        tensors: of one shape.

    >>> [first.tolist() for first, _ in in_parts(torch.arange(3), torch.zeros(3))]
    [[0, 1, 2]]
    """
    flat = _flat(*tensors) if tensors[0].device.type == "cpu" else None
    if flat is None:
        yield tensors
    else:
        yield from zip(*(torch.split(values, IN_CACHE) for values in flat), strict=True)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of products of two tensors of one shape, without an intermediate where their layouts agree.

    >>> dot(torch.ones(2, 3), torch.full((2, 3), 2.0)).item()
    12.0
    """
    flat = _flat(a, b)
    return torch.dot(*flat) if flat is not None else (a * b).sum()


def channel_sums(a: Tensor, b: Tensor, axis: int, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return for each channel the sum of ``a * (b - offset)`` and that of ``a``, ``[channels]``.

    Half types are summed in single precision.

    Args:
        a: any shape, of at least two axes.
        b: of the same shape.
        axis: of the channels.
        offset: ``[channels]``; ``None`` is 0. Values of ``b`` that are the offset count exactly nothing.

    >>> channel_sums(torch.ones(2, 3), torch.full((2, 3), 2.0), 1)
    (tensor([4., 4., 4.]), tensor([2., 2., 2.]))
    """
    first, second = a.movedim(axis, -1), b.movedim(axis, -1)
    channels = first.shape[-1]
    others = list(range(first.dim() - 1))
    pieces = [(first, second)]
    if a.device.type == "cpu" and first.is_contiguous() and second.is_contiguous():  # channels last in memory
        rows = max(1, 4 * IN_CACHE // max(1, channels))  # one or two temporaries only
        flat = first.reshape(-1, channels), second.reshape(-1, channels)
        pieces, others = list(zip(*(torch.split(values, rows) for values in flat), strict=True)), [0]
    kind = torch.promote_types(a.dtype, torch.float32)  # a half type is too coarse for sums of many
    products, sums = (torch.zeros(channels, dtype=kind, device=a.device) for _ in range(2))
    for some, other in pieces:
        weights, values = some.to(kind), other.to(kind)
        products += (weights * (values if offset is None else values - offset)).sum(others)
        sums += weights.sum(others)
    return products, sums


def _flat(*tensors: Tensor) -> tuple[Tensor, ...] | None:
    """Return tensors of one shape as views of one axis where their layouts in memory agree, else ``None``."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return tuple(tensor.view(-1) for tensor in tensors)
    if tensors[0].dim() == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return tuple(tensor.permute(0, 2, 3, 1).view(-1) for tensor in tensors)
    return None
