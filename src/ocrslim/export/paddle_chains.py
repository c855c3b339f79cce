"""What our graph folded into a convolution has to become neutral in Paddle's program, which keeps its operators.

The canonical graph holds ``conv(x) + bias`` where the program computes a chain: affine maps before the convolution, the
convolution, affine maps behind it (batch_norm, elementwise_*). Written back, the convolution has the folded
weight, and the chain around it computes ``y + bias``:

1. A batch_norm gets mean 0, variance 1 - epsilon, scale 1, bias 0; a sum 0; a product or quotient 1.
2. The first constant of the chain behind that is added once for each channel gets the bias; the constant that our
   graph calls the bias comes first.
3. Where there is none, an elementwise_add is put behind the convolution.
A parameter belongs to a chain if our graph no longer has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrslim.export.learned import Bias, Learned
from ocrslim.graph.importers.paddle.program import Program

__all__ = ["CONVOLUTIONS", "Chain", "Chains", "argument", "set_argument"]

Array = NDArray[Any]

CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "depthwise_conv2d_transpose")
SUMS, PRODUCTS = ("elementwise_add", "elementwise_sub"), ("elementwise_mul", "elementwise_div")
LOOKED_THROUGH = ("squeeze2", "squeeze", "assign", "dropout")
EPSILON = 1e-5  # batch_norm's default


@dataclass
class Chain:
    """The folded operators around one convolution.

    Args:
        neutral: parameter -> what it becomes; of its old shape, unless channels were pruned.
        places: parameters that take the bias, one number for each channel; the best first.
    """

    neutral: dict[str, Array] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)


class Chains:
    """Finds the chains in one program.

    Args:
        program: not changed.
        parameters: its parameters.
        learned: what our graph holds.
    """

    def __init__(self, program: Program, parameters: dict[str, Array], learned: Learned) -> None:
        self._parameters = parameters
        self._learned = learned
        self._readers: dict[str, list[Any]] = defaultdict(list)
        self._makers: dict[str, Any] = {}
        self._ops = list(program.ops)
        for op in self._ops:
            for entry in op.inputs:
                for name in entry.arguments:
                    self._readers[name].append(op)
            for entry in op.outputs:
                for name in entry.arguments:
                    self._makers[name] = op

    def find(self) -> list[tuple[str, str, Chain]]:
        """Return the output, the weight and the chain of each convolution that our graph has.

        Where an operator is between two convolutions, it was folded into the one before it.
        """
        convs = [op for op in self._ops if op.type in CONVOLUTIONS and argument(op, "Filter") in self._learned.biases]
        found = []
        for conv in convs:
            weight = argument(conv, "Filter")
            bias, chain = self._learned.biases[weight], Chain()
            for op in self._behind(argument(conv, "Output"), bias):
                self._neutralize(op, chain, *self._channels(conv, made=True))
            if bias is not None and bias.name in chain.places:
                chain.places.remove(bias.name)
                chain.places.insert(0, bias.name)
            found.append((argument(conv, "Output"), weight, chain))
        taken = {name for _, _, chain in found for name in chain.neutral}
        for conv, (_, _, chain) in zip(convs, found, strict=True):
            places = tuple(chain.places)
            for op in self._before(argument(conv, "Input"), taken):
                self._neutralize(op, chain, *self._channels(conv, made=False))
            chain.places[:] = places  # what is added in front of the convolution is no place for its bias
        return found

    def _behind(self, value: str, bias: Bias | None) -> Iterator[Any]:
        """Yield the folded operators behind a value."""
        while len(self._readers[value]) == 1:
            op = self._readers[value][0]
            if self._is_folded(op, bias):
                yield op
            elif op.type not in LOOKED_THROUGH:
                return
            value = argument(op, "Y" if op.type == "batch_norm" else "Out", op.outputs)

    def _before(self, value: str, taken: Set[str]) -> Iterator[Any]:
        """Yield the folded operators in front of a value, none of which reads a parameter that is ``taken``."""
        while value in self._makers and len(self._readers[value]) == 1:
            op = self._makers[value]
            if not self._is_folded(op, None) or not taken.isdisjoint(_read(op)):
                return
            yield op
            value = next((name for name in _read(op) if name not in self._parameters), "")

    def _is_folded(self, op: Any, bias: Bias | None) -> bool:
        constants = [name for name in _read(op) if name in self._parameters]
        if op.type not in ("batch_norm", *SUMS, *PRODUCTS) or not constants:
            return False
        known = (self._learned.floats, self._learned.grids)
        own = {bias.name} if bias else set()
        return all(name in own or not any(name in names for names in known) for name in constants)

    def _channels(self, conv: Any, made: bool) -> tuple[int, int]:
        """Return how many channels a convolution makes, or reads, in the program and in our graph: fewer if pruned."""
        name = argument(conv, "Filter")
        grid = self._learned.grids.get(name)
        new = grid.integers if grid is not None else self._learned.floats.get(name, self._parameters[name])
        axis = 0 if made != ("transpose" in conv.type) else 1
        groups = next((attr.i for attr in conv.attrs if attr.name == "groups"), 1) if axis else 1
        return self._parameters[name].shape[axis] * groups, new.shape[axis] * groups

    def _neutralize(self, op: Any, chain: Chain, channels: int, now: int) -> None:
        """Rules 1 and 2; ``channels`` in the program are ``now`` so many."""
        if op.type == "batch_norm":
            epsilon = next((attr.f for attr in op.attrs if attr.name == "epsilon"), EPSILON)
            numbers = {"Mean": 0.0, "Variance": 1.0 - epsilon, "Scale": 1.0, "Bias": 0.0}
            for role, number in numbers.items():
                self._fill(chain, argument(op, role), number, channels, now)
            chain.places.append(argument(op, "Bias"))
            return
        for name in _read(op):
            if name in self._parameters:
                self._fill(chain, name, 0.0 if op.type in SUMS else 1.0, channels, now)
                if op.type == "elementwise_add" and self._parameters[name].size == channels:
                    chain.places.append(name)

    def _fill(self, chain: Chain, name: str, number: float, channels: int, now: int) -> None:
        old = self._parameters[name]
        shape = [now if size == channels == old.size else size for size in old.shape]
        chain.neutral[name] = np.full(shape, number, old.dtype)


def argument(op: Any, role: str, entries: Any = None) -> str:
    """Return the first argument of a role, empty where there is none.

    Args:
        op: the operator.
        role: such as ``Filter`` or ``Out``.
        entries: its inputs or its outputs alone; both if ``None``.
    """
    for entry in (*op.inputs, *op.outputs) if entries is None else entries:
        if entry.parameter == role and entry.arguments:
            return str(entry.arguments[0])
    return ""


def set_argument(op: Any, old: str, new: str) -> None:
    """Let an operator read ``new`` wherever it reads ``old``."""
    for entry in op.inputs:
        for index, name in enumerate(entry.arguments):
            if name == old:
                entry.arguments[index] = new


def _read(op: Any) -> list[str]:
    return [name for entry in op.inputs for name in entry.arguments]
