"""Following channels through a graph: which axis of which value carries which labels.

Every value has a layout: for each axis its labels, or ``None`` where the axis carries no channels (batch, height,
width, frames). A rule for each operator says how the layouts of inputs and outputs hang together; what no rule covers
fixes the channels that reach it, with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes import common

from ocrslim.errors import ModelError
from ocrslim.graph.passes.base import array_of
from ocrslim.slimming.pruning.labels import LabelArray, Labels

__all__ = ["Layout", "Role", "Rule", "Slot", "Trace", "rule", "static_shapes"]

Layout = list[LabelArray | None]
"""Labels of each axis."""

Slot = tuple[str, int]
"""An axis of a value: its name and the axis, counted from 0."""

Role = Literal["makes", "reads", "passes"]
"""What a weight does with the channels of one of its axes: an axis of outputs, of inputs, or one channel each."""

Shape = tuple[int, ...]
BATCHES = (7, 11)  # sizes that are no width of a layer, so that a reshape can't be misread


def static_shapes(model: ir.Model, shape: Sequence[int]) -> dict[str, Shape]:
    """Return the shape of every value, initializers included, for one shape of the input.

    Raises:
        ModelError: one can't be inferred.
    """
    model = model.clone()
    model.graph.inputs[0].shape = ir.Shape(tuple(shape))
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    common.ShapeInferencePass()(model)
    found: dict[str, Shape] = {
        name: tuple(value.const_value.shape.numpy())
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    for value in (model.graph.inputs[0], *(value for node in model.graph for value in node.outputs)):
        if not value.name:
            continue
        if value.shape is None or not value.shape.is_static():
            raise ModelError(f"the shape of {value.name!r} can't be inferred, so its channels can't be followed")
        found[value.name] = tuple(value.shape.numpy())
    return found


class Trace:
    """The layouts of all values of a canonical graph.

    Args:
        model: not changed; see :func:`ocrslim.graph.passes.canonical.canonicalize`.
        shape: of an input that the model takes, N x C x H x W; N and W are varied to see which axes depend on them.

    Raises:
        ModelError: shapes can't be inferred.

    Attributes:
        labels: of all channels.
        layouts: of each value, by name; of initializers only where a rule asked for labels.
        roles: what each labelled axis of an initializer does.
        shapes: of each value for one input.
    """

    def __init__(self, model: ir.Model, shape: Sequence[int]) -> None:
        self.labels = Labels()
        self.layouts: dict[str, Layout] = {}
        self.roles: dict[Slot, Role] = {}
        self.shapes = static_shapes(model, (BATCHES[0], *shape[1:]))
        other = static_shapes(model, (BATCHES[1], *shape[1:-1], 2 * shape[-1]))
        self._open = {
            (name, axis)
            for name, sizes in self.shapes.items()
            for axis, (size, second) in enumerate(zip(sizes, other[name], strict=True))
            if size != second
        }
        for value in model.graph.inputs:
            self.layout(value)
        for node in model.graph:
            RULES.get(node.op_type if node.domain in ("", "ai.onnx") else "", _unknown)(self, node)
        for value in model.graph.outputs:
            for labels in self.layout(value):
                if labels is not None:
                    self.labels.fix(labels, "the model's answer")

    def shape(self, value: ir.Value) -> Shape:
        """Return the shape of a value for the traced input."""
        return self.shapes[str(value.name)]

    def is_open(self, value: ir.Value, axis: int) -> bool:
        """Tell whether the size of an axis depends on the input's."""
        return (str(value.name), axis) in self._open

    def layout(self, value: ir.Value) -> Layout:
        """Return the layout of a value; all ``None`` before a rule says otherwise."""
        return self.layouts.setdefault(str(value.name), [None] * len(self.shape(value)))

    def at(self, value: ir.Value, axis: int, role: Role | None = None) -> LabelArray:
        """Return the labels of an axis, new ones where it has none; those of a value that nodes make are fixed.

        Args:
            value: of the graph.
            axis: from 0, or from the end where negative.
            role: of the axis, for an initializer.
        """
        layout = self.layout(value)
        axis %= len(layout)
        constant = array_of(value) is not None
        if layout[axis] is None:
            reason = None if constant else f"{value.name} has no channels along axis {axis}"
            layout[axis] = self.labels.fresh(self.shape(value)[axis], reason)
        if role is not None and constant:
            self.roles[str(value.name), axis] = role
        labels = layout[axis]
        assert labels is not None  # made above
        return labels

    def fix(self, node: ir.Node, why: str) -> None:
        """Fix all channels that a node reads, and leave its outputs without any."""
        for value in node.inputs:
            if value is not None:
                for labels in self.layout(value):
                    if labels is not None:
                        self.labels.fix(labels, f"{node.op_type} {node.name}: {why}")


Rule = Callable[[Trace, ir.Node], None]
RULES: dict[str, Rule] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Return a decorator that makes a function the rule of some operators.

    Args:
        op_types: as in the ONNX schema.
    """

    def decorate(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, function))
        return function

    return decorate


def _unknown(trace: Trace, node: ir.Node) -> None:
    trace.fix(node, "channels can't be followed through this operator")
