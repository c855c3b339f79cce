"""Folding of multiplications and additions into the convolution before or behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ocrslim.graph.passes.base import Pass, array_of, attribute, make_initializer, merge, only_reader

__all__ = ["FoldAffineBackward", "FoldAffineForward"]

CONVOLUTIONS = ("Conv", "ConvTranspose")
ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class _Affine:
    """``y = scale * x + shift`` for each channel of x ``[N, C, ...]``; both ``[C]`` or ``[1]``."""

    data: ir.Value
    scale: Numbers
    shift: Numbers

    @property
    def scales(self) -> bool:
        return bool(np.any(self.scale != 1.0))

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift != 0.0))


@dataclass(frozen=True)
class _Convolution:
    """A Conv ``[out, in / groups, ...]`` or ConvTranspose ``[in, out / groups, ...]`` with constant weight and bias."""

    node: ir.Node
    weight: NDArray[np.generic]
    bias: NDArray[np.generic] | None
    groups: int

    @property
    def outputs(self) -> int:
        shape = self.weight.shape
        return int(shape[0] if self.node.op_type == "Conv" else shape[1] * self.groups)

    @property
    def pads(self) -> bool:
        pads, how = attribute(self.node, "pads", ()), attribute(self.node, "auto_pad", "NOTSET")
        return any(pads) or how not in ("NOTSET", "VALID")

    def along_first(self, numbers: Numbers) -> Numbers:
        """Shape ``[first axis]`` or ``[1]`` numbers to multiply the weight."""
        return numbers.reshape(-1, *[1] * (self.weight.ndim - 1))

    def along_second(self, numbers: Numbers) -> Numbers:
        """Shape ``[second axis * groups]`` or ``[1]`` numbers to multiply the weight.

        The places of one group on the first axis are neighbours, and only they meet the group's numbers.
        """
        first, second = self.weight.shape[:2]
        rows = np.broadcast_to(numbers, (second * self.groups,)).reshape(self.groups, second)
        return rows.repeat(first // self.groups, axis=0).reshape(first, second, *[1] * (self.weight.ndim - 2))


class FoldAffineBackward(Pass):
    """Fold what follows a convolution into its weight and bias, where nothing else reads the convolution's output.

    1. BatchNormalization with constant statistics.
    2. Add, Sub, Mul, Div with a constant of one element or of one element for each channel.

    A Squeeze of spatial axes between the two is looked through. The value behind keeps its name.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules."""
        changed = False
        for node in tuple(model.graph):
            if node.op_type in ("BatchNormalization", *ELEMENTWISE):
                changed |= any(self._fold(node, place, model.graph) for place in _data_places(node))
        return changed

    @staticmethod
    def _fold(node: ir.Node, place: int, graph: ir.Graph) -> bool:
        data = node.inputs[place]
        conv, rank = (None, 0) if data is None else _convolution_before(data)
        affine = None if conv is None else _affine(node, place, rank, conv.outputs)
        if conv is None or affine is None:
            return False
        factors = conv.along_first(affine.scale) if conv.node.op_type == "Conv" else conv.along_second(affine.scale)
        bias = affine.shift + (0.0 if conv.bias is None else conv.bias.astype(np.float64) * affine.scale)
        _set(
            graph,
            conv,
            conv.weight.astype(np.float64) * factors if affine.scales else None,
            np.broadcast_to(bias, (conv.outputs,)) if affine.shifts or conv.bias is not None else None,
        )
        return merge(node, affine.data, rename=True)


class FoldAffineForward(Pass):
    """Fold what precedes a convolution into its weight and bias, where only the convolution reads it.

    1. Mul or Div with a constant of one element or of one element for each channel.
    2. Add or Sub with such a constant, where the convolution pads nothing: at a padded border the input is 0, and the
       folded constant would be missing there.
    """

    def rewrite(self, model: ir.Model) -> bool:
        """Apply the rules until none applies."""
        changed = False
        for node in tuple(model.graph):
            if node.op_type == "Conv":
                while self._fold(node, model.graph):
                    changed = True
        return changed

    @staticmethod
    def _fold(node: ir.Node, graph: ir.Graph) -> bool:
        conv = _read(node)
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if conv is None or before is None or before.op_type not in ELEMENTWISE:
            return False
        if only_reader(before.outputs[0]) is not node:
            return False
        channels = conv.weight.shape[1] * conv.groups
        found = (_affine(before, place, conv.weight.ndim, channels) for place in _data_places(before))
        affine = next((item for item in found if item is not None), None)
        if affine is None or (affine.shifts and conv.pads):
            return False
        weight = conv.weight.astype(np.float64)
        bias = (weight * conv.along_second(affine.shift)).reshape(len(weight), -1).sum(1)
        _set(
            graph,
            conv,
            weight * conv.along_second(affine.scale) if affine.scales else None,
            bias + (0.0 if conv.bias is None else conv.bias.astype(np.float64)) if affine.shifts else None,
        )
        return merge(before, affine.data, rename=False)


def _data_places(node: ir.Node) -> tuple[int, ...]:
    """Return the inputs of which a node may be an affine function."""
    return (0, 1) if node.op_type in ("Add", "Mul") else (0,)


def _read(node: ir.Node) -> _Convolution | None:
    """Return a convolution whose weight and bias are constant."""
    if node.op_type not in CONVOLUTIONS:
        return None
    weight = array_of(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = array_of(node.inputs[2]) if has_bias else None
    if weight is None or (has_bias and bias is None):
        return None
    return _Convolution(node, weight, bias, attribute(node, "group", 1))


def _convolution_before(value: ir.Value) -> tuple[_Convolution | None, int]:
    """Return the convolution whose output this is, and the rank of the value; a Squeeze of spatial axes is allowed."""
    node = value.producer()
    if node is None or only_reader(value) is None:
        return None, 0
    dropped = 0
    if node.op_type == "Squeeze" and len(node.inputs) > 1 and node.inputs[0] is not None:
        axes = array_of(node.inputs[1])
        if axes is None or min(axes) < 2 or only_reader(node.inputs[0]) is None:
            return None, 0
        dropped = len(axes)
        node = node.inputs[0].producer()
    conv = None if node is None else _read(node)
    return (None, 0) if conv is None else (conv, conv.weight.ndim - dropped)


def _affine(node: ir.Node, place: int, rank: int, channels: int) -> _Affine | None:
    """Read a node as ``scale * x + shift`` of its input ``place``."""
    data = node.inputs[place]
    assert data is not None
    if node.op_type == "BatchNormalization":
        arrays = [array_of(value) for value in node.inputs[1:5]]
        if any(array is None for array in arrays) or attribute(node, "training_mode", 0):
            return None
        gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return _Affine(data, scale, beta - mean * scale)
    constant = array_of(node.inputs[1 - place])
    numbers = None if constant is None else _per_channel(constant, rank, channels)
    if numbers is None:
        return None
    one, zero = np.ones(1), np.zeros(1)
    if node.op_type in ("Mul", "Div"):
        return _Affine(data, numbers if node.op_type == "Mul" else one / numbers, zero)
    return _Affine(data, one, numbers if node.op_type == "Add" else -numbers)


def _per_channel(constant: NDArray[np.generic], rank: int, channels: int) -> Numbers | None:
    """Return a constant as ``[1]`` or ``[channels]`` where a value of ``rank`` meets it along axis 1 alone."""
    if constant.ndim > rank:
        return None
    if constant.size == 1:
        return constant.astype(np.float64).reshape(1)
    shape = (1,) * (rank - constant.ndim) + constant.shape
    if shape[1] != channels or constant.size != channels:
        return None
    return constant.astype(np.float64).reshape(channels)


def _set(graph: ir.Graph, conv: _Convolution, weight: Numbers | None, bias: Numbers | None) -> None:
    """Give a convolution a new weight or bias; constants that other nodes read are left as they are."""
    node, dtype = conv.node, conv.weight.dtype
    if weight is not None:
        _set_input(graph, node, 1, f"{node.name}.weight", weight.astype(dtype))
    if bias is not None:
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        _set_input(graph, node, 2, f"{node.name}.bias", bias.astype(dtype))


def _set_input(graph: ir.Graph, node: ir.Node, index: int, name: str, array: NDArray[np.generic]) -> None:
    old = node.inputs[index]
    if old is not None and old.is_initializer() and only_reader(old) is node:
        old.const_value = ir.tensor(np.ascontiguousarray(array), name=old.name)
        old.shape = ir.Shape(array.shape)
        return
    node.replace_input_with(index, make_initializer(graph, name, array))
