"""Shapes: reshape, transpose, squeeze, join, repeat, pad."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge", "circular": "wrap"}


@converter("shape")
def _shape(op: Operation, graph: GraphBuilder) -> ir.Value:
    sizes = graph.emit("Shape", [graph.input(op, "Input")])
    return sizes if graph.dtype(op) == np.int64 else graph.cast(sizes, graph.dtype(op))


@converter("reshape", "reshape2")
def _reshape(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Reshape", [graph.input(op), graph.vector(op, "shape", "Shape", "ShapeTensor")])


@converter("flatten_contiguous_range")
def _flatten_range(op: Operation, graph: GraphBuilder) -> ir.Value:
    rank = graph.rank(op)
    start, stop = (op.attributes.get(key, 1) % rank for key in ("start_axis", "stop_axis"))
    x = graph.input(op)
    if stop == rank - 1:
        return graph.emit("Reshape", [x, graph.constant([0] * start + [-1], "shape")])
    # The axes behind can't be named by zeros: those stand for the sizes at the same place before.
    behind = graph.emit("Shape", [x], {"start": stop + 1})
    target = graph.emit("Concat", [graph.constant([0] * start + [-1], "front"), behind], {"axis": 0})
    return graph.emit("Reshape", [x, target])


@converter("flatten", "flatten2")
def _flatten(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Flatten", [graph.input(op)], {"axis": op.attributes.get("axis", 1)})


@converter("transpose", "transpose2")
def _transpose(op: Operation, graph: GraphBuilder) -> ir.Value:
    rank = graph.rank(op)
    return graph.emit("Transpose", [graph.input(op)], {"perm": [axis % rank for axis in graph.integers(op, "axis")]})


@converter("squeeze", "squeeze2")
def _squeeze(op: Operation, graph: GraphBuilder) -> ir.Value:
    # Paddle leaves an axis alone that isn't of size 1; with none named it drops all of size 1.
    axes = graph.integers(op, "axes", [])
    sizes = graph.shape(op.inputs["X"][0])
    if sizes is not None:
        named = axes or range(len(sizes))
        axes = [axis for axis in named if sizes[axis] == 1 or (axes and sizes[axis] < 0)]
    if not axes:
        return graph.input(op)
    return graph.emit("Squeeze", [graph.input(op), graph.constant(axes, "axes")])


@converter("unsqueeze", "unsqueeze2")
def _unsqueeze(op: Operation, graph: GraphBuilder) -> ir.Value:
    axes = graph.integers(op, "axes")
    rank = graph.rank(op)
    # Paddle inserts one axis after the other, ONNX all at once: name the places that they end up at.
    places: list[int] = []
    for axis in axes:
        place = axis if axis >= 0 else axis + rank + len(places) + 1
        places = [other + (other >= place) for other in places] + [place]
    return graph.emit("Unsqueeze", [graph.input(op), graph.constant(places, "axes")])


@converter("concat")
def _concat(op: Operation, graph: GraphBuilder) -> ir.Value:
    if graph.has(op, "AxisTensor"):
        raise op.error("its axis is not a constant")
    return graph.emit("Concat", _all(op, graph), {"axis": graph.integers(op, "axis", [0])[0]})


@converter("stack")
def _stack(op: Operation, graph: GraphBuilder) -> ir.Value:
    rank = graph.rank(op) + 1
    axis = op.attributes.get("axis", 0) % rank
    parts = [graph.emit("Unsqueeze", [value, graph.constant([axis], "axis")]) for value in _all(op, graph)]
    return graph.emit("Concat", parts, {"axis": axis})


def _all(op: Operation, graph: GraphBuilder) -> list[ir.Value]:
    return [graph.input(op, "X", index) for index in range(len(op.inputs.get("X", ())))]


@converter("expand_v2")
def _expand(op: Operation, graph: GraphBuilder) -> ir.Value:
    # -1 keeps the size, as 1 does in ONNX.
    if graph.has(op, "Shape") or graph.has(op, "expand_shapes_tensor"):
        target = graph.vector(op, "shape", "Shape", "expand_shapes_tensor")
        target = graph.emit("Max", [target, graph.constant([1], "one")])
    else:
        target = graph.constant([max(size, 1) for size in graph.integers(op, "shape")], "shape")
    return graph.emit("Expand", [graph.input(op), target])


@converter("tile")
def _tile(op: Operation, graph: GraphBuilder) -> ir.Value:
    repeats = graph.integers(op, "repeat_times")
    rank = graph.rank(op)
    x = graph.input(op)
    if len(repeats) > rank:
        x = graph.emit("Unsqueeze", [x, graph.constant(list(range(len(repeats) - rank)), "axes")])
    return graph.emit("Tile", [x, graph.constant([1] * (rank - len(repeats)) + repeats, "repeats")])


@converter("pad3d", "pad2d", "pad")
def _pad(op: Operation, graph: GraphBuilder) -> ir.Value:
    """Paddle's pad names [before, after] of each axis, ``pad2d`` and ``pad3d`` of the spatial axes alone.

    ``pad3d``: [left, right, top, bottom, front, back]; ``pad2d``: [top, bottom, left, right].
    """
    rank = graph.rank(op)
    if graph.has(op, "Paddings"):
        raise op.error("its paddings are not constants")
    if op.type != "pad" and op.attributes.get("data_format", "NCHW") not in ("NCHW", "NCDHW", "AnyLayout"):
        raise op.error("only NCHW and NCDHW can be converted")
    pads = graph.integers(op, "paddings")
    pairs = [(pads[place], pads[place + 1]) for place in range(0, len(pads), 2)]
    if op.type == "pad3d":
        pairs.reverse()
    pairs = [(0, 0)] * (rank - len(pairs)) + pairs
    ends = graph.constant([before for before, _ in pairs] + [after for _, after in pairs], "pads")
    mode = op.attributes.get("mode", "constant")
    number = op.attributes.get("value", op.attributes.get("pad_value", 0.0))
    filler = [graph.constant(np.asarray(number, graph.dtype(op)), "value")] if mode == "constant" else []
    return graph.emit("Pad", [graph.input(op), ends, *filler], {"mode": _PAD_MODES[mode]})
