"""Small arithmetic that several families share: sizes and axes read from tensors, and the padding of windows."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["as_torch_pad", "effective_kernel", "ints", "resolve_padding"]


def ints(tensor: Tensor) -> list[int]:
    """Return the elements of an integer vector."""
    return [int(element) for element in tensor.tolist()]


def effective_kernel(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Return the extent of a dilated window: ``(k - 1) * d + 1`` for each axis."""
    return [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]


def resolve_padding(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Return the padding before and after each spatial axis.

    Args:
        auto_pad: ``NOTSET`` takes ``pads``, ``VALID`` is none, ``SAME_*`` makes the output ``ceil(size / stride)``;
            an odd number goes to the end (``UPPER``) or the beginning (``LOWER``).
        pads: all beginnings, then all ends; ``None`` is zero.
        sizes: of the input's spatial axes.
        kernel: extents of the window, dilation included.
        strides: of the window.
    """
    rank = len(kernel)
    if auto_pad == "VALID" or (auto_pad == "NOTSET" and pads is None):
        return [0] * rank, [0] * rank
    if auto_pad == "NOTSET":
        assert pads is not None
        return list(pads[:rank]), list(pads[rank:])
    begins, ends = [], []
    for size, extent, stride in zip(sizes, kernel, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else large)
        ends.append(large if auto_pad == "SAME_UPPER" else small)
    return begins, ends


def as_torch_pad(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Return the argument of ``torch.nn.functional.pad``: last axis first, begin and end of each."""
    flat: list[int] = []
    for begin, end in zip(reversed(begins), reversed(ends), strict=True):
        flat += [begin, end]
    return flat
