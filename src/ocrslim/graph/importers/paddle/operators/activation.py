"""Activations, and what else maps each element on its own."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []

_ALIKE: Mapping[str, str] = MappingProxyType(
    {
        "abs": "Abs",
        "ceil": "Ceil",
        "cos": "Cos",
        "erf": "Erf",
        "exp": "Exp",
        "floor": "Floor",
        "log": "Log",
        "logical_not": "Not",
        "mish": "Mish",
        "reciprocal": "Reciprocal",
        "relu": "Relu",
        "round": "Round",
        "sigmoid": "Sigmoid",
        "sign": "Sign",
        "sin": "Sin",
        "sqrt": "Sqrt",
        "tanh": "Tanh",
    }
)


@converter(*_ALIKE)
def _alike(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit(_ALIKE[op.type], [graph.input(op)])


def _scalar(graph: GraphBuilder, op: Operation, number: float, kind: str) -> ir.Value:
    """A number in the type of the operation's output."""
    return graph.constant(np.asarray(number, graph.dtype(op)), kind)


@converter("rsqrt")
def _rsqrt(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Reciprocal", [graph.emit("Sqrt", [graph.input(op)])])


@converter("square")
def _square(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Mul", [graph.input(op), graph.input(op)])


@converter("pow")
def _pow(op: Operation, graph: GraphBuilder) -> ir.Value:
    if graph.has(op, "FactorTensor"):
        return graph.emit("Pow", [graph.input(op), graph.input(op, "FactorTensor")])
    return graph.emit("Pow", [graph.input(op), _scalar(graph, op, op.attributes.get("factor", 1.0), "factor")])


@converter("relu6")
def _relu6(op: Operation, graph: GraphBuilder) -> ir.Value:
    top = op.attributes.get("threshold", 6.0)
    return graph.emit("Clip", [graph.input(op), _scalar(graph, op, 0.0, "min"), _scalar(graph, op, top, "max")])


@converter("clip")
def _clip(op: Operation, graph: GraphBuilder) -> ir.Value:
    bounds = []
    for slot, attribute in (("Min", "min"), ("Max", "max")):
        if graph.has(op, slot):
            bounds.append(graph.emit("Reshape", [graph.input(op, slot), graph.constant(np.zeros(0, np.int64), "axes")]))
        else:
            bounds.append(_scalar(graph, op, op.attributes[attribute], attribute))
    return graph.emit("Clip", [graph.input(op), *bounds])


@converter("hard_sigmoid")
def _hard_sigmoid(op: Operation, graph: GraphBuilder) -> ir.Value:
    attributes = {"alpha": op.attributes.get("slope", 0.2), "beta": op.attributes.get("offset", 0.5)}
    return graph.emit("HardSigmoid", [graph.input(op)], attributes)


@converter("hard_swish")
def _hard_swish(op: Operation, graph: GraphBuilder) -> ir.Value:
    # x * min(max(0, x + offset), threshold) / scale
    x = graph.input(op)
    offset, threshold, scale = (
        op.attributes.get(key, default) for key, default in (("offset", 3.0), ("threshold", 6.0), ("scale", 6.0))
    )
    if (offset, threshold, scale) == (3.0, 6.0, 6.0):
        return graph.emit("HardSwish", [x])
    shifted = graph.emit("Add", [x, _scalar(graph, op, offset, "offset")])
    zero, top = _scalar(graph, op, 0.0, "zero"), _scalar(graph, op, threshold, "threshold")
    gate = graph.emit("Clip", [shifted, zero, top])
    return graph.emit("Div", [graph.emit("Mul", [x, gate]), _scalar(graph, op, scale, "scale")])


@converter("swish", "silu")
def _swish(op: Operation, graph: GraphBuilder) -> ir.Value:
    x = graph.input(op)
    beta = op.attributes.get("beta", 1.0)
    inner = x if beta == 1.0 else graph.emit("Mul", [x, _scalar(graph, op, beta, "beta")])
    return graph.emit("Mul", [x, graph.emit("Sigmoid", [inner])])


@converter("gelu")
def _gelu(op: Operation, graph: GraphBuilder) -> ir.Value:
    approximate = "tanh" if op.attributes.get("approximate", False) else "none"
    return graph.emit("Gelu", [graph.input(op)], {"approximate": approximate})


@converter("leaky_relu")
def _leaky_relu(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("LeakyRelu", [graph.input(op)], {"alpha": op.attributes.get("alpha", 0.02)})


@converter("elu")
def _elu(op: Operation, graph: GraphBuilder) -> ir.Value:
    return graph.emit("Elu", [graph.input(op)], {"alpha": op.attributes.get("alpha", 1.0)})


@converter("softplus")
def _softplus(op: Operation, graph: GraphBuilder) -> ir.Value:
    # Above its threshold Paddle returns x itself, from which log(1 + e^x) differs by less than 3e-9 at 20.
    if op.attributes.get("beta", 1.0) != 1.0:
        raise op.error("beta must be 1")
    return graph.emit("Softplus", [graph.input(op)])


@converter("prelu")
def _prelu(op: Operation, graph: GraphBuilder) -> ir.Value:
    if op.attributes.get("mode") == "element" or op.attributes.get("data_format", "NCHW") not in ("NCHW", "AnyLayout"):
        raise op.error("only the modes all and channel, in NCHW, can be converted")
    slope = graph.constant([-1] + [1] * (graph.rank(op) - 2), "shape")
    return graph.emit("PRelu", [graph.input(op), graph.emit("Reshape", [graph.input(op, "Alpha"), slope])])


@converter("softmax", "log_softmax")
def _softmax(op: Operation, graph: GraphBuilder) -> ir.Value:
    kind = "Softmax" if op.type == "softmax" else "LogSoftmax"
    return graph.emit(kind, [graph.input(op)], {"axis": op.attributes.get("axis", -1)})


@converter("dropout")
def _dropout(op: Operation, graph: GraphBuilder) -> ir.Value:
    # A deployed dropout does nothing, unless the model was trained without scaling up what is left.
    x = graph.input(op)
    if op.attributes.get("dropout_implementation", "downgrade_in_infer") == "upscale_in_train":
        return x
    return graph.emit("Mul", [x, _scalar(graph, op, 1.0 - op.attributes.get("dropout_prob", 0.5), "kept")])
