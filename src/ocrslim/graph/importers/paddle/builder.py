"""The ONNX graph while it is being built: values by Paddle's names, and the nodes in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ocrslim.graph.importers.paddle.network import Array, Network, Operation

__all__ = ["GraphBuilder"]

MOST_AXES = 64


class GraphBuilder:
    """Collects nodes and initializers for one network.

    Initializers have the names of Paddle's parameters. A node is named after its first output; what a converter makes
    on the way is named after the operation's output and what it is (``softmax_0.tmp_0/Reshape``).

    Args:
        network: whose parameters and variables are looked up.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self._values: dict[str, ir.Value] = {}
        self._bound: set[ir.Value] = set()
        self._numbers: dict[str, int] = {}  # the last of each name that was asked for more than once
        self._taken = set(network.parameters) | set(network.inputs)
        self._taken |= {name for op in network.operations for names in op.outputs.values() for name in names}
        self._scope = ""

    def begin(self, operation: Operation) -> None:
        """Name what is made from now on after an operation."""
        self._scope = operation.name

    def bind(self, name: str, value: ir.Value) -> None:
        """Let a value be known by Paddle's name; a value that has a name of Paddle's gets a copy (Identity)."""
        if value in self._bound:
            value = self.emit("Identity", [value])
        node = value.producer()
        value.name = name
        if node is not None and value is node.outputs[0]:
            node.name = name
        self._know(name, value)

    def _know(self, name: str, value: ir.Value) -> None:
        self._values[name] = value
        self._bound.add(value)

    def add_input(self, name: str, value: ir.Value) -> None:
        """Let an input of the graph be known by its name."""
        self._know(name, value)

    def has(self, operation: Operation, slot: str) -> bool:
        """Return whether an operation has an input in a slot."""
        return bool(operation.inputs.get(slot))

    def input(self, operation: Operation, slot: str = "X", index: int = 0) -> ir.Value:
        """Return one input of an operation.

        Raises:
            ModelError: the slot is empty or nothing before has made the value.
        """
        names = operation.inputs.get(slot, ())
        if index >= len(names):
            raise operation.error(f"its input {slot} is missing")
        return self.value(operation, names[index])

    def value(self, operation: Operation, name: str) -> ir.Value:
        """Return the value of a name; a parameter becomes an initializer when it is first read.

        Raises:
            ModelError: nothing before has made it.
        """
        if name not in self._values:
            if name not in self.network.parameters:
                raise operation.error(f"it reads {name!r}, which nothing before it makes")
            self._know(name, self._initializer(name, self.network.parameters[name]))
        return self._values[name]

    def constant(self, array: Array | Sequence[int] | float, kind: str = "constant") -> ir.Value:
        """Return a new initializer; a bare list is int64, a bare number float32."""
        if not isinstance(array, np.ndarray):
            array = np.asarray(array, np.float32 if isinstance(array, float) else np.int64)
        return self._initializer(self._fresh(kind), array)

    def emit(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
    ) -> ir.Value:
        """Append a node and return its first output; the others are at ``value.producer().outputs``."""
        names = [self._fresh(op_type) for _ in range(outputs)]
        node = ir.node(op_type, inputs, dict(attributes or {}), num_outputs=outputs, name=names[0])
        for value, name in zip(node.outputs, names, strict=True):
            value.name = name
        self.nodes.append(node)
        return node.outputs[0]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return what the model says about the shape of a value: -1 for an open size, ``None`` for an unknown rank."""
        if name in self.network.parameters:
            return tuple(self.network.parameters[name].shape)
        variable = self.network.variables.get(name)
        return None if variable is None else variable.shape

    def rank(self, operation: Operation, slot: str = "X", index: int = 0) -> int:
        """Return the number of axes of an input.

        Raises:
            ModelError: the model doesn't say.
        """
        names = operation.inputs.get(slot, ())
        shape = self.shape(names[index]) if index < len(names) else None
        if shape is None:
            raise operation.error(f"the number of axes of its input {slot} is not known")
        return len(shape)

    def dtype(self, operation: Operation, name: str | None = None) -> np.dtype[Any]:
        """Return the element type of a value, by default of the operation's output.

        Raises:
            ModelError: the model doesn't say.
        """
        name = name or operation.name
        if name in self.network.parameters:
            return self.network.parameters[name].dtype
        variable = self.network.variables.get(name)
        if variable is None or variable.dtype is None:
            raise operation.error(f"the element type of {name!r} is not known")
        return variable.dtype

    def cast(self, value: ir.Value, dtype: np.dtype[Any] | type) -> ir.Value:
        """Append a Cast."""
        return self.emit("Cast", [value], {"to": ir.DataType.from_numpy(np.dtype(dtype))})

    def vector(self, operation: Operation, attribute: str, single: str = "", several: str = "") -> ir.Value:
        """Return integers, ``[n]`` of int64, that Paddle gives in one of three ways.

        Args:
            operation: whose they are.
            attribute: as a list in an attribute, if in neither of the slots.
            single: slot of a tensor ``[n]``.
            several: slot of n tensors of one element each; it goes first.

        Raises:
            ModelError: they are given in none of the ways.
        """
        if several and self.has(operation, several):
            names = operation.inputs[several]
            parts = [self.cast(self.value(operation, name), np.int64) for name in names]
            flat = [self.emit("Reshape", [part, self.constant([-1], "axis")]) for part in parts]
            return flat[0] if len(flat) == 1 else self.emit("Concat", flat, {"axis": 0})
        if single and self.has(operation, single):
            value = self.cast(self.input(operation, single), np.int64)
            return self.emit("Reshape", [value, self.constant([-1], "axis")])
        return self.constant(self.integers(operation, attribute), attribute)

    def integers(self, operation: Operation, attribute: str, default: Sequence[int] | None = None) -> list[int]:
        """Return integers that must be known now: an attribute, a list or a single number.

        Raises:
            ModelError: the attribute is missing, or was to be a tensor.
        """
        found = operation.attributes.get(attribute)
        if found is None:
            if default is None:
                raise operation.error(f"its {attribute} is not a constant")
            return list(default)
        return [int(item) for item in found] if isinstance(found, (list, tuple)) else [int(found)]

    def _initializer(self, name: str, array: Array) -> ir.Value:
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.initializers.append(value)
        return value

    def _fresh(self, kind: str) -> str:
        wanted = name = f"{self._scope}/{kind}"
        number = self._numbers.get(wanted, 1)
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._numbers[wanted] = number
        self._taken.add(name)
        return name

    def axes_before(self, operation: Operation, count: int) -> int:
        """Return a number of axes that the file gives.

        Raises:
            ModelError: it is none that a tensor can have.
        """
        if not 0 <= count <= MOST_AXES:
            raise operation.error(f"{count} axes are none that a tensor can have")
        return count
