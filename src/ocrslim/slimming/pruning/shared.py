"""What a smaller model still has in common with the whole one: its first layers, up to the first that was cut."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ocrslim.graph.passes.base import array_of
from ocrslim.slimming.shared import Shared, shared_part

__all__ = ["find_shared"]


def find_shared(whole: ir.Model, smaller: ir.Model) -> Shared:
    """Find the nodes that compute the same in both models.

    Args:
        whole: canonical.
        smaller: what a cut left of it; names are kept.
    """
    before = {node.name: node for node in whole.graph}

    def alike(node: ir.Node) -> bool:
        twin = before.get(node.name)
        return twin is not None and _alike(node, twin)

    return shared_part(smaller, alike)


def _alike(node: ir.Node, twin: ir.Node) -> bool:
    """Return whether two nodes of one name read the same constants; what they are is the same."""
    if len(node.inputs) != len(twin.inputs):
        return False
    for value, other in zip(node.inputs, twin.inputs, strict=True):
        mine, theirs = array_of(value), array_of(other)
        if mine is not None and (theirs is None or not np.array_equal(mine, theirs)):
            return False
    return True
