"""What a Paddle program counts channels by, beside its parameters: attributes, and constants that operators make.

1. A depthwise convolution has as many groups as channels.
2. A reshape names sizes, in its attribute ``shape`` and where it has inputs ``ShapeTensor`` in the fill_constant of
   each; what it made is called as in our graph.
Only what was pruned is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from ocrslim.export.paddle_chains import CONVOLUTIONS, argument
from ocrslim.export.paddle_quant import set_attribute
from ocrslim.graph.importers.paddle.framework import AttributeType
from ocrslim.graph.importers.paddle.program import Program
from ocrslim.graph.passes.base import array_of

__all__ = ["reshape_sizes", "write_groups", "write_reshapes"]

RESHAPES = ("reshape2", "reshape")


def reshape_sizes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    """Return the sizes that each Reshape of a graph names, by what it makes; where they are constant."""
    found = {}
    for node in model.graph:
        sizes = array_of(node.inputs[1]) if node.op_type == "Reshape" else None
        if sizes is not None:
            found[str(node.outputs[0].name)] = tuple(int(size) for size in sizes)
    return found


def write_groups(program: Program, old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]]) -> None:
    """Apply rule 1.

    Args:
        program: changed in place.
        old: its parameters.
        new: what they become.
    """
    for op in program.ops:
        weight = argument(op, "Filter") if op.type in CONVOLUTIONS else ""
        groups = next((attr.i for attr in op.attrs if attr.name == "groups"), 1)
        if weight in old and weight in new and groups > 1:
            before, after = old[weight].shape[0], new[weight].shape[0]
            if before != after:
                set_attribute(op, "groups", AttributeType.INT, groups * after // before)


def write_reshapes(program: Program, sizes: Mapping[str, Sequence[int]]) -> None:
    """Apply rule 2.

    Args:
        program: changed in place.
        sizes: of :func:`reshape_sizes`.
    """
    makers = {argument(op, "Out", op.outputs): op for op in program.ops if op.type == "fill_constant"}
    for op in program.ops:
        wanted = sizes.get(argument(op, "Out", op.outputs)) if op.type in RESHAPES else None
        shape = next((attr for attr in op.attrs if attr.name == "shape"), None)
        if wanted is None or shape is None or len(shape.ints) != len(wanted):
            continue
        tensors = next((list(entry.arguments) for entry in op.inputs if entry.parameter == "ShapeTensor"), [])
        for index, size in enumerate(wanted):
            if size <= 0 or shape.ints[index] in (0, -1, size):
                continue
            shape.ints[index] = size
            maker = makers.get(tensors[index]) if len(tensors) == len(wanted) else None
            if maker is not None:
                set_attribute(maker, "value", AttributeType.FLOAT, float(size))
                set_attribute(maker, "str_value", AttributeType.STRING, str(size))
