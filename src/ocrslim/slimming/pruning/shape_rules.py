"""How channels pass through what only moves values about: reshapes, transposes, slices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ocrslim.graph.passes.base import array_of, attribute
from ocrslim.slimming.pruning.labels import LabelArray
from ocrslim.slimming.pruning.rules import axes_of
from ocrslim.slimming.pruning.trace import Trace, rule

__all__ = ["blocks", "slice_ranges"]


def blocks(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split the axes of a reshape into the smallest runs that hold equally many elements.

    Args:
        before: sizes of the input.
        after: sizes of the output; as many elements.

    Returns:
        list: (axes of the input, axes of the output) of each run, in order.

    >>> blocks((7, 40, 360), (7, 40, 3, 8, 15))
    [([0], [0]), ([1], [1]), ([2], [2, 3, 4])]
    """
    runs: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left = [i] if i < len(before) else []
        right = [j] if j < len(after) else []
        i, j = i + len(left), j + len(right)
        while (have := math.prod(before[axis] for axis in left)) != (want := math.prod(after[axis] for axis in right)):
            if have < want:
                left.append(i)
                i += 1
            else:
                right.append(j)
                j += 1
        runs.append((left, right))
    return runs


@rule("Reshape", "Flatten")
def _reshape(trace: Trace, node: ir.Node) -> None:
    """An axis that is split, or several that are merged, may carry channels; see :func:`_split`, :func:`_merge`."""
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None
    if node.op_type == "Reshape" and array_of(node.inputs[1]) is None:
        trace.fix(node, "the shape is computed at run time")
        return
    layout = trace.layout(x)
    before, after = trace.shape(x), trace.shape(out)
    for left, right in blocks(before, after):
        labelled = [axis for axis in left if layout[axis] is not None]
        if not labelled:
            continue
        left = [axis for axis in left if before[axis] > 1 or axis in labelled]
        right = [axis for axis in right if after[axis] > 1]
        labels = layout[labelled[0]]
        assert labels is not None
        if len(left) == 1 and right:
            axis, made = _split(trace, labels, [(axis, after[axis]) for axis in right])
            trace.layout(out)[axis] = made
        elif len(labelled) == len(right) == 1 and not any(trace.is_open(x, axis) for axis in left):
            sizes = [before[axis] for axis in left]
            trace.layout(out)[right[0]] = _merge(labels, left.index(labelled[0]), sizes)
        else:
            for axis in labelled:
                trace.labels.fix(_known(layout[axis]), f"{node.op_type} {node.name}: channels are mixed with others")


def _split(trace: Trace, labels: LabelArray, axes: list[tuple[int, int]]) -> tuple[int, LabelArray]:
    """Let the last of the new axes carry the channels: along the others, all lose the same.

    Args:
        trace: to join labels in.
        labels: of the axis that is split.
        axes: (axis, size) of the new ones of more than one element.

    Returns:
        tuple: the axis that carries channels, and their labels.
    """
    axis, width = axes[-1]
    rows = labels.reshape(-1, width)
    trace.labels.join(rows, rows[:1])
    return axis, rows[0]


def _merge(labels: LabelArray, position: int, sizes: list[int]) -> LabelArray:
    """Repeat the labels of one axis for each index of those that it is merged with."""
    shape = [len(labels) if index == position else 1 for index in range(len(sizes))]
    return np.broadcast_to(labels.reshape(shape), sizes).ravel()


@rule("Transpose")
def _transpose(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(_first(node))
    order = attribute(node, "perm", None) or range(len(layout))[::-1]
    trace.layouts[str(node.outputs[0].name)] = [layout[axis] for axis in order]


@rule("Squeeze")
def _squeeze(trace: Trace, node: ir.Node) -> None:
    x = _first(node)
    layout, shape = trace.layout(x), trace.shape(x)
    axes = axes_of(node, len(layout))
    gone = [axis for axis, size in enumerate(shape) if size == 1] if axes is None else axes
    trace.layouts[str(node.outputs[0].name)] = [labels for axis, labels in enumerate(layout) if axis not in gone]


@rule("Unsqueeze")
def _unsqueeze(trace: Trace, node: ir.Node) -> None:
    out = node.outputs[0]
    rank = len(trace.shape(out))
    new = axes_of(node, rank) or []
    kept = iter(trace.layout(_first(node)))
    trace.layouts[str(out.name)] = [None if axis in new else next(kept) for axis in range(rank)]


@rule("Slice")
def _slice(trace: Trace, node: ir.Node) -> None:
    ranges = slice_ranges(node, trace.shape(_first(node)))
    if ranges is None:
        trace.fix(node, "its bounds are computed at run time")
        return
    layout = list(trace.layout(_first(node)))
    for axis, part in ranges.items():
        labels = layout[axis]
        layout[axis] = None if labels is None else labels[part]
        if labels is not None and part.step != 1:
            trace.labels.fix(labels, f"Slice {node.name}: it takes every {part.step}th channel")
    trace.layouts[str(node.outputs[0].name)] = layout


@rule("Split")
def _split_node(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(_first(node))
    along = attribute(node, "axis", 0) % len(layout)
    labels = layout[along]
    start = 0
    for value in node.outputs:
        if value.name:
            size = trace.shape(value)[along]
            own = list(layout)
            own[along] = None if labels is None else labels[start : start + size]
            trace.layouts[value.name] = own
            start += size


@rule("Gather")
def _gather(trace: Trace, node: ir.Node) -> None:
    """One index of an axis without channels drops that axis."""
    layout = trace.layout(_first(node))
    indices = array_of(node.inputs[1])
    along = attribute(node, "axis", 0) % len(layout)
    if indices is None or indices.ndim or layout[along] is not None:
        trace.fix(node, "channels can't be followed through this operator")
        return
    trace.layouts[str(node.outputs[0].name)] = [labels for axis, labels in enumerate(layout) if axis != along]


def slice_ranges(node: ir.Node, sizes: Sequence[int]) -> dict[int, slice] | None:
    """Return axis -> what a Slice takes of it, with bounds within the axis; ``None`` where they are not constants."""
    arrays = [array_of(value) for value in node.inputs[1:]]
    if any(array is None for value, array in zip(node.inputs[1:], arrays, strict=True) if value is not None):
        return None
    starts, ends = (_known_list(array) for array in arrays[:2])
    axes = _known_list(arrays[2]) if len(arrays) > 2 and arrays[2] is not None else list(range(len(starts)))
    steps = _known_list(arrays[3]) if len(arrays) > 3 and arrays[3] is not None else [1] * len(starts)
    found = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(sizes)
        begin, stop, stride = slice(start, end, step).indices(sizes[axis])
        found[axis] = slice(begin, stop, stride) if stride > 0 else slice(begin, None if stop < 0 else stop, stride)
    return found


def _known_list(array: object) -> list[int]:
    assert isinstance(array, np.ndarray)
    return [int(item) for item in array.ravel()]


def _known(labels: LabelArray | None) -> LabelArray:
    assert labels is not None
    return labels


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None  # the schema demands it
    return value
