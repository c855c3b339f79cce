"""Parts of tensors: slice, split, gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []


@converter("slice")
def _slice(op: Operation, graph: GraphBuilder) -> ir.Value:
    starts = graph.vector(op, "starts", "StartsTensor", "StartsTensorList")
    ends = graph.vector(op, "ends", "EndsTensor", "EndsTensorList")
    part = graph.emit("Slice", [graph.input(op, "Input"), starts, ends, graph.constant(op.attributes["axes"], "axes")])
    return _drop(op, graph, part)


@converter("strided_slice")
def _strided_slice(op: Operation, graph: GraphBuilder) -> ir.Value:
    starts = graph.vector(op, "starts", "StartsTensor", "StartsTensorList")
    ends = graph.vector(op, "ends", "EndsTensor", "EndsTensorList")
    steps = graph.vector(op, "strides", "StridesTensor", "StridesTensorList")
    axes = graph.constant(op.attributes["axes"], "axes")
    return _drop(op, graph, graph.emit("Slice", [graph.input(op, "Input"), starts, ends, axes, steps]))


def _drop(op: Operation, graph: GraphBuilder, part: ir.Value) -> ir.Value:
    """Drop the axes that an index, not a range, was given for: ``x[:, 0]``.

    A tensor of no axes was written as one of shape [1] before Paddle 2.6; the variable says which it is.
    """
    dropped = graph.integers(op, "decrease_axis", [])
    if not dropped:
        return part
    result = graph.shape(op.name)
    if result == (1,) and len(dropped) == graph.rank(op, "Input"):
        return part
    return graph.emit("Squeeze", [part, graph.constant(dropped, "dropped")])


@converter("split")
def _split(op: Operation, graph: GraphBuilder) -> Sequence[ir.Value]:
    if graph.has(op, "AxisTensor") or graph.has(op, "SectionsTensorList"):
        raise op.error("its axis or its sections are not constants")
    axis = graph.integers(op, "axis", [0])[0]
    sections = graph.integers(op, "sections", [])
    count = len(op.outputs["Out"])
    if not sections:
        first = graph.emit("Split", [graph.input(op)], {"axis": axis, "num_outputs": count}, count)
    else:
        if -1 in sections:
            whole = (graph.shape(op.inputs["X"][0]) or ())[axis]
            if whole < 0:
                raise op.error("a section of -1 of an open axis can't be converted")
            sections[sections.index(-1)] = whole - sum(sections) - 1
        first = graph.emit("Split", [graph.input(op), graph.constant(sections, "sections")], {"axis": axis}, count)
    node = first.producer()
    assert node is not None
    return node.outputs


@converter("unstack", "unbind")
def _unstack(op: Operation, graph: GraphBuilder) -> Sequence[ir.Value]:
    axis = op.attributes.get("axis", 0)
    count = len(next(iter(op.outputs.values())))
    parts = graph.emit("Split", [graph.input(op)], {"axis": axis, "num_outputs": count}, count).producer()
    assert parts is not None
    return [graph.emit("Squeeze", [part, graph.constant([axis], "axis")]) for part in parts.outputs]


@converter("gather", "index_select")
def _gather(op: Operation, graph: GraphBuilder) -> ir.Value:
    axis = op.attributes.get("dim", op.attributes.get("axis", 0))
    index = graph.input(op, "Index")
    flat = graph.emit("Reshape", [index, graph.constant([-1], "axis")]) if graph.rank(op, "Index") > 1 else index
    if graph.has(op, "Axis"):
        raise op.error("its axis is not a constant")
    return graph.emit("Gather", [graph.input(op), flat], {"axis": int(np.reshape(axis, -1)[0])})
