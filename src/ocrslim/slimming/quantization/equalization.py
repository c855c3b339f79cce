"""Cross-layer equalisation: give the channels of a quantized activation like ranges, without changing what is computed.

An activation has one scale for all its channels, so that a channel of a small range gets few of the integers. Where a
channel passes from one operator with weights to others unchanged, or through a Relu, what the first multiplies it by
can be moved to the others (Nagel et al., arXiv 1906.04721; for LayerNormalization Xiao et al., arXiv 2211.10438).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.passes.base import attribute
from ocrslim.slimming.quantization.placement import Site

__all__ = ["Pair", "equalize", "find_pairs"]

MOST = 16.0  # a channel's factor and its inverse, relative to the others' geometric mean


@dataclass(frozen=True)
class Pair:
    """An activation whose channels can be rescaled.

    Args:
        value: its name.
        axis: of the channels in it.
        divided: name of each constant that makes it, with the axis of the channels.
        multiplied: the same of each weight that reads it.
    """

    value: str
    axis: int
    divided: tuple[tuple[str, int], ...]
    multiplied: tuple[tuple[str, int], ...]


def find_pairs(model: ir.Model, sites: Iterable[Site]) -> tuple[Pair, ...]:
    """Find what can be equalised.

    1. The activation is read by a site.
    2. It is made by a Conv or a LayerNormalization, with a Relu between or not, that nothing else reads.
    3. All that reads it is a Conv, or a MatMul of a two-dimensional weight, behind a Conv or a LayerNormalization
       over the last axis respectively.
    4. No constant of them is read twice.

    Args:
        model: canonical.
        sites: what becomes int8.
    """
    values = {value.name: value for node in model.graph for value in node.outputs}
    found = []
    for name in dict.fromkeys(site.input_value for site in sites):
        pair = _pair(values[name]) if name in values else None
        if pair is not None:
            found.append(pair)
    return tuple(found)


@torch.no_grad()
def equalize(model: ir.Model, pairs: Sequence[Pair], batches: Iterable[Tensor]) -> ir.Model:
    """Return a graph that computes the same, in which each pair's channels range as far as their weights do.

    With ``r`` the largest magnitude of a channel and ``w`` that of the weights that read it, the channel is divided by
    ``sqrt(r / w)`` and the weights multiplied by it, after which both are ``sqrt(r * w)``. A dead channel stays.

    Args:
        model: canonical; stays as it is.
        pairs: of that graph.
        batches: images ``[N, 3, H, W]`` to take the ranges from.
    """
    module = GraphModule(model).eval()
    ranges = _ranges(module, pairs, batches)
    for pair in pairs:
        weights = torch.stack([_largest(module.parameter(name), axis) for name, axis in pair.multiplied]).amax(0)
        factor = _factors(ranges[pair.value], weights)
        for name, axis in pair.divided:
            module.parameter(name).div_(_along(factor, module.parameter(name).dim(), axis))
        for name, axis in pair.multiplied:
            module.parameter(name).mul_(_along(factor, module.parameter(name).dim(), axis))
    return module.to_ir()


def _pair(value: ir.Value) -> Pair | None:
    node = value.producer()
    if node is not None and node.op_type == "Relu" and node.inputs[0] is not None:
        only = len(list(node.inputs[0].uses())) == 1 and not node.inputs[0].is_graph_output()
        node = node.inputs[0].producer() if only else None
    if node is None or value.is_graph_output() or node.op_type not in ("Conv", "LayerNormalization"):
        return None
    if node.op_type == "LayerNormalization" and attribute(node, "axis", -1) != -1:
        return None
    reads = [_read(use.node, use.idx, node.op_type) for use in value.uses()]
    makes = [_constant(constant) for constant in node.inputs[1:] if constant is not None]
    names = [*reads, *makes]
    if not reads or None in names or len(set(names)) < len(names):
        return None
    behind = -1 if node.op_type == "LayerNormalization" else 1
    divided = tuple((name, 0) for name in makes if name)
    multiplied = tuple((name, _input_axis(use.node)) for name, use in zip(reads, value.uses(), strict=True) if name)
    return Pair(str(value.name), behind, divided, multiplied)


def _read(node: ir.Node, index: int, made_by: str) -> str | None:
    """Return the name of the weight that multiplies the value at an input of a node, by rule 3."""
    if index != 0 or node.op_type != ("Conv" if made_by == "Conv" else "MatMul"):
        return None
    weight = node.inputs[1]
    if weight is None or weight.shape is None:
        return None
    if node.op_type == "MatMul":
        return _constant(weight) if len(weight.shape) == 2 else None
    return _constant(weight) if attribute(node, "group", 1) in (1, weight.shape[0]) else None


def _input_axis(node: ir.Node) -> int:
    """Return the axis of the input channels in a weight; of a depthwise convolution it is that of the outputs."""
    return 1 if node.op_type == "Conv" and attribute(node, "group", 1) == 1 else 0


def _constant(value: ir.Value) -> str | None:
    """Return the name of a constant of floats that one node reads once."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or not tensor.dtype.is_floating_point() or len(list(value.uses())) != 1:
        return None
    return value.name


def _ranges(module: GraphModule, pairs: Sequence[Pair], batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the largest magnitude of each channel of each pair's value."""
    ranges: dict[str, Tensor] = {}
    for batch in batches:
        values = module(batch, fetch=[pair.value for pair in pairs])
        for pair in pairs:
            value = values[pair.value]
            seen = _largest(value, pair.axis % value.dim())
            ranges[pair.value] = torch.maximum(ranges.get(pair.value, seen), seen)
    return ranges


def _largest(tensor: Tensor, axis: int) -> Tensor:
    """Return the largest magnitude of each channel, ``[channels]``."""
    return tensor.detach().abs().amax([other for other in range(tensor.dim()) if other != axis])


def _factors(ranges: Tensor, weights: Tensor) -> Tensor:
    """Return what to divide each channel by, with geometric mean 1; that of a dead one is 1."""
    alive = (ranges > 0) & (weights > 0)
    logarithm = torch.where(alive, 0.5 * (ranges.log() - weights.log()), torch.zeros_like(ranges))
    if bool(alive.any()):
        logarithm = torch.where(alive, logarithm - logarithm[alive].mean(), torch.zeros_like(ranges))
    return logarithm.exp().clamp(1.0 / MOST, MOST)


def _along(factor: Tensor, rank: int, axis: int) -> Tensor:
    return factor.reshape([-1 if index == axis else 1 for index in range(rank)])
