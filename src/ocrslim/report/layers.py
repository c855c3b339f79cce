"""How many bytes of an ONNX file belong to which layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from ocrslim.graph.importers.onnx import load_onnx

__all__ = ["Layer", "layer_sizes"]

# Their constants belong to the layer that reads what they make; the place in a chain of them is of no interest.
PASSED = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Reshape", "Transpose", "Unsqueeze", "Identity"})
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
FLOAT32_BYTES = 4


@dataclass
class Layer:
    """What the constants of one node take.

    Args:
        node: its name.
        op: its operator.
        bytes: of all constants that only it, or what leads to it, reads.
        float_bytes: of the same constants in float32, without scales and zero points.
        dtype: of the largest of them.
    """

    node: str
    op: str
    bytes: int = 0
    float_bytes: int = 0
    dtype: str = ""
    _largest: int = field(default=-1, init=False, repr=False)

    def add(self, count: int, values: int, dtype: str, is_parameter: bool) -> None:
        """Count one constant.

        Args:
            count: its bytes.
            values: its elements.
            dtype: their type.
            is_parameter: whether it is a scale or a zero point, which a float model has not.
        """
        self.bytes += count
        if not is_parameter:
            self.float_bytes += FLOAT32_BYTES * values
        if count > self._largest:
            self._largest, self.dtype = count, dtype


def layer_sizes(path: Path) -> list[Layer]:
    """Return the layers of a model that have constants, the largest first.

    Args:
        path: an ONNX file.

    Raises:
        ModelError: it can't be read.
    """
    layers: dict[ir.Node, Layer] = {}
    for value, tensor in _constants(load_onnx(path).graph):
        uses = list(value.uses())
        if not uses:
            continue
        reader, place = uses[0]
        node = _reader(reader)
        layer = layers.setdefault(node, Layer(node.name or "", node.op_type))
        is_parameter = reader.op_type in QUANTIZERS and place > 0
        layer.add(tensor.nbytes, tensor.size, tensor.dtype.name.lower(), is_parameter)
    return sorted(layers.values(), key=lambda layer: (-layer.bytes, layer.node))


def _constants(graph: ir.Graph) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Yield the initializers, and the tensors of Constant nodes, with the value that nodes read."""
    for value in graph.initializers.values():
        if value.const_value is not None:
            yield value, value.const_value
    for node in graph:
        tensor = node.attributes.get("value") if node.op_type == "Constant" else None
        if tensor is not None and tensor.type == ir.AttributeType.TENSOR:
            yield node.outputs[0], tensor.as_tensor()


def _reader(node: ir.Node) -> ir.Node:
    """Return the layer behind a chain of nodes that only hand a value on."""
    while node.op_type in PASSED:
        readers = list(node.outputs[0].consumers())
        if not readers:
            break
        node = readers[0]
    return node
