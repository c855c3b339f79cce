"""A classic program (``ProgramDesc``) into a :class:`Network`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.framework import AttributeType
from ocrslim.graph.importers.paddle.network import Array, Network, Operation, Variable
from ocrslim.graph.importers.paddle.program import DTYPES, Program

__all__ = ["attribute_value", "read_classic"]

DTYPE_ATTRIBUTES = ("dtype", "in_dtype", "out_dtype")
_MAIN = ("Out", "Output", "Y")  # the slots of results; the others are what training needs


def _scalar(scalar: Any) -> Any:
    values = {1: scalar.b, 2: scalar.i, 3: scalar.r, 4: complex(scalar.c.r, scalar.c.i)}
    return values.get(scalar.type)


_READ: Mapping[int, Callable[[Any], Any]] = MappingProxyType(
    {
        AttributeType.INT: lambda a: a.i,
        AttributeType.FLOAT: lambda a: a.f,
        AttributeType.STRING: lambda a: a.s,
        AttributeType.INTS: lambda a: list(a.ints),
        AttributeType.FLOATS: lambda a: list(a.floats),
        AttributeType.STRINGS: lambda a: list(a.strings),
        AttributeType.BOOLEAN: lambda a: a.b,
        AttributeType.BOOLEANS: lambda a: list(a.bools),
        AttributeType.LONG: lambda a: a.l,
        AttributeType.LONGS: lambda a: list(a.longs),
        AttributeType.FLOAT64S: lambda a: list(a.float64s),
        AttributeType.VAR: lambda a: a.var_name,
        AttributeType.VARS: lambda a: list(a.vars_name),
        AttributeType.FLOAT64: lambda a: a.float64,
        AttributeType.SCALAR: lambda a: _scalar(a.scalar),
        AttributeType.SCALARS: lambda a: [_scalar(item) for item in a.scalars],
    }
)


def attribute_value(attribute: Any) -> Any:
    """Return the value of an ``OpDesc.Attr`` message as a plain Python value; ``None`` for a block."""
    read = _READ.get(attribute.type)
    return None if read is None else read(attribute)


def read_classic(program: Program, parameters: Mapping[str, Array]) -> Network:
    """Tell a program as a network.

    A name that is written a second time gets a number, as ONNX gives each name once.

    Args:
        program: of one block.
        parameters: arrays by name.

    Raises:
        ModelError: the program has control flow, or neither input nor output.
    """
    if len(program.blocks) != 1:
        raise ModelError(f"{program.path}: has control flow (while, conditional_block), which can't be converted")
    variables = {name: _variable(var) for name, var in program.vars.items()}
    inputs: list[str] = []
    outputs: list[str] = []
    operations: list[Operation] = []
    current: dict[str, str] = {}  # the name in the program -> the name that its present value has here
    written = dict.fromkeys(parameters, 0)
    for desc in program.ops:
        read = {slot.parameter: tuple(current.get(name, name) for name in slot.arguments) for slot in desc.inputs}
        if desc.type == "feed":
            inputs += [name for slot in desc.outputs for name in slot.arguments]
        elif desc.type == "fetch":
            outputs += read["X"]
        else:
            operation = _operation(desc, read)
            operations.append(_rename(operation, current, written, variables))
    if not inputs or not outputs:
        raise ModelError(
            f"{program.path}: has no feed or no fetch; export it with paddle.jit.save or as an inference model"
        )
    return Network(program.path, tuple(inputs), tuple(outputs), tuple(operations), variables, parameters)


def _variable(var: Any) -> Variable:
    if not var.type.HasField("lod_tensor"):
        return Variable(None, None)
    tensor = var.type.lod_tensor.tensor
    return Variable(tuple(tensor.dims), DTYPES.get(tensor.data_type))


def _operation(desc: Any, read: Mapping[str, tuple[str, ...]]) -> Operation:
    attributes = {attribute.name: attribute_value(attribute) for attribute in desc.attrs}
    for key in DTYPE_ATTRIBUTES:
        if attributes.get(key) in DTYPES:
            attributes[key] = DTYPES[attributes[key]]
    slots = sorted(desc.outputs, key=lambda slot: slot.parameter not in _MAIN)
    written = {slot.parameter: tuple(slot.arguments) for slot in slots if slot.arguments}
    return Operation(desc.type, {slot: names for slot, names in read.items() if names}, written, attributes, desc.type)


def _rename(
    operation: Operation, current: dict[str, str], written: dict[str, int], variables: dict[str, Variable]
) -> Operation:
    """Give a number to each output whose name is taken, and note that later readers mean this one.

    ``written`` has the last number of each name; a program may write one name many times.
    """
    outputs: dict[str, tuple[str, ...]] = {}
    for slot, names in operation.outputs.items():
        fresh = []
        for name in names:
            new = name
            if slot in _MAIN:  # a batch_norm "writes" its own statistics, which stay what they are
                while new in written:
                    written[name] += 1
                    new = f"{name}.{written[name]}"
                written[new] = 0
                current[name] = new
                if new != name and name in variables:
                    variables[new] = variables[name]
            fresh.append(new)
        outputs[slot] = tuple(fresh)
    return Operation(operation.type, operation.inputs, outputs, operation.attributes, operation.said)
