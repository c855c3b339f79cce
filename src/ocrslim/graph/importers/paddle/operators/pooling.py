"""Pooling: windows, the whole map, and "adaptive" pooling to a given number of cells."""

from __future__ import annotations

import onnx_ir as ir

from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Operation
from ocrslim.graph.importers.paddle.operators.convolution import padding
from ocrslim.graph.importers.paddle.registry import converter

__all__: list[str] = []


@converter("pool2d", "max_pool2d_with_index")
def _pool(op: Operation, graph: GraphBuilder) -> ir.Value:
    kind = "max" if op.type == "max_pool2d_with_index" else op.attributes.get("pooling_type", "max")
    name = {"max": "MaxPool", "avg": "AveragePool"}[kind]
    size = graph.integers(op, "ksize")
    size = size * 2 if len(size) == 1 else size
    if op.attributes.get("global_pooling", False) or (op.attributes.get("adaptive", False) and size == [1, 1]):
        return graph.emit(f"Global{name}", [graph.input(op)])
    if op.attributes.get("adaptive", False):
        return _adaptive(op, graph, name, size)
    attributes = padding(op, graph) | {
        "kernel_shape": size,
        "strides": graph.integers(op, "strides", [1, 1]),
        "ceil_mode": int(op.attributes.get("ceil_mode", False)),
    }
    if name == "AveragePool":
        attributes["count_include_pad"] = int(not op.attributes.get("exclusive", True))
    return graph.emit(name, [graph.input(op)], attributes)


def _adaptive(op: Operation, graph: GraphBuilder, name: str, cells: list[int]) -> ir.Value:
    """Pool to ``cells``: windows of one size do it where the map's size is known and a multiple of that."""
    height, width = (graph.shape(op.inputs["X"][0]) or (-1, -1))[-2:]
    kernel = []
    for size, count in zip((height, width), cells, strict=True):
        if size <= 0 or size % count:
            raise op.error(f"adaptive pooling of {height}x{width} (-1: open) to {cells} has no ONNX counterpart")
        kernel.append(size // count)
    return graph.emit(name, [graph.input(op)], {"kernel_shape": kernel, "strides": kernel})
