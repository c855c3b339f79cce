"""Groups: the channels of a graph that are alike, each of which may go without the others.

A unit is one set of labels that stay or go together; a group is all units that live on the same axes: the output
channels of a convolution with everything that reads them, or of several that a residual addition ties together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ocrslim.slimming.pruning import rules, shape_rules
from ocrslim.slimming.pruning.trace import Role, Slot, Trace

__all__ = ["RULES_FROM", "Channels", "Group", "find_groups"]

RULES_FROM = (rules, shape_rules)
"""The modules whose import fills the table of rules."""


@dataclass(frozen=True)
class Group:
    """Units of pruning that live on the same axes.

    Args:
        name: of the first node that makes the channels, which no other group has.
        units: a number for each, in the order of the channels.
        weights: the axes of initializers that shrink, with what the weight does with the channels.
        reason: why no unit may be cut; empty where some may.
        exact: removal gives what zeroed channels would give; false where a LayerNormalization runs along them.
    """

    name: str
    units: tuple[int, ...]
    weights: tuple[tuple[Slot, Role], ...]
    reason: str = ""
    exact: bool = True

    @property
    def width(self) -> int:
        """Units in the group."""
        return len(self.units)


class Channels:
    """The channels of one graph: its groups, and which unit each index of each axis belongs to.

    Args:
        model: canonical; not changed.
        shape: of an input that it takes, N x C x H x W.

    Raises:
        ModelError: shapes can't be inferred.

    Attributes:
        model: as given.
        shapes: of every value, for an input of that height and width.
        groups: those that can be cut first, each in the graph's order.
    """

    def __init__(self, model: ir.Model, shape: Sequence[int]) -> None:
        self.model = model
        trace = Trace(model, shape)
        self._units = {
            (name, axis): trace.labels.roots(labels)
            for name, layout in trace.layouts.items()
            for axis, labels in enumerate(layout)
            if labels is not None
        }
        self._count = 1 + max((int(units.max()) for units in self._units.values()), default=0)
        self.shapes = trace.shapes
        self.groups = _groups(model, trace, self._units)

    def units(self, name: str) -> dict[int, NDArray[np.int64]]:
        """Return axis -> unit of each index, of the axes of a value that carry channels."""
        axes = range(len(self.shapes[name]))
        return {axis: self._units[name, axis] for axis in axes if (name, axis) in self._units}

    def kept(self, name: str, removed: Collection[int]) -> dict[int, NDArray[np.bool_]]:
        """Return axis -> whether each index stays when some units go."""
        stays = self._stays(removed)
        return {axis: stays[units] for axis, units in self.units(name).items()}

    def sizes(self, removed: Collection[int]) -> dict[str, tuple[int, ...]]:
        """Return the shape of every value when some units go."""
        stays = self._stays(removed)
        found = {name: list(shape) for name, shape in self.shapes.items()}
        for (name, axis), units in self._units.items():
            found[name][axis] = int(np.count_nonzero(stays[units]))
        return {name: tuple(shape) for name, shape in found.items()}

    def _stays(self, removed: Collection[int]) -> NDArray[np.bool_]:
        stays = np.ones(self._count, dtype=np.bool_)
        stays[list(removed)] = False
        return stays


def find_groups(model: ir.Model, shape: Sequence[int]) -> tuple[Group, ...]:
    """Return the groups of a canonical graph; see :class:`Channels`."""
    return Channels(model, shape).groups


def _groups(model: ir.Model, trace: Trace, units: dict[Slot, NDArray[np.int64]]) -> tuple[Group, ...]:
    """Put units of the same axes together."""
    slots: dict[int, dict[Slot, None]] = {}
    for slot, found in units.items():
        for unit in dict.fromkeys(found.tolist()):
            slots.setdefault(unit, {})[slot] = None
    reasons = trace.labels.reasons()
    alike: dict[tuple[frozenset[Slot], str], list[int]] = {}
    for unit, found_at in slots.items():
        alike.setdefault((frozenset(found_at), reasons.get(unit, "")), []).append(unit)
    makers = _makers(model, trace)
    normalized = {str(node.inputs[1].name) for node in _normalizations(model) if node.inputs[1] is not None}
    groups = []
    names: set[str] = set()
    for (where, reason), members in alike.items():
        weights = tuple(sorted((slot, trace.roles[slot]) for slot in where if slot in trace.roles))
        name = min((makers[slot] for slot, role in weights if role == "makes"), default=None)
        if name is None:
            continue  # channels of the input, or of no layer
        label = name[1]
        number = 2
        while label in names:
            label, number = f"{name[1]}:{number}", number + 1
        names.add(label)
        exact = not any(slot[0] in normalized for slot, _ in weights)
        groups.append(Group(label, tuple(members), weights, reason or _bare(weights), exact))
    return tuple(groups)


def _bare(weights: Sequence[tuple[Slot, Role]]) -> str:
    """Say why a group that no layer reads is left alone."""
    return "" if any(role == "reads" for _, role in weights) else "no layer with weights reads the channels"


def _makers(model: ir.Model, trace: Trace) -> dict[Slot, tuple[int, str]]:
    """Return for each axis of outputs of a weight the first node that uses it: its place in the graph and its name."""
    found: dict[Slot, tuple[int, str]] = {}
    for number, node in enumerate(model.graph):
        for value in node.inputs:
            for axis in range(len(trace.shape(value)) if value is not None and value.is_initializer() else 0):
                if value is not None:
                    found.setdefault((str(value.name), axis), (number, str(node.name)))
    return found


def _normalizations(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "LayerNormalization"]
