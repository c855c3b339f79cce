"""What a smaller model still has in common with the whole one: its first layers, up to the first that was cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ocrslim.graph.passes.base import array_of

__all__ = ["Shared", "find_shared"]


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


def find_shared(whole: ir.Model, smaller: ir.Model) -> Shared:
    """Find the nodes that compute the same in both models.

    Args:
        whole: canonical.
        smaller: what a cut left of it; names are kept.
    """
    before = {node.name: node for node in whole.graph}
    begun = {str(value.name) for value in smaller.graph.inputs}
    same = set(begun)
    handed, own, others = dict[str, None](), set[str](), set[str]()
    for node in smaller.graph:
        twin = before.get(node.name)
        inputs = [value for value in node.inputs if value is not None]
        constants = {str(value.name) for value in inputs if array_of(value) is not None}
        computed = {str(value.name): None for value in inputs if str(value.name) not in constants}
        if twin is not None and _alike(node, twin) and all(name in same for name in computed):
            same.update(str(value.name) for value in node.outputs)
            own |= constants
        else:
            handed |= {name: None for name in computed if name in same}
            others |= constants
    values = tuple(name for name in handed if name not in begun)
    return Shared(values, frozenset(own - others), frozenset(same - begun))


def _alike(node: ir.Node, twin: ir.Node) -> bool:
    """Return whether two nodes of one name read the same constants; what they are is the same."""
    if len(node.inputs) != len(twin.inputs):
        return False
    for value, other in zip(node.inputs, twin.inputs, strict=True):
        mine, theirs = array_of(value), array_of(other)
        if mine is not None and (theirs is None or not np.array_equal(mine, theirs)):
            return False
    return True
