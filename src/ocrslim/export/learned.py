"""What an ONNX file of ours holds, by the names of the model that it was made from: weights, biases and grids.

The other formats' writers read it here, so that they can be run on a finished folder as well as at the end of a
training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ocrslim.errors import ModelError
from ocrslim.graph.passes.base import array_of

__all__ = ["Bias", "Grid", "Learned", "read_learned"]

Array = NDArray[Any]

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
CONVOLUTIONS = ("Conv", "ConvTranspose")
ENDING = "_quantized"  # of an integer weight's name; see export/onnx_qdq.py


@dataclass(frozen=True)
class Grid:
    """A weight in integers, and how its operator's input becomes integers.

    Args:
        integers: int8, shape of the weight.
        scale: of each output channel, float32 ``[channels]``.
        axis: of the output channels.
        input_scale: of the operator's input.
        input_zero_point: of the operator's input.
        signed: the input becomes int8; uint8 otherwise.
        factors: what each input channel of a convolution is divided by before it becomes integers, and its weights
            multiplied, float32 ``[channels]``; ``None`` where all have one scale.
    """

    integers: Array
    scale: Array
    axis: int
    input_scale: float
    input_zero_point: int
    signed: bool
    factors: Array | None = None

    @property
    def weight(self) -> Array:
        """The real numbers that the integers stand for, float32."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.integers.ndim)]
        weight: Array = self.integers.astype(np.float32) * self.scale.astype(np.float32).reshape(shape)
        if self.factors is not None:
            inputs = 0 if self.integers.shape[1] == 1 else 1  # of a depthwise convolution the channels of the outputs
            weight = weight / self.factors.reshape([-1 if axis == inputs else 1 for axis in range(self.integers.ndim)])
        return weight


@dataclass(frozen=True)
class Bias:
    """What a convolution adds to its output.

    Args:
        name: of the constant.
        array: float32 ``[channels]``.
    """

    name: str
    array: Array


@dataclass(frozen=True)
class Learned:
    """Everything that a training can have changed: float constants, grids and biases.

    Args:
        floats: name of a float initializer -> the array. Biases of convolutions and quantized weights are not among
            them.
        grids: name of a weight -> its integers.
        biases: name of a convolution's weight -> its bias; ``None`` for a convolution without one.
        factors: name and value of each number that a value is multiplied with, in the order of the graph.
    """

    floats: Mapping[str, Array]
    grids: Mapping[str, Grid]
    biases: Mapping[str, Bias | None]
    factors: tuple[tuple[str, float], ...]


def read_learned(model: ir.Model) -> Learned:
    """Read a canonical model, float or as :func:`ocrslim.export.onnx_qdq.export_qdq` makes it.

    Raises:
        ModelError: the model is quantized in another way than ours.
    """
    grids: dict[str, Grid] = {}
    biases: dict[str, Bias | None] = {}
    factors: list[tuple[str, float]] = []
    apart: set[str] = set()
    for node in model.graph:
        if node.op_type in PRODUCTS:
            name = _read_product(node, grids, apart)
            if name and node.op_type in CONVOLUTIONS:
                bias = biases[name] = _read_bias(node)
                apart.update([bias.name] if bias else ())
        elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            apart.update(str(value.name) for value in node.inputs if value is not None and value.is_initializer())
        elif node.op_type == "Mul":
            for value in node.inputs:
                array = array_of(value)
                if array is not None and value is not None and array.size == 1:
                    factors.append((str(value.name), float(array.reshape(()))))
    floats = {}
    for name, value in model.graph.initializers.items():
        array = array_of(value)
        if array is not None and array.dtype.kind == "f" and name not in apart:
            floats[name] = array
    return Learned(floats, grids, biases, tuple(factors))


def _read_product(node: ir.Node, grids: dict[str, Grid], apart: set[str]) -> str | None:
    """Note a quantized weight; return the name of the weight, ``None`` where it is no constant."""
    weight = node.inputs[1]
    if weight is None or weight.is_initializer():
        return None if weight is None else str(weight.name)
    maker = weight.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    integers, scale = array_of(maker.inputs[0]), array_of(maker.inputs[1])
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if integers is None or scale is None or maker.inputs[0] is None or source is None:
        return None
    step, zero = (array_of(value) for value in (*source.inputs[1:3], None, None)[:2])
    named = str(maker.inputs[0].name)
    if source.op_type != "DequantizeLinear" or step is None or zero is None or not named.endswith(ENDING):
        raise ModelError(f"node {node.name!r} is quantized, but not by ocrslim; give a model.onnx that ocrslim wrote")
    name = named.removesuffix(ENDING)
    axis = maker.attributes.get("axis")
    grids[name] = Grid(
        integers,
        scale,
        1 if axis is None else int(axis.value),
        float(step.reshape(-1)[0]),
        int(zero.reshape(-1)[0]),
        zero.dtype == np.int8,
        _factors(source, step),
    )
    return name


def _factors(source: ir.Node, step: Array) -> Array | None:
    """Return the scale of each channel in the QuantizeLinear behind a DequantizeLinear, in units of the latter's."""
    maker = source.inputs[0].producer() if source.inputs[0] is not None else None
    scales = array_of(maker.inputs[1]) if maker is not None and maker.op_type == "QuantizeLinear" else None
    return None if scales is None or scales.size == 1 else scales.astype(np.float32) / np.float32(step.reshape(-1)[0])


def _read_bias(node: ir.Node) -> Bias | None:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return None
    array = array_of(value)
    if array is not None:
        return Bias(str(value.name), array)
    maker = value.producer()
    parts = [] if maker is None or maker.op_type != "DequantizeLinear" else [array_of(item) for item in maker.inputs]
    if len(parts) < 2 or parts[0] is None or parts[1] is None:
        raise ModelError(f"node {node.name!r} has a bias that is no constant; give a model.onnx that ocrslim wrote")
    return Bias(str(value.name), parts[0].astype(np.float32) * parts[1].astype(np.float32))
