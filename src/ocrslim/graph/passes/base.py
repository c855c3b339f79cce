"""What the passes share: the base class and small questions about values and nodes.

A pass is an ``onnx_ir`` pass: it says whether it changed the graph, its docstring is its numbered rewrite rules and the
code cites the numbers.
"""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = [
    "Pass",
    "array_of",
    "attribute",
    "is_scalar",
    "make_initializer",
    "merge",
    "only_reader",
    "replace",
    "scalar_of",
]

Array = NDArray[Any]


class Pass(ir.passes.InPlacePass):
    """A pass that changes the model that it is given."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass; ``modified`` is true where a rule was applied."""
        return ir.passes.PassResult(model, self.rewrite(model))

    @abc.abstractmethod
    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules; return whether one was applied."""


def array_of(value: ir.Value | None) -> Array | None:
    """Return the constant behind a value, ``None`` where there is none."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def scalar_of(value: ir.Value | None) -> float | None:
    """Return the number behind a constant of one element, ``None`` for anything else."""
    array = array_of(value)
    return None if array is None or array.size != 1 else float(array.reshape(()))


def is_scalar(value: ir.Value | None, wanted: float, tolerance: float = 1e-6) -> bool:
    """Return whether a value is a constant of one element near ``wanted`` (relative tolerance)."""
    number = scalar_of(value)
    return number is not None and abs(number - wanted) <= tolerance * abs(wanted)


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the node that reads a value where it is one node, reading it once, and nothing else needs the value."""
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Return the value of an attribute, or the default."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def make_initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Return a new initializer, called ``name`` or, where that is taken, ``name`` with a number."""
    taken = name
    number = 0
    while taken in graph.initializers:
        number += 1
        taken = f"{name}.{number}"
    tensor = ir.tensor(np.ascontiguousarray(array), name=taken)
    value = ir.Value(name=taken, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def merge(node: ir.Node, kept: ir.Value, rename: bool) -> bool:
    """Remove ``node``, a no-op by now: what read its output reads ``kept`` instead.

    Args:
        node: of one output.
        kept: one of its inputs.
        rename: ``kept`` gets the output's name. A graph's output always keeps its name.

    Returns:
        bool: false, with nothing changed, where a graph output would have to become an input, a constant or a second
        output.
    """
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    dropped = node.outputs[0]
    name, shape, is_output = dropped.name, dropped.shape, dropped.is_graph_output()
    fixed = kept.is_graph_input() or kept.is_graph_output() or kept.is_initializer()
    if is_output and fixed:
        return False
    dropped.replace_all_uses_with(kept, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if (rename or is_output) and not fixed:
        kept.name = name
        kept.shape = shape if kept.shape is None or is_output else kept.shape
    return True


def replace(last: ir.Node, op_type: str, inputs: list[ir.Value | None], attributes: dict[str, Any]) -> ir.Node:
    """Put one node in the place of ``last`` and return it; the output keeps its name, the node too."""
    graph = last.graph
    assert isinstance(graph, ir.Graph)
    old = last.outputs[0]
    name, node_name = old.name, last.name
    node = ir.node(op_type, inputs=inputs, attributes=attributes)
    graph.insert_before(last, node)
    new = node.outputs[0]
    new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(last, safe=True)
    new.name, node.name = name, node_name
    return node
