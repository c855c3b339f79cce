"""Cutting: the smaller graph, with the names of the larger one and nothing masked.

1. Every initializer loses the indices of the removed units, along each of its axes that carries channels.
2. The number of groups of a depthwise convolution is that of its channels.
3. Sizes that a Reshape, Expand or Resize names, and bounds of a Slice or Split, are those of the smaller values.
4. Shapes are inferred anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from ocrslim.errors import ModelError
from ocrslim.graph.passes.base import array_of, attribute, make_initializer
from ocrslim.slimming.pruning.groups import Channels
from ocrslim.slimming.pruning.shape_rules import slice_ranges

__all__ = ["cut"]

Kept = Callable[[ir.Value | None], dict[int, NDArray[np.bool_]]]
"""Axis -> whether each index stays, of a value."""


def cut(channels: Channels, removed: Collection[int], weights: Mapping[str, NDArray[Any]] | None = None) -> ir.Model:
    """Return the graph without some units.

    Args:
        channels: of the whole graph, which is not changed.
        removed: units; see :class:`ocrslim.slimming.pruning.groups.Group`.
        weights: initializer -> what to put in the place of its values, in the old shape; see
            :func:`ocrslim.slimming.pruning.repair.repair`.

    Raises:
        ModelError: a unit may not be cut, or a whole group would be gone.
    """
    _check(channels, removed)
    model = channels.model.clone()

    def kept(value: ir.Value | None) -> dict[int, NDArray[np.bool_]]:
        return {} if value is None else channels.kept(str(value.name), removed)

    for node in model.graph:
        if node.op_type in EDITS:
            rank = len(channels.shapes[str(node.inputs[0].name)]) if node.inputs[0] is not None else 0
            EDITS[node.op_type](model, node, kept, rank)  # rules 2 and 3, on values that are still whole
    for value in model.graph.initializers.values():
        if str(value.name) in channels.shapes:
            _shrink(value, kept(value), (weights or {}).get(str(value.name)))
    _infer(model)
    return model


def _check(channels: Channels, removed: Collection[int]) -> None:
    gone = set(removed)
    for group in channels.groups:
        hit = gone.intersection(group.units)
        if hit and group.reason:
            raise ModelError(f"the channels of {group.name} can't be cut: {group.reason}")
        if len(hit) == group.width:
            raise ModelError(f"all {group.width} channels of {group.name} would be cut; keep at least one")
        gone -= hit
    if gone:
        raise ModelError(f"the model has no unit {min(gone)}")


def _shrink(value: ir.Value, kept: dict[int, NDArray[np.bool_]], new: NDArray[Any] | None) -> None:
    """Apply rule 1."""
    lost = {axis: mask for axis, mask in kept.items() if not mask.all()}
    if not lost and new is None:
        return
    array = array_of(value) if new is None else new
    assert array is not None  # an initializer has a value
    for axis, mask in lost.items():
        array = np.compress(mask, array, axis=axis)
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)
    value.shape = ir.Shape(array.shape)


def _convolution(model: ir.Model, node: ir.Node, kept: Kept, rank: int) -> None:
    """Apply rule 2."""
    groups = attribute(node, "group", 1)
    mask = kept(node.inputs[0]).get(1)
    if groups > 1 and mask is not None and groups == len(mask):
        node.attributes["group"] = ir.AttrInt64("group", int(mask.sum()))


def _sizes(model: ir.Model, node: ir.Node, kept: Kept, rank: int) -> None:
    """Apply rule 3 to what names the sizes of its output, axis by axis; 0 and -1 say themselves what they are."""
    index = SIZES_AT[node.op_type]
    sizes = array_of(node.inputs[index]) if len(node.inputs) > index else None
    if sizes is None:
        return
    new = sizes.copy()
    for axis, mask in kept(node.outputs[0]).items():
        if axis < len(new) and new[axis] > 0:
            new[axis] = mask.sum()
    _put(model, node, index, new)


def _slice(model: ir.Model, node: ir.Node, kept: Kept, rank: int) -> None:
    """Apply rule 3: a bound becomes the number of channels that stay before it."""
    masks = kept(node.inputs[0])
    ranges = slice_ranges(node, [len(masks[axis]) if axis in masks else 1 << 31 for axis in range(rank)])
    starts, ends = array_of(node.inputs[1]), array_of(node.inputs[2])
    axes = array_of(node.inputs[3]) if len(node.inputs) > 3 else None
    if ranges is None or starts is None or ends is None:
        return
    order = [int(axis) % rank for axis in (range(len(starts)) if axes is None else axes)]
    starts, ends = starts.copy(), ends.copy()
    for position, axis in enumerate(order):
        if axis in masks:
            starts[position] = masks[axis][: ranges[axis].start].sum()
            ends[position] = masks[axis][: ranges[axis].stop].sum()
    _put(model, node, 1, starts)
    _put(model, node, 2, ends)


def _split(model: ir.Model, node: ir.Node, kept: Kept, rank: int) -> None:
    """Apply rule 3: parts of equal size may not be equal any more, so their sizes are named."""
    masks = [kept(value) for value in node.outputs]
    along = attribute(node, "axis", 0) % rank
    if any(along not in mask for mask in masks) or all(mask[along].all() for mask in masks):
        return
    sizes = np.array([mask[along].sum() for mask in masks], dtype=np.int64)
    if len(node.inputs) < 2:
        node.resize_inputs(2)
    node.attributes.pop("num_outputs", None)
    node.replace_input_with(1, make_initializer(model.graph, f"{node.name}.split", sizes))


SIZES_AT = {"Reshape": 1, "Expand": 1, "Resize": 3}
EDITS = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    **dict.fromkeys(SIZES_AT, _sizes),
    "Slice": _slice,
    "Split": _split,
}


def _put(model: ir.Model, node: ir.Node, index: int, array: NDArray[np.int64]) -> None:
    """Give a node other integers; what else reads the old ones keeps them."""
    value = node.inputs[index]
    old = array_of(value)
    if value is None or old is None or np.array_equal(old, array):
        return
    if len(tuple(value.uses())) == 1 and not value.is_graph_output():
        value.const_value = ir.tensor(array, name=value.name)
    else:
        node.replace_input_with(index, make_initializer(model.graph, str(value.name), array))


def _infer(model: ir.Model) -> None:
    """Apply rule 4; a graph output keeps what is declared of it."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    common.ShapeInferencePass()(model)
