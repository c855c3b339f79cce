"""Batch, layer, instance and group normalization of a deployed model."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []


@converter("batch_norm", "sync_batch_norm")
def _batch_norm(op: Operation, graph: GraphBuilder) -> ir.Value:
    if op.attributes.get("data_layout", "NCHW") not in ("NCHW", "AnyLayout"):
        raise op.error("only NCHW can be converted")
    if not op.attributes.get("is_test", True) and not op.attributes.get("use_global_stats", False):
        raise op.error("it is in training mode; export the model after model.eval()")
    inputs = [graph.input(op, slot) for slot in ("X", "Scale", "Bias", "Mean", "Variance")]
    return graph.emit("BatchNormalization", inputs, {"epsilon": op.attributes.get("epsilon", 1e-5)})


@converter("layer_norm")
def _layer_norm(op: Operation, graph: GraphBuilder) -> ir.Value:
    axis = op.attributes.get("begin_norm_axis", 1)
    rank = graph.rank(op)
    sizes = [int(size) for size in (graph.shape(op.inputs["X"][0]) or ())[axis:]]
    if any(size < 0 for size in sizes):
        raise op.error("normalizes over an open axis")
    parts: list[ir.Value | None] = [graph.input(op)]
    for slot, neutral in (("Scale", np.ones), ("Bias", np.zeros)):
        if not graph.has(op, slot):
            parts.append(graph.constant(neutral(sizes, graph.dtype(op)), slot.lower()) if slot == "Scale" else None)
        elif axis == rank - 1:
            parts.append(graph.input(op, slot))
        else:  # Paddle keeps them flat
            parts.append(graph.emit("Reshape", [graph.input(op, slot), graph.constant(sizes, "shape")]))
    attributes = {"axis": axis - rank, "epsilon": op.attributes.get("epsilon", 1e-5)}
    return graph.emit("LayerNormalization", parts if parts[-1] is not None else parts[:-1], attributes)


@converter("instance_norm")
def _instance_norm(op: Operation, graph: GraphBuilder) -> ir.Value:
    channels = (graph.shape(op.inputs["X"][0]) or (-1, -1))[1]
    parts = [graph.input(op)]
    for slot, neutral in (("Scale", np.ones), ("Bias", np.zeros)):
        if graph.has(op, slot):
            parts.append(graph.input(op, slot))
        elif channels > 0:
            parts.append(graph.constant(neutral(channels, graph.dtype(op)), slot.lower()))
        else:
            raise op.error("its number of channels is not known")
    return graph.emit("InstanceNormalization", parts, {"epsilon": op.attributes.get("epsilon", 1e-5)})


@converter("group_norm")
def _group_norm(op: Operation, graph: GraphBuilder) -> ir.Value:
    """Normalize each group as one instance, then scale and shift the channels: ``[N, groups, -1]`` on the way."""
    shape = graph.shape(op.inputs["X"][0]) or ()
    groups = op.attributes.get("groups", 1)
    if op.attributes.get("data_layout", "NCHW") not in ("NCHW", "AnyLayout") or len(shape) < 3 or shape[1] <= 0:
        raise op.error("only NCHW with a known number of channels can be converted")
    dtype = graph.dtype(op)
    x = graph.input(op)
    flat = graph.emit("Reshape", [x, graph.constant([0, groups, -1], "groups")])
    ones, zeros = graph.constant(np.ones(groups, dtype), "ones"), graph.constant(np.zeros(groups, dtype), "zeros")
    epsilon = {"epsilon": op.attributes.get("epsilon", 1e-5)}
    normal = graph.emit("InstanceNormalization", [flat, ones, zeros], epsilon)
    y = graph.emit("Reshape", [normal, graph.emit("Shape", [x])])
    along = graph.constant([-1] + [1] * (len(shape) - 2), "shape")
    for slot, op_type in (("Scale", "Mul"), ("Bias", "Add")):
        if graph.has(op, slot):
            y = graph.emit(op_type, [y, graph.emit("Reshape", [graph.input(op, slot), along])])
    return y
