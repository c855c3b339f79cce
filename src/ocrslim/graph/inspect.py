"""Facts about a model: what it is made of and what one image costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common

from ocrslim.errors import ModelError
from ocrslim.graph.passes.base import attribute
from ocrslim.graph.passes.canonical import canonicalize, refuse_negative_sizes

__all__ = ["count_macs", "describe", "node_macs"]

DET_SHAPE = (1, 3, 640, 640)
REC_WIDTH = 320


def describe(model: ir.Model, shape: Sequence[int] | None = None) -> dict[str, Any]:
    """Return facts about a model as plain values.

    Args:
        model: as loaded; not changed.
        shape: of the input that multiplications are counted for; by default ``[1, 3, 48, 320]`` where the model's
            height is 48 or its output has three axes, else ``[1, 3, 640, 640]``.

    Returns:
        dict: ``opset``, ``ir_version``, ``producer``, ``inputs`` and ``outputs`` (name and shape, an open size by name
        or ``None``), ``nodes``, ``operators`` (nodes by operator, most frequent first), ``parameters`` (floating and
        8-bit constants), ``convolutions`` (by kind), ``shape`` and ``macs`` (multiply-accumulates of convolutions and
        matrix products for that shape, ``None`` where sizes can't be inferred), ``metadata`` (its keys).
    """
    operators = Counter(node.op_type for node in model.graph if node.op_type != "Constant")
    chosen = tuple(shape) if shape is not None else _default_shape(model)
    return {
        "opset": model.graph.opset_imports.get("", 0),
        "ir_version": model.ir_version,
        "producer": model.producer_name,
        "inputs": [_value(value) for value in model.graph.inputs if not value.is_initializer()],
        "outputs": [_value(value) for value in model.graph.outputs],
        "nodes": sum(operators.values()),
        "operators": dict(operators.most_common()),
        "parameters": _parameters(model),
        "convolutions": _convolutions(model),
        "shape": list(chosen),
        "macs": count_macs(model, chosen),
        "metadata": sorted(model.metadata_props),
    }


def count_macs(model: ir.Model, shape: Sequence[int]) -> int | None:
    """Return the multiply-accumulates of convolutions and matrix products, one multiplication with its addition as one.

    A convolution costs its output's elements times the weights that each reads; a transposed one its input's elements
    times the weights that each meets; a matrix product its output's elements times the length of the sums.

    Args:
        model: not changed.
        shape: of the input.

    Returns:
        int | None: ``None`` where a size can't be inferred.
    """
    found = node_macs(model, shape)
    return None if found is None else sum(found.values())


def node_macs(model: ir.Model, shape: Sequence[int]) -> dict[str, int] | None:
    """Return the multiply-accumulates of each convolution and matrix product, by name; see :func:`count_macs`.

    Args:
        model: not changed.
        shape: of the input.

    Returns:
        dict | None: in the order of the canonical graph; ``None`` where a size can't be inferred.
    """
    try:
        fixed = canonicalize(model)
        fixed.graph.inputs[0].shape = ir.Shape(tuple(shape))
        for value in (*(value for node in fixed.graph for value in node.outputs),):
            value.shape = None
        refuse_negative_sizes(fixed)
    except ModelError:
        return None
    common.ShapeInferencePass()(fixed)
    found: dict[str, int] = {}
    for node in fixed.graph:
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            cost = _macs(node)
            if cost is None:
                return None
            found[str(node.name)] = cost
    return found


def _macs(node: ir.Node) -> int | None:
    first, second, output = _sizes(node.inputs[0]), _sizes(node.inputs[1]), _sizes(node.outputs[0])
    if first is None or second is None or output is None:
        return None
    if node.op_type == "Conv":
        return math.prod(output) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    depth = first[0] if attribute(node, "transA", 0) else first[-1]
    return math.prod(output) * depth


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    shape = None if value is None else value.shape
    return shape.numpy() if shape is not None and shape.is_static() else None


def _default_shape(model: ir.Model) -> tuple[int, ...]:
    given, made = model.graph.inputs[0].shape, model.graph.outputs[0].shape
    height = given[2] if given is not None and len(given) == 4 else None
    if isinstance(height, int) and height > 0:
        return (1, 3, height, REC_WIDTH)
    return (1, 3, 48, REC_WIDTH) if made is not None and len(made) == 3 else DET_SHAPE


def _value(value: ir.Value) -> dict[str, Any]:
    sizes: list[int | str | None] = []
    for size in value.shape or ():
        name = None if isinstance(size, int) or size.value == "?" else size.value
        sizes.append(size if isinstance(size, int) and size >= 0 else name)
    return {"name": value.name, "shape": sizes}


def _parameters(model: ir.Model) -> int:
    """Count the elements of constants that are floating or of 8 bits; shapes and axes are integers of 64."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    tensors += [ir.convenience.get_const_tensor(node.outputs[0]) for node in model.graph if node.op_type == "Constant"]
    counted = [tensor for tensor in tensors if tensor is not None and tensor.dtype != ir.DataType.STRING]
    return sum(tensor.size for tensor in counted if tensor.dtype.is_floating_point() or tensor.dtype.itemsize == 1)


def _convolutions(model: ir.Model) -> dict[str, int]:
    """Count convolutions: depthwise (one input channel each), pointwise (1 x 1), transposed, full."""
    kinds = dict.fromkeys(("full", "pointwise", "depthwise", "transposed"), 0)
    for node in model.graph:
        if node.op_type == "ConvTranspose":
            kinds["transposed"] += 1
        if node.op_type != "Conv":
            continue
        weight = _sizes(node.inputs[1])
        sizes = attribute(node, "kernel_shape", weight[2:] if weight is not None else ())
        if attribute(node, "group", 1) > 1:
            kinds["depthwise"] += 1
        else:
            kinds["pointwise" if sizes and all(size == 1 for size in sizes) else "full"] += 1
    return kinds
