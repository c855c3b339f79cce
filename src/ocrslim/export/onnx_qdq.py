"""Write the learned grids and weights into the user's graph, as QuantizeLinear and DequantizeLinear nodes.

1. A weight becomes an int8 initializer behind a DequantizeLinear with a scale for each output channel.
2. An activation that a quantized operator reads passes through QuantizeLinear once, and through a DequantizeLinear for
   each operator: engines fuse the operator with the ones that it has to itself.
3. Where the target quantizes outputs, everything that reads the output reads it dequantized.
   A float convolution among the readers gets its scale repeated for each channel. ONNX Runtime would otherwise
   quantize that convolution's weight to 8 bits with one scale, unasked (WeightBiasQuantization).
4. A convolution that was given a bias gets it as a new initializer.
5. Where the target quantizes biases, they become int32 initializers with the scale input scale * weight scale.
6. Where channels of an activation have factors, QuantizeLinear divides each by its own, with a scale for each channel,
   and DequantizeLinear does not multiply: the weights are multiplied instead, before they become integers.
7. Where the target quantizes residuals, a sum reads its other input dequantized.
8. Where the target wants it, transposed convolutions that make few channels are written as
   :class:`ocrslim.graph.passes.shuffle.ShuffleUpsampling` does.
Names of nodes, inputs, outputs and metadata stay; new names are the old ones with an ending.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import Tensor

from ocrslim.atomic import replacing
from ocrslim.graph.passes.base import attribute
from ocrslim.graph.passes.shuffle import ShuffleUpsampling
from ocrslim.slimming.quantization.numerics import quantize
from ocrslim.slimming.quantization.placement import Residual, Site
from ocrslim.slimming.quantization.prepare import Quantization

__all__ = ["export_qdq"]

LEAST_BIAS = 1e-12


def export_qdq(quantization: Quantization, path: Path | None = None) -> ir.Model:
    """Return the quantized graph, and write it if a path is given.

    Args:
        quantization: calibrated, and frozen after training.
        path: of the ONNX file; it appears only when it is complete.

    Raises:
        OverflowError: a bias does not fit into int32: ``freeze`` was not called.
    """
    model = quantization.module.to_ir()
    writer = _Writer(model, quantization)
    for site in quantization.placement.sites:
        writer.quantize_weight(site)
        writer.quantize_input(site)
        writer.add_bias(site)
        if quantization.target.quantize_bias:
            writer.quantize_bias(site)
    for site in quantization.placement.sites:
        if site.output_value is not None:
            writer.quantize_output(site.output_value)
    for residual in quantization.placement.residuals:
        writer.quantize_residual(residual)
    if quantization.target.shuffle_upsampling:
        ShuffleUpsampling()(model)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    if path is not None:
        with replacing(path) as partial:
            ir.save(model, partial)
    return model


class _Writer:
    """Adds the nodes to one model."""

    def __init__(self, model: ir.Model, quantization: Quantization) -> None:
        self._graph = model.graph
        self._quantization = quantization
        self._nodes = {node.name: node for node in model.graph}
        self._values = {value.name: value for value in model.graph.inputs}
        self._values |= {value.name: value for node in model.graph for value in node.outputs}
        self._quantized: dict[str, ir.Value] = {}

    def quantize_weight(self, site: Site) -> None:
        """Rules 1 and 6."""
        quantizer = self._quantization.weights[site.weight_name]
        name = f"{site.weight_name}_quantized"
        if name not in self._graph.initializers:
            weight = self._quantization.module.parameter(site.weight_name).detach()
            scale, zero_point = quantizer.scale, quantizer.whole_zero_point
            self._constant(name, quantize(quantizer.divided(weight), scale, zero_point, quantizer.spec).cpu().numpy())
            self._constant(f"{site.weight_name}_scale", scale.float().cpu().numpy())
            self._constant(f"{site.weight_name}_zero_point", zero_point.to(torch.int8).cpu().numpy())
        names = (name, f"{site.weight_name}_scale", f"{site.weight_name}_zero_point")
        self._dequantize(
            self._nodes[site.node], 1, tuple(self._graph.initializers[name] for name in names), site.weight_axis
        )

    def quantize_input(self, site: Site) -> None:
        """Rule 2."""
        node = self._nodes[site.node]
        self._dequantize(node, 0, self._activation(site.input_value))

    def quantize_output(self, name: str) -> None:
        """Rule 3."""
        grid = self._activation(name)
        for node, index in list(self._values[name].uses()):
            if node.op_type == "QuantizeLinear":
                continue
            weight = node.inputs[1] if node.op_type in ("Conv", "ConvTranspose") else None
            if weight is None or weight.shape is None:
                self._dequantize(node, index, grid)
            else:
                channels = weight.shape.numpy()[0] if node.op_type == "ConvTranspose" else _channels(node, weight)
                self._dequantize(node, index, self._repeated(name, grid, channels), axis=1)

    def quantize_residual(self, residual: Residual) -> None:
        """Rule 7; a value that a site makes quantized is read so by rule 3."""
        node = self._nodes[residual.node]
        if node.inputs[residual.index] is self._values[residual.value]:
            self._dequantize(node, residual.index, self._activation(residual.value))

    def add_bias(self, site: Site) -> None:
        """Rule 4."""
        given = self._quantization.biases.get(site.node)
        if given is None:
            return
        bias = given.bias.detach().float().cpu().numpy().copy()
        if not bias.any():  # OpenVINO removes an addition of zeros, and then makes the error that the bias avoids
            bias += LEAST_BIAS
        node = self._nodes[site.node]
        node.resize_inputs(3)
        node.replace_input_with(2, self._constant(f"{site.node}_bias", bias))

    def quantize_bias(self, site: Site) -> None:
        """Rule 5; the bias of a MatMul is an Add of its own and stays float."""
        node = self._nodes[site.node]
        value = node.inputs[2] if len(node.inputs) > 2 else None
        if value is None or value.const_value is None or not value.name:
            return
        bias = torch.from_numpy(value.const_value.numpy().astype("float64"))
        scale = (
            self._quantization.activations[site.input_value].scale * self._quantization.weights[site.weight_name].scale
        )
        integers = torch.round(bias / scale.cpu().double())
        if not bool((integers.abs() < 2**31).all()):
            raise OverflowError(
                f"bias {value.name!r} does not fit into int32; freeze the quantization before the export"
            )
        # Two nodes may share a bias; the scales are each node's own.
        names = [f"{value.name}_{site.node}_{part}" for part in ("quantized", "scale", "zero_point")]
        grid = (
            self._constant(names[0], integers.to(torch.int32).cpu().numpy()),
            self._constant(names[1], scale.float().cpu().numpy()),
            self._constant(names[2], np.zeros(len(scale), np.int32)),
        )
        self._dequantize(node, 2, grid, axis=0)

    def _activation(self, name: str) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the quantized value, its scale and its zero point; the node is made at the first call."""
        if name not in self._quantized:
            quantizer = self._quantization.activations[name]
            zero_point = quantizer.whole_zero_point.to(torch.int8 if quantizer.spec.signed else torch.uint8)
            scale = self._constant(f"{name}_scale", _scalar(quantizer.scale.float()))
            offset = self._constant(f"{name}_zero_point", _scalar(zero_point))
            value = ir.Value(name=f"{name}_quantized")
            grid, attributes = (scale, offset), []
            if quantizer.factor is not None:  # rule 6
                factor = quantizer.factor.reshape(-1)
                channels = (quantizer.scale * factor).float().cpu().numpy()
                offsets = zero_point.expand_as(factor).cpu().numpy()
                grid = (
                    self._constant(f"{name}_channel_scale", channels),
                    self._constant(f"{name}_channel_zero_point", offsets),
                )
                attributes = [ir.AttrInt64("axis", 1)]
            self._graph.append(
                ir.Node(
                    "",
                    "QuantizeLinear",
                    (self._values[name], *grid),
                    attributes,
                    outputs=(value,),
                    name=f"{name}_QuantizeLinear",
                )
            )
            self._quantized[name] = value
        initializers = self._graph.initializers
        return self._quantized[name], initializers[f"{name}_scale"], initializers[f"{name}_zero_point"]

    def _repeated(self, name: str, grid: tuple[ir.Value, ...], channels: int) -> tuple[ir.Value, ...]:
        """Return the grid with its parameters once for each channel."""
        found = [grid[0]]
        for value, part in zip(grid[1:], ("scale", "zero_point"), strict=True):
            repeated = f"{name}_{part}_{channels}"
            if repeated not in self._graph.initializers:
                assert value.const_value is not None
                self._constant(repeated, np.repeat(value.const_value.numpy().reshape(1), channels))
            found.append(self._graph.initializers[repeated])
        return tuple(found)

    def _dequantize(self, node: ir.Node, index: int, grid: tuple[ir.Value, ...], axis: int | None = None) -> None:
        """Let input ``index`` of ``node`` read the dequantized value, from a node of its own."""
        name = f"{grid[0].name}_{node.name}"
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        value = ir.Value(name=f"{name}_dequantized")
        self._graph.append(
            ir.Node("", "DequantizeLinear", grid, attributes, outputs=(value,), name=f"{name}_DequantizeLinear")
        )
        node.replace_input_with(index, value)

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._graph.register_initializer(value)
        return value


def _channels(node: ir.Node, weight: ir.Value) -> int:
    """Return the number of input channels of a convolution with the weight ``[out, in / group, *kernel]``."""
    assert weight.shape is not None
    channels: int = weight.shape.numpy()[1] * attribute(node, "group", 1)
    return channels


def _scalar(parameter: Tensor) -> np.ndarray:
    """Return ``[1]`` as ``[]``: engines take per-tensor parameters as scalars."""
    array: np.ndarray = parameter.cpu().numpy().reshape(())
    return array
