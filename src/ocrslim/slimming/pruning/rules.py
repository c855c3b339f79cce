"""How each operator carries channels on: the rules that :class:`ocrslim.slimming.pruning.trace.Trace` applies.

Each rule joins the labels of its inputs, labels the axes of its weights and writes the layouts of its outputs. A
convolution begins new channels; what works channel by channel hands on those that it reads.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ocrslim.graph.passes.base import array_of, attribute
from ocrslim.slimming.pruning.labels import LabelArray
from ocrslim.slimming.pruning.trace import Trace, rule

__all__ = ["axes_of"]


def axes_of(node: ir.Node, rank: int) -> list[int] | None:
    """Return the axes that a node's second input or its attribute names, from 0; ``None`` where it names none."""
    axes = array_of(node.inputs[1]) if len(node.inputs) > 1 else None
    named = axes.tolist() if axes is not None else attribute(node, "axes", None)
    return None if named is None else sorted(axis % rank for axis in named)


@rule("Conv")
def _conv(trace: Trace, node: ir.Node) -> None:
    """With groups, either each input channel has its own filters, or all groups lose the same channels."""
    x, weight = _value(node, 0), _value(node, 1)
    groups, depth = attribute(node, "group", 1), trace.shape(weight)[1]
    inputs = trace.at(x, 1)
    made = trace.at(weight, 0, "passes" if groups > 1 and depth == 1 else "makes")
    if groups == 1:
        trace.labels.join(trace.at(weight, 1, "reads"), inputs)
    elif depth == 1:
        trace.labels.join(made.reshape(groups, -1), inputs[:, None])
    else:
        rows = inputs.reshape(groups, depth)
        trace.labels.join(rows, rows[:1])
        trace.labels.join(trace.at(weight, 1, "reads"), rows[0])
        filters = made.reshape(groups, -1)
        trace.labels.join(filters, filters[:1])
    _channels(trace, node, made, bias=2)


@rule("ConvTranspose")
def _conv_transpose(trace: Trace, node: ir.Node) -> None:
    """The weight is [inputs, outputs of a group, h, w]."""
    x, weight = _value(node, 0), _value(node, 1)
    groups = attribute(node, "group", 1)
    inputs = trace.at(x, 1)
    if groups == 1:
        trace.labels.join(trace.at(weight, 0, "reads"), inputs)
        _channels(trace, node, trace.at(weight, 1, "makes"), bias=2)
    elif groups == len(inputs):
        trace.labels.join(trace.at(weight, 0, "passes"), inputs)
        made = np.repeat(inputs, trace.shape(weight)[1])
        _channels(trace, node, made, bias=2)
    else:
        trace.fix(node, "a transposed convolution in groups")


@rule("BatchNormalization")
def _batch_norm(trace: Trace, node: ir.Node) -> None:
    labels = trace.at(_value(node, 0), 1)
    for value in node.inputs[1:]:
        if value is not None:
            trace.labels.join(trace.at(value, 0, "passes"), labels)
    _channels(trace, node, labels)


@rule("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool", "Resize")
def _spatial(trace: Trace, node: ir.Node) -> None:
    """What works within each channel's plane keeps the channels."""
    labels = trace.layout(_value(node, 0))[1]
    if labels is not None:
        _channels(trace, node, labels)


@rule(
    *("Abs", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh"),
)
def _unary(trace: Trace, node: ir.Node) -> None:
    trace.layouts[str(node.outputs[0].name)] = list(trace.layout(_value(node, 0)))


@rule("Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")
def _elementwise(trace: Trace, node: ir.Node) -> None:
    """Channels that meet become one; what is broadcast along them does not matter."""
    values = [value for value in node.inputs if value is not None]
    _broadcast(trace, values, node.outputs[0], len(trace.shape(node.outputs[0])))


@rule("Softmax", "LogSoftmax")
def _softmax(trace: Trace, node: ir.Node) -> None:
    layout = trace.layout(_value(node, 0))
    labels = layout[attribute(node, "axis", -1)]
    if labels is not None:
        trace.labels.fix(labels, f"{node.op_type} {node.name}: each channel's share depends on all")
    _unary(trace, node)


@rule("LayerNormalization")
def _layer_norm(trace: Trace, node: ir.Node) -> None:
    """Along the last axis the mean of fewer channels is another mean: the smaller model is near, not equal."""
    x = _value(node, 0)
    rank = len(trace.shape(x))
    if attribute(node, "axis", -1) % rank != rank - 1:
        trace.fix(node, "it normalizes several axes")
        return
    labels = trace.layout(x)[-1]
    if labels is not None:
        for value in node.inputs[1:]:
            if value is not None:
                trace.labels.join(trace.at(value, 0, "passes"), labels)
    _unary(trace, node)


@rule("MatMul")
def _matmul(trace: Trace, node: ir.Node) -> None:
    """The last axis of the first input meets the last but one of the second; a constant second one is a layer."""
    first, second, out = _value(node, 0), _value(node, 1), node.outputs[0]
    if min(len(trace.shape(first)), len(trace.shape(second))) < 2:
        trace.fix(node, "a product with a vector")
        return
    constant = array_of(second) is not None and len(trace.shape(second)) == 2
    if constant:
        trace.labels.join(trace.at(second, 0, "reads"), trace.at(first, -1))
        trace.at(second, 1, "makes")
    elif trace.layout(first)[-1] is not None or trace.layout(second)[-2] is not None:
        trace.labels.join(trace.at(first, -1), trace.at(second, -2))
    _broadcast(trace, [first, second], out, len(trace.shape(out)) - 2)
    trace.layout(out)[-2:] = [trace.layout(first)[-2], trace.layout(second)[-1]]


@rule("Gemm")
def _gemm(trace: Trace, node: ir.Node) -> None:
    first, second = _value(node, 0), _value(node, 1)
    turned = attribute(node, "transB", 0)
    if attribute(node, "transA", 0) or array_of(second) is None:
        trace.fix(node, "no layer with constant weights")
        return
    trace.labels.join(trace.at(second, 1 if turned else 0, "reads"), trace.at(first, 1))
    made = trace.at(second, 0 if turned else 1, "makes")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and trace.shape(bias)[-1:] == made.shape:
        trace.labels.join(trace.at(bias, -1, "makes"), made)
    trace.layouts[str(node.outputs[0].name)] = [None, made]


@rule("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
def _reduce(trace: Trace, node: ir.Node) -> None:
    x = _value(node, 0)
    layout = trace.layout(x)
    axes = axes_of(node, len(layout))
    reduced = range(len(layout)) if axes is None else axes
    for axis in reduced:
        labels = layout[axis]
        if labels is not None:
            trace.labels.fix(labels, f"{node.op_type} {node.name}: it sums up over channels")
    left = [None if axis in reduced else labels for axis, labels in enumerate(layout)]
    if not attribute(node, "keepdims", 1):
        left = [labels for axis, labels in enumerate(left) if axis not in reduced]
    trace.layouts[str(node.outputs[0].name)] = left


@rule("Concat")
def _concat(trace: Trace, node: ir.Node) -> None:
    """Along its axis channels are strung together, along all others they meet."""
    values = [value for value in node.inputs if value is not None]
    out = node.outputs[0]
    rank = len(trace.shape(out))
    along = attribute(node, "axis", 0) % rank
    for axis in range(rank):
        if all(trace.layout(value)[axis] is None for value in values):
            continue
        parts = [trace.at(value, axis) for value in values]
        if axis == along:
            trace.layout(out)[axis] = np.concatenate(parts)
        else:
            for part in parts[1:]:
                trace.labels.join(parts[0], part)
            trace.layout(out)[axis] = parts[0]


def _value(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None  # the schema demands it
    return value


def _channels(trace: Trace, node: ir.Node, labels: LabelArray, bias: int | None = None) -> None:
    """Give axis 1 of the output its labels, and those to the bias."""
    trace.layout(node.outputs[0])[1] = labels
    if bias is not None and len(node.inputs) > bias and node.inputs[bias] is not None:
        trace.labels.join(trace.at(_value(node, bias), 0, "makes"), labels)


def _broadcast(trace: Trace, values: list[ir.Value], out: ir.Value, axes: int) -> None:
    """Join the labels that meet on each of the first ``axes`` axes of an output that its inputs are broadcast to."""
    rank = len(trace.shape(out))
    for axis in range(axes):
        size = trace.shape(out)[axis]
        meeting = []
        for value in values:
            own = axis - rank + len(trace.shape(value))
            if own >= 0 and trace.shape(value)[own] == size:
                meeting.append((value, own))
        if all(trace.layout(value)[own] is None for value, own in meeting):
            continue
        labels = [trace.at(value, own, "passes") for value, own in meeting]
        for other in labels[1:]:
            trace.labels.join(labels[0], other)
        trace.layout(out)[axis] = labels[0]
