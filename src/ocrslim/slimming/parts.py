"""Work on large tensors a part at a time, so that what lies between two passes stays in a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["IN_CACHE", "dot", "in_parts"]

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


def _flat(*tensors: Tensor) -> tuple[Tensor, ...] | None:
    """Return tensors of one shape as views of one axis where their layouts in memory agree, else ``None``."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return tuple(tensor.view(-1) for tensor in tensors)
    if tensors[0].dim() == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
        return tuple(tensor.permute(0, 2, 3, 1).view(-1) for tensor in tensors)
    return None
