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


def channel_sums(a: Tensor, b: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return for each channel the sum of ``a * b`` and that of ``a``, ``[channels]`` each.

    Args:
        a: any shape, of at least two axes.
        b: of the same shape.
        axis: of the channels.

    >>> channel_sums(torch.ones(2, 3), torch.full((2, 3), 2.0), 1)
    (tensor([4., 4., 4.]), tensor([2., 2., 2.]))
    """
    first, second = a.movedim(axis, -1), b.movedim(axis, -1)
    if a.device.type == "cpu" and first.is_contiguous() and second.is_contiguous():  # channels last in memory
        channels = first.shape[-1]
        products, sums = a.new_zeros(channels), a.new_zeros(channels)
        rows = max(1, 4 * IN_CACHE // max(1, channels))  # one temporary only
        flat = first.reshape(-1, channels), second.reshape(-1, channels)
        for some, other in zip(*(torch.split(values, rows) for values in flat), strict=True):
            products += (some * other).sum(0)
            sums += some.sum(0)
        return products, sums
    others = [index for index in range(a.dim()) if index != axis % a.dim()]
    return (a * b).sum(others), a.sum(others)


def _flat(*tensors: Tensor) -> tuple[Tensor, ...] | None:
    """Return tensors of one shape as views of one axis where their layouts in memory agree, else ``None``."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return tuple(tensor.view(-1) for tensor in tensors)
    if tensors[0].dim() == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return tuple(tensor.permute(0, 2, 3, 1).view(-1) for tensor in tensors)
    return None
