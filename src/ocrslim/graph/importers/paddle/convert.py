"""A Paddle network into an ONNX model, operator by operator; parameters and activations keep their names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle import operators
from ocrslim.graph.importers.paddle.builder import GraphBuilder
from ocrslim.graph.importers.paddle.network import Network, Variable
from ocrslim.graph.importers.paddle.registry import resolve

__all__ = ["OPSET", "to_onnx"]

OPSET = 20
"""The canonical form's: HardSwish, Gelu and LayerNormalization are single nodes from the start."""

IR_VERSION = 9
PRODUCER = "ocrslim.paddle"
MOST_OPERATIONS = 20_000  # the largest known has 1,500
_AXES = ("N", "C", "H", "W")  # what an open size of an input is called
_ = operators.__all__  # importing the package registers the converters


def to_onnx(network: Network) -> ir.Model:
    """Convert a network.

    Args:
        network: from either reader.

    Returns:
        ir.Model: initializers are named as the parameters, values as the activations, inputs and outputs as Paddle's.
            Parameters that only training reads are left out.

    Raises:
        ModelError: an operator has no converter, or one of its settings has no ONNX counterpart; the text names the
            operator and the node.
    """
    if not 0 < len(network.operations) <= MOST_OPERATIONS:
        raise ModelError(
            f"{network.path}: {len(network.operations)} operations; a PP-OCR model has 1 to {MOST_OPERATIONS}"
        )
    builder = GraphBuilder(network)
    inputs = [_input(name, network) for name in network.inputs]
    for value in inputs:
        assert value.name
        builder.add_input(value.name, value)
    for operation in network.operations:
        builder.begin(operation)
        convert = resolve(operation)
        try:
            made = convert(operation, builder)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise operation.error(f"is not as expected ({type(error).__name__} {error})") from error
        values = [made] if isinstance(made, ir.Value) else list(made)
        names = next(iter(operation.outputs.values()))
        for name, value in zip(names, values, strict=True):
            builder.bind(name, value)
    last = network.operations[-1]
    outputs = [_output(name, builder.value(last, name), network) for name in network.outputs]
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=builder.nodes,
        initializers=builder.initializers,
        opset_imports={"": OPSET},
        name="paddle",
    )
    model = ir.Model(graph, ir_version=IR_VERSION, producer_name=PRODUCER)
    common.RemoveUnusedNodesPass()(model)
    return model


def _tensor_type(variable: Variable | None) -> ir.TensorType:
    dtype = variable.dtype if variable is not None and variable.dtype is not None else np.dtype(np.float32)
    return ir.TensorType(ir.DataType.from_numpy(dtype))


def _input(name: str, network: Network) -> ir.Value:
    variable = network.variables.get(name)
    if variable is None or variable.shape is None:
        raise ModelError(f"{network.path}: says nothing about the shape of its input {name!r}; export the model again")
    names: Sequence[str] = _AXES if len(variable.shape) == len(_AXES) else [f"d{i}" for i in range(len(variable.shape))]
    sizes = [size if size >= 0 else letter for size, letter in zip(variable.shape, names, strict=True)]
    return ir.Value(name=name, shape=ir.Shape(sizes), type=_tensor_type(variable))


def _output(name: str, value: ir.Value, network: Network) -> ir.Value:
    variable = network.variables.get(name)
    value.type = _tensor_type(variable)
    if variable is not None and variable.shape is not None:
        value.shape = ir.Shape([size if size >= 0 else None for size in variable.shape])
    return value
