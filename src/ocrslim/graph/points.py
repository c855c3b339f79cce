"""Where a student can be compared with its teacher, found from the graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ocrslim.errors import ModelError
from ocrslim.graph.passes.base import attribute

__all__ = ["DistillationPoints", "distillation_points", "layer_points"]

FINAL = ("Sigmoid", "Softmax")
LINEAR = ("Gemm", "MatMul")
STRIDED = ("AveragePool", "Conv", "MaxPool")
STAGES = 3  # at most; earlier ones are large and say little


@dataclass(frozen=True)
class DistillationPoints:
    """Names of values of the canonical graph.

    Args:
        logits: before the final Softmax ``[N, T, classes]`` or Sigmoid ``[N, 1, H, W]``.
        features: the input of a recogniser's last linear layer or a detector's fused map, then the ends of up to three
            stages of the backbone, the deepest first.
    """

    logits: str
    features: tuple[str, ...]


def distillation_points(model: ir.Model) -> DistillationPoints:
    """Find the points of a canonical graph.

    1. The logits are what the final Softmax or Sigmoid reads; the output itself where there is none.
    2. Behind them, the first feature is what the last constant-weight MatMul or Gemm reads (rec) or the last Concat
       makes (det), whichever is nearer to the output.
    3. A stage ends where a strided convolution or pooling reads; the graph's input ends none.

    Args:
        model: see :func:`ocrslim.graph.passes.canonical.canonicalize`.

    Raises:
        ModelError: the graph has several outputs, or its output is its input.
    """
    if len(model.graph.outputs) != 1:
        raise ModelError(f"the model has {len(model.graph.outputs)} outputs; a PP-OCR model has one")
    output = model.graph.outputs[0]
    last = output.producer()
    if last is None:
        raise ModelError(f"the output {output.name!r} is made by no node")
    logits = last.inputs[0] if last.op_type in FINAL else output
    assert logits is not None
    names = [] if (feature := _last_feature(logits)) is None else [feature]
    names += [name for name in reversed(_stage_ends(model)) if name not in names][:STAGES]
    return DistillationPoints(str(logits.name), tuple(name for name in names if name != logits.name))


def layer_points(model: ir.Model) -> tuple[str, ...]:
    """Return the features of :func:`distillation_points`, and what each convolution behind the first of them makes.

    Depthwise ones are left out: what they make is read by one that is there.

    Args:
        model: canonical.

    Raises:
        ModelError: as :func:`distillation_points`.
    """
    features = distillation_points(model).features
    found, begun = dict.fromkeys(features), False
    for node in model.graph:
        if begun and node.op_type == "Conv" and attribute(node, "group", 1) == 1:
            found[str(node.outputs[0].name)] = None
        begun = begun or any(value.name in features for value in node.outputs)
    return tuple(found)


def _last_feature(logits: ir.Value) -> str | None:
    """Walk backwards from the logits, breadth first (rule 2)."""
    pending = [logits]
    seen: set[ir.Value] = set()
    while pending:
        value = pending.pop(0)
        node = value.producer()
        if node is None or value in seen:
            continue
        seen.add(value)
        if node.op_type == "Concat" and value.name:
            return value.name
        first = node.inputs[0]
        if node.op_type in LINEAR and first is not None and _is_constant(node.inputs[1]):
            return first.name
        pending += [item for item in node.inputs if item is not None]
    return None


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def _stage_ends(model: ir.Model) -> list[str]:
    """Return the values that strided nodes read, in the graph's order (rule 3)."""
    names: dict[str, None] = {}
    for node in model.graph:
        strides = node.attributes.get("strides")
        value = node.inputs[0] if node.inputs else None
        if node.op_type not in STRIDED or strides is None or value is None or value.is_graph_input():
            continue
        if any(stride > 1 for stride in strides.as_ints()) and value.name:
            names[value.name] = None
    return list(names)
