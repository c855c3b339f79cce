"""What a student still has in common with its teacher: its first layers, up to the first that was changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from ocrslim.graph.passes.base import array_of

__all__ = ["Shared", "shared_part"]


@dataclass(frozen=True)
class Shared:
    """The part of two models that computes the same.

    Args:
        values: names of what it hands on to the rest; empty where nothing is shared.
        weights: names of the initializers that only it reads.
        inside: names of all values that it makes.
    """

    values: tuple[str, ...] = ()
    weights: frozenset[str] = frozenset()
    inside: frozenset[str] = frozenset()


def shared_part(model: ir.Model, alike: Callable[[ir.Node], bool]) -> Shared:
    """Find the nodes that compute the same in both models: those that are alike, of inputs that are the same.

    Args:
        model: canonical, of the student; names are those of the teacher's.
        alike: whether a node makes the same in both of the same inputs.
    """
    begun = {str(value.name) for value in model.graph.inputs}
    same = set(begun)
    handed, own, others = dict[str, None](), set[str](), set[str]()
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        constants = {str(value.name) for value in inputs if array_of(value) is not None}
        computed = {str(value.name): None for value in inputs if str(value.name) not in constants}
        if all(name in same for name in computed) and alike(node):
            same.update(str(value.name) for value in node.outputs)
            own |= constants
        else:
            handed |= {name: None for name in computed if name in same}
            others |= constants
    values = tuple(name for name in handed if name not in begun)
    return Shared(values, frozenset(own - others), frozenset(same - begun))
