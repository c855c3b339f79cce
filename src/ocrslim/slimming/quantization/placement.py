"""Which operators become int8 for a target, and why the others stay float.

The policy was measured on ten PP-OCR models on a CPU: full and pointwise convolutions and products with a constant
matrix gain from int8 on both engines; squeeze-and-excitation, attention, transposed convolutions and sums of few
products are little of the time and much of the error; and the stem reads the image, whose values lie on rounding ties.
Depthwise convolutions lost 1.3 to 1.9 times on a CPU without VNNI, and gain a seventh of a detector's time on one with
it: what depends on the machine so is optional, and :mod:`.measured` asks the clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from ocrslim.engines.targets import Target
from ocrslim.errors import InputError
from ocrslim.graph.passes.base import attribute

__all__ = ["Placement", "Residual", "Site", "place"]

Kind = Literal["conv", "depthwise", "matmul", "gemm"]

DEPTHWISE = "depthwise convolution: on many CPUs slower in int8 than in float"

ZERO_BELOW = {
    "HardSwish": -3.2,  # exactly 0 below -3
    "Gelu": -3.5,  # within 0.001 of 0 below that
}
"""Operators that map all values below a bound to 0: a range need not reach further down."""

MOST_TERMS_FLOAT = 64
"""Sums of so few products gain no time in int8 and cost much accuracy: the first layers of a network, wide and shallow,
with the widest ranges. Keeping them float took PP-OCRv3 rec in ONNX Runtime from .71 to .95 of the frames right and
from .86 to .82 of the time, v3 det from 1.12 to .89 of the time."""

MOST_WEIGHTS_FLOAT = 8192
"""With more weights than that, a convolution of few terms makes many channels of a small map: deep, not wide and
shallow. The two of 56 to 336 channels are a sixth of PP-OCRv3 det's bytes."""

CLIPPING = ("Relu", "Clip")  # engines run them as part of the convolution, and the grid's ends do their work


@dataclass(frozen=True)
class Site:
    """One operator that becomes int8.

    Args:
        node: its name.
        kind: of operator.
        input_value: name of the activation that it reads, input 0.
        weight_name: name of the constant that it reads, input 1.
        weight_axis: of the output channels in the weight.
        bias_name: constant that is added to the output, an input of the node or of the ``Add`` behind it, and read by
            no other node; ``None`` where there is none.
        has_bias: whether the node reads a bias, be it shared with other nodes.
        raw_output: name of the value that the node makes.
        output_value: name of the value to quantize behind the node, ``None`` where the target needs none. It is the
            output of a Relu or Clip where that is all that reads the node's.
        output_floor: the least value in ``output_value`` that matters to what reads it.
        reason: why it becomes int8.
    """

    node: str
    kind: Kind
    input_value: str
    weight_name: str
    weight_axis: int
    bias_name: str | None
    has_bias: bool
    raw_output: str
    output_value: str | None
    output_floor: float | None
    reason: str


@dataclass(frozen=True)
class Residual:
    """The other input of a sum that takes a site's output.

    Args:
        node: name of the ``Add``.
        index: of the input to quantize, 0 or 1.
        value: its name.
    """

    node: str
    index: int
    value: str


@dataclass(frozen=True)
class Placement:
    """What becomes int8, and what stays float.

    Args:
        sites: in the order of the graph.
        float_nodes: convolutions and matrix products that stay float: name -> reason.
        residuals: inputs of sums that are quantized, where the target wants that.
        optional: nodes that may be a site or not, the clock and the loss decide: depthwise convolutions and sums of few
            products. Where none was asked for all of them are float.
    """

    sites: tuple[Site, ...]
    float_nodes: Mapping[str, str]
    residuals: tuple[Residual, ...] = ()
    optional: tuple[str, ...] = ()

    def values(self) -> tuple[str, ...]:
        """Return the names of the activations to quantize, each once."""
        at_sites = (value for site in self.sites for value in (site.input_value, site.output_value))
        known = (value for value in at_sites if value is not None)
        return tuple(dict.fromkeys((*known, *(residual.value for residual in self.residuals))))


def place(model: ir.Model, target: Target, keep_float: Collection[str] = (), also: Collection[str] = ()) -> Placement:
    """Choose what becomes int8 for a target.

    Args:
        model: canonical, see :func:`ocrslim.graph.passes.canonical.canonicalize`; not changed.
        target: that will run it.
        keep_float: names of nodes that must stay float.
        also: names of optional nodes that become int8; see :attr:`Placement.optional`.

    Raises:
        InputError: ``keep_float`` names a node that the graph does not have.
    """
    names = {node.name for node in model.graph}
    missing = sorted({*keep_float, *also} - names)
    if missing:
        raise InputError(f"keep_float: the graph has no node {missing[0]!r}; `ocrslim inspect` lists the nodes")
    pooled = _pooled(model)
    sites: list[Site] = []
    float_nodes: dict[str, str] = {}
    optional: list[str] = []
    for node in model.graph:
        if node.op_type not in ("Conv", "MatMul", "Gemm", "ConvTranspose"):
            continue
        assert node.name is not None
        reason = _reason_for_float(node, pooled, target)
        if reason is None and (choice := _reason_for_choice(node)) is not None:
            optional.append(node.name)
            reason = None if node.name in also else choice
        if node.name in keep_float:
            reason = "kept float on request"
        if reason is None:
            sites.append(_site(node, target))
        else:
            float_nodes[node.name] = reason
    residuals = _residuals(model, sites) if target.quantize_residuals else ()
    return Placement(tuple(sites), float_nodes, residuals, tuple(optional))


def _reason_for_float(node: ir.Node, pooled: Collection[str], target: Target) -> str | None:
    """Return why the node stays float, or ``None`` if it becomes int8."""
    weight = _constant(node, 1)
    if weight is None:
        return "no constant weight: a product of two activations, as in attention"
    if weight.shape is None or not weight.shape.is_static():
        return "weight of unknown shape"
    if node.op_type == "ConvTranspose":
        return "transposed convolution: no int8 kernel that is worth it"
    if node.op_type != "Conv":
        return _reason_in_product(node, weight)
    return _reason_in_conv(node, pooled, target)


def _reason_in_conv(node: ir.Node, pooled: Collection[str], target: Target) -> str | None:
    if attribute(node, "group", 1) != 1 and not _is_depthwise(node):
        return "grouped convolution: no int8 kernel that is worth it"
    source = node.inputs[0]
    if source is None or source.is_graph_input():
        return "stem: reads the image, whose values lie on rounding ties"
    if source.name in pooled:
        return "squeeze-and-excitation: little work, much error"
    if target.quantize_outputs and _output(node)[0].is_graph_output():
        return "makes the model's output, which stays float"
    return None


def _reason_for_choice(node: ir.Node) -> str | None:
    """Return why a node that could be int8 stays float unless it is asked for; ``None`` where it is int8."""
    if node.op_type != "Conv":
        return None
    if _is_depthwise(node):
        return DEPTHWISE
    shape = _weight_shape(node)
    terms, weights = math.prod(shape[1:]), math.prod(shape)
    if terms <= MOST_TERMS_FLOAT and weights <= MOST_WEIGHTS_FLOAT:
        return f"sums of {terms} products only: no time to gain from int8"
    return None


def _is_depthwise(node: ir.Node) -> bool:
    group, shape = attribute(node, "group", 1), _weight_shape(node)
    return group > 1 and group == shape[0] and shape[1] == 1


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    weight = node.inputs[1]
    assert weight is not None
    assert weight.shape is not None  # what is unknown was sent away before
    return tuple(weight.shape.numpy())


def _reason_in_product(node: ir.Node, weight: ir.Value) -> str | None:
    if weight.shape is None or len(weight.shape) != 2:
        return "batched weight"
    if attribute(node, "transA", 0) or node.attributes.get_float("alpha", 1.0) != 1.0:
        return "Gemm with a transposed or scaled input"
    return None


def _weight_axis(node: ir.Node) -> int:
    """Return the axis of the output channels in the weight, input 1."""
    if node.op_type == "Conv":
        return 0
    return 0 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 1


def _site(node: ir.Node, target: Target) -> Site:
    source, weight, raw = node.inputs[0], node.inputs[1], node.outputs[0]
    assert node.name
    assert source is not None
    assert weight is not None
    kind = _kind(node)
    output, floor = None, None
    # A product without a quantized output has an int8 kernel in ONNX Runtime (MatMulIntegerToFloat); a convolution not.
    if target.quantize_outputs and node.op_type == "Conv":
        value, floor = _output(node)
        output = value.name
    bias = _bias(node)
    return Site(
        node.name,
        kind,
        _name(source),
        _name(weight),
        _weight_axis(node),
        None if bias is None else _name(bias),
        len(node.inputs) > 2 and node.inputs[2] is not None,
        _name(raw),
        output,
        floor,
        _reason(node, weight),
    )


def _kind(node: ir.Node) -> Kind:
    if node.op_type == "Conv":
        return "depthwise" if _is_depthwise(node) else "conv"
    return "matmul" if node.op_type == "MatMul" else "gemm"


def _reason(node: ir.Node, weight: ir.Value) -> str:
    if node.op_type != "Conv":
        return "product with a constant matrix: int8 is faster"
    if _reason_for_choice(node) is not None:
        return "convolution that the clock wants in int8"
    sizes = [int(size) for size in (weight.shape or ())[2:] if isinstance(size, int)]
    what = "pointwise" if all(size == 1 for size in sizes) else "x".join(map(str, sizes))
    return f"{what} convolution: int8 is faster"


def _output(node: ir.Node) -> tuple[ir.Value, float | None]:
    """Return the value to quantize behind a node, and the least value in it that matters."""
    value = node.outputs[0]
    readers = list(value.consumers())
    if len(readers) == 1 and readers[0].op_type in CLIPPING and not value.is_graph_output():
        value = readers[0].outputs[0]
        readers = list(value.consumers())
    floors = [ZERO_BELOW.get(reader.op_type) for reader in readers]
    known = [floor for floor in floors if floor is not None]
    return value, min(known) if known and len(known) == len(floors) else None


def _residuals(model: ir.Model, sites: Collection[Site]) -> tuple[Residual, ...]:
    """Return the shortcuts around sites: one input of the sum is the site's alone, the other is quantized.

    A site with a bias in an ``Add`` of its own is summed behind that.
    """
    made = {site.raw_output for site in sites}
    biased = {site.raw_output for site in sites if site.bias_name is not None and not site.has_bias}
    found = []
    for node in model.graph:
        if node.op_type != "Add" or any(value is None or value.is_initializer() for value in node.inputs):
            continue
        for index, value in enumerate(node.inputs):
            other = node.inputs[1 - index]
            assert value is not None
            assert other is not None
            source = _behind_bias(value, biased)
            if source in made and len(list(value.uses())) == 1 and other is not value:
                found.append(Residual(_name_of(node), 1 - index, _name(other)))
                break
    return tuple(found)


def _behind_bias(value: ir.Value, biased: Collection[str]) -> str:
    """Return the name of the product whose bias makes ``value``, else that of ``value``."""
    maker = value.producer()
    if maker is not None and maker.op_type == "Add":
        for source in maker.inputs:
            if source is not None and source.name in biased:
                return _name(source)
    return _name(value)


def _bias(node: ir.Node) -> ir.Value | None:
    """Return the constant vector that is added to the output and that no other node reads."""
    bias = _constant(node, 2)
    raw = node.outputs[0]
    readers = list(raw.consumers())
    if node.op_type == "MatMul" and len(readers) == 1 and readers[0].op_type == "Add":
        add = readers[0]
        bias = _constant(add, 1) or _constant(add, 0)
        if bias is not None and (bias.shape is None or len(bias.shape) != 1):
            bias = None
    return bias if bias is not None and len(list(bias.uses())) == 1 else None


def _pooled(model: ir.Model) -> set[str]:
    """Return the names of the values that have one place per channel: what squeeze-and-excitation computes."""
    found: set[str] = set()
    for node in model.graph:
        activations = [value for value in node.inputs if value is not None and not value.is_initializer()]
        if node.op_type == "GlobalAveragePool" or _means_over_image(node):
            inside = True
        else:
            inside = bool(activations) and all(_name(value) in found for value in activations)
        if inside:
            found.update(_name(value) for value in node.outputs)
    return found


def _means_over_image(node: ir.Node) -> bool:
    """Tell whether a node averages over the last two axes of ``[N, C, H, W]`` and keeps them."""
    if node.op_type != "ReduceMean" or not attribute(node, "keepdims", 1):
        return False
    axes = _constant(node, 1)
    tensor = None if axes is None else axes.const_value
    return tensor is not None and sorted(int(axis) for axis in tensor.numpy()) in ([2, 3], [-2, -1])


def _constant(node: ir.Node, index: int) -> ir.Value | None:
    """Return input ``index`` if it is an initializer."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return value if value is not None and value.is_initializer() else None


def _name_of(node: ir.Node) -> str:
    assert node.name, "a canonical model names every node"
    return node.name


def _name(value: ir.Value) -> str:
    assert value.name, "a canonical model names every value"
    return value.name
