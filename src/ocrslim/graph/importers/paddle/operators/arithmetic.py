"""Sums, products and comparisons of two tensors, matrix products and reductions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []

_BINARY: Mapping[str, str] = MappingProxyType(
    {
        "elementwise_add": "Add",
        "elementwise_sub": "Sub",
        "elementwise_mul": "Mul",
        "elementwise_div": "Div",
        "elementwise_max": "Max",
        "elementwise_min": "Min",
        "elementwise_pow": "Pow",
        "equal": "Equal",
        "greater_equal": "GreaterOrEqual",
        "greater_than": "Greater",
        "less_equal": "LessOrEqual",
        "less_than": "Less",
        "logical_and": "And",
        "logical_or": "Or",
    }
)
_REDUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "mean": "ReduceMean",
        "reduce_max": "ReduceMax",
        "reduce_mean": "ReduceMean",
        "reduce_min": "ReduceMin",
        "reduce_prod": "ReduceProd",
        "reduce_sum": "ReduceSum",
    }
)


def _aligned(op: Operation, graph: GraphBuilder) -> tuple[ir.Value, ir.Value]:
    """Return X and Y so that ONNX's broadcasting, from the last axis on, does what Paddle's ``axis`` says.

    Axis k of Y lies at axis ``axis + k`` of X; -1 aligns the last ones. X [N, C, H, W], Y [C], axis 1: Y becomes
    [C, 1, 1].
    """
    x, y = graph.input(op), graph.input(op, "Y")
    axis = op.attributes.get("axis", -1)
    if axis == -1:
        return x, y
    missing = graph.rank(op) - axis - graph.rank(op, "Y")
    if missing <= 0:
        return x, y
    ones = graph.axes_before(op, missing)
    shape = graph.constant([0] * graph.rank(op, "Y") + [1] * ones, "shape")
    return x, graph.emit("Reshape", [y, shape])


@converter(*_BINARY)
def _binary(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit(_BINARY[op.type], _aligned(op, graph))


@converter("elementwise_floordiv")
def _floor_divide(op: Operation, graph: GraphBuilder) -> ir.Value:
    quotient = graph.emit("Div", _aligned(op, graph))
    # Whole numbers here are sizes, which are not negative: there rounding to zero is rounding down.
    return graph.emit("Floor", [quotient]) if np.issubdtype(graph.dtype(op), np.floating) else quotient


@converter("elementwise_mod")
def _modulo(op: Operation, graph: GraphBuilder) -> ir.Value:
    if np.issubdtype(graph.dtype(op), np.floating):
        raise op.error("only whole numbers can be converted")
    return graph.emit("Mod", _aligned(op, graph))


@converter("not_equal")
def _not_equal(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Not", [graph.emit("Equal", _aligned(op, graph))])


@converter("sum")
def _sum(op: Operation, graph: GraphBuilder) -> ir.Value:
    values = [graph.input(op, "X", index) for index in range(len(op.inputs.get("X", ())))]
    return values[0] if len(values) == 1 else graph.emit("Sum", values)


@converter("where")
def _where(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Where", [graph.input(op, "Condition"), graph.input(op), graph.input(op, "Y")])


@converter("scale")
def _scale(op: Operation, graph: GraphBuilder) -> ir.Value:
    dtype = graph.dtype(op)
    whole = not np.issubdtype(dtype, np.floating)
    x = graph.input(op)
    factor, bias = op.attributes.get("scale", 1.0), op.attributes.get("bias", 0.0)
    if whole and (factor != int(factor) or bias != int(bias)):
        raise op.error("whole numbers times a fraction can't be converted")
    by_tensor = graph.has(op, "ScaleTensor")
    steps = []
    if by_tensor or factor != 1.0:
        scale = graph.input(op, "ScaleTensor") if by_tensor else graph.constant(np.asarray(factor, dtype), "scale")
        steps.append(("Mul", scale))
    if bias != 0.0:
        steps.append(("Add", graph.constant(np.asarray(bias, dtype), "bias")))
    for op_type, operand in steps if op.attributes.get("bias_after_scale", True) else steps[::-1]:
        x = graph.emit(op_type, [x, operand])
    return x


def _transposed(graph: GraphBuilder, op: Operation, slot: str, wanted: bool) -> ir.Value:
    """Return an operand, its last two axes swapped if that is wanted."""
    value = graph.input(op, slot)
    rank = graph.rank(op, slot) if wanted else 0
    if rank < 2:
        return value
    return graph.emit("Transpose", [value], {"perm": [*range(rank - 2), rank - 1, rank - 2]})


@converter("matmul", "matmul_v2", "bmm")
def _matmul(op: Operation, graph: GraphBuilder) -> ir.Value:
    swap_x = op.attributes.get("trans_x", op.attributes.get("transpose_X", False))
    swap_y = op.attributes.get("trans_y", op.attributes.get("transpose_Y", False))
    product = graph.emit("MatMul", [_transposed(graph, op, "X", swap_x), _transposed(graph, op, "Y", swap_y)])
    alpha = op.attributes.get("alpha", 1.0)
    return product if alpha == 1.0 else graph.emit("Mul", [product, graph.constant(float(alpha), "alpha")])


@converter("mul", "fc")
def _linear(op: Operation, graph: GraphBuilder) -> ir.Value:
    """Matrix product of X, its axes from ``*_num_col_dims`` on flattened into one, with a matrix [in, out]."""
    x_slot, w_slot, key = ("X", "Y", "x_num_col_dims") if op.type == "mul" else ("Input", "W", "in_num_col_dims")
    columns = op.attributes.get(key, 1)
    if graph.rank(op, w_slot) != 2 or op.attributes.get("y_num_col_dims", 1) != 1:
        raise op.error("only a weight of two axes can be converted")
    x = graph.input(op, x_slot)
    rank = graph.rank(op, x_slot)
    if columns != rank - 1:
        before = graph.axes_before(op, columns)
        x = graph.emit("Reshape", [x, graph.constant([0] * before + [-1], "shape")])
    y = graph.emit("MatMul", [x, graph.input(op, w_slot)])
    if graph.has(op, "Bias"):
        y = graph.emit("Add", [y, graph.emit("Reshape", [graph.input(op, "Bias"), graph.constant([-1], "shape")])])
    if op.attributes.get("activation_type", "") == "relu":
        y = graph.emit("Relu", [y])
    elif op.attributes.get("activation_type", ""):
        raise op.error(f"its activation {op.attributes['activation_type']} can't be converted")
    return y


@converter(*_REDUCTIONS)
def _reduce(op: Operation, graph: GraphBuilder) -> ir.Value:
    axes = graph.integers(op, "dim", [])
    inputs = [graph.input(op)]
    if axes and not op.attributes.get("reduce_all", False):
        inputs.append(graph.constant(axes, "axes"))
    return graph.emit(_REDUCTIONS[op.type], inputs, {"keepdims": int(op.attributes.get("keep_dim", False))})


@converter("arg_max", "arg_min")
def _arg(op: Operation, graph: GraphBuilder) -> ir.Value:
    if op.attributes.get("flatten", False):
        raise op.error("only along one axis can be converted")
    attributes = {"axis": graph.integers(op, "axis", [-1])[0], "keepdims": int(op.attributes.get("keepdims", False))}
    found = graph.emit("ArgMax" if op.type == "arg_max" else "ArgMin", [graph.input(op)], attributes)
    return found if graph.dtype(op) == np.int64 else graph.cast(found, graph.dtype(op))
