"""Constants, copies and casts."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []

MOST_FILLED = 1 << 24  # elements: a shape in a file is no reason to take any memory it asks for


@converter("assign", "share_data", "print")
def _assign(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.input(op)


@converter("cast")
def _cast(op: Operation, graph: GraphBuilder) -> ir.Value:
    wanted = op.attributes.get("out_dtype")
    return graph.cast(graph.input(op), wanted if isinstance(wanted, np.dtype) else graph.dtype(op))


@converter("fill_constant")
def _fill(op: Operation, graph: GraphBuilder) -> ir.Value:
    dtype = op.attributes.get("dtype")
    dtype = dtype if isinstance(dtype, np.dtype) else graph.dtype(op)
    text = op.attributes.get("str_value") or str(op.attributes.get("value", 0.0))
    number = np.asarray(_number(text)).astype(dtype)
    tensors = [slot for slot in ("ValueTensor", "ShapeTensor", "ShapeTensorList") if graph.has(op, slot)]
    if not tensors:
        shape = graph.integers(op, "shape")
        if not all(size >= 0 for size in shape) or math.prod(shape) > MOST_FILLED:
            raise op.error(f"a constant of shape {shape} is larger than any in a PP-OCR model")
        return graph.constant(np.full(shape, number, dtype), "filled")
    if "ValueTensor" in tensors:
        one = graph.cast(graph.input(op, "ValueTensor"), dtype)
    else:
        one = graph.constant(number.reshape(1), "value")
    return graph.emit("Expand", [one, graph.vector(op, "shape", "ShapeTensor", "ShapeTensorList")])


def _number(text: str) -> float | int:
    """Read a number as Paddle writes it: an integer of 64 bits doesn't fit into a float."""
    try:
        return int(text)
    except ValueError:
        return float(text)


@converter("fill_any_like")
def _fill_like(op: Operation, graph: GraphBuilder) -> ir.Value:
    one = graph.constant(np.asarray(op.attributes.get("value", 0.0), graph.dtype(op)).reshape(1), "value")
    return graph.emit("Expand", [one, graph.emit("Shape", [graph.input(op)])])


@converter("assign_value")
def _assign_value(op: Operation, graph: GraphBuilder) -> ir.Value:
    dtype = graph.dtype(op)
    keys = ("values", "fp32_values", "int32_values", "int64_values", "bool_values", "fp64_values")
    values: list[float] = next((op.attributes[key] for key in keys if op.attributes.get(key)), [])
    return graph.constant(np.asarray(values).astype(dtype).reshape(graph.integers(op, "shape")), "values")


@converter("integers")
def _integers(op: Operation, graph: GraphBuilder) -> ir.Value:
    """PIR's ``full_int_array`` where an operator takes it as a tensor."""
    return graph.constant(np.asarray(op.attributes["value"], graph.dtype(op)), "integers")


@converter("range")
def _range(op: Operation, graph: GraphBuilder) -> ir.Value:
    flat = [
        graph.emit("Reshape", [graph.input(op, slot), graph.constant(np.zeros(0, np.int64), "axes")])
        for slot in ("Start", "End", "Step")
    ]
    return graph.emit("Range", flat)
