"""Reading our own ONNX files: what ``export_qdq`` writes comes out as integers, grids and biases, by the old names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ocrslim.engines.targets import get_target
from ocrslim.errors import ModelError
from ocrslim.export.learned import Grid, read_learned
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.channels import find_factors
from ocrslim.slimming.quantization.numerics import along_axis, quantize
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare


@pytest.mark.parametrize("target_name", ["paddle", "openvino", "onnxruntime"])
@pytest.mark.parametrize("task", ["det", "rec"])
def test_what_export_qdq_writes_is_read(task: str, target_name: str, twin: Callable[[str], Any]) -> None:
    model, target = twin(task), get_target(target_name, [])
    module = GraphModule(model.canonical).eval()
    quantization = prepare(module, place(model.canonical, target), target)
    calibrate(quantization, [torch.from_numpy(model.x)], observer="minmax")
    quantization.freeze()
    learned = read_learned(export_qdq(quantization))
    assert learned.grids.keys() == quantization.weights.keys()
    for site in quantization.placement.sites:
        grid, quantizer = learned.grids[site.weight_name], quantization.weights[site.weight_name]
        weight = module.parameter(site.weight_name).detach()
        integers = quantize(weight, quantizer.scale, quantizer.whole_zero_point, quantizer.spec)
        assert np.array_equal(grid.integers, integers.numpy())
        assert grid.axis == site.weight_axis
        activation = quantization.activations[site.input_value]
        assert grid.input_scale == pytest.approx(activation.scale.item())
        assert (grid.input_zero_point, grid.signed) == (
            int(activation.whole_zero_point.item()),
            target_name == "paddle",
        )
        bias = quantization.bias(site)
        if site.kind == "conv" and bias is not None:
            found = learned.biases[site.weight_name]
            assert found is not None
            step = grid.input_scale * grid.scale if target.quantize_bias else 1e-6
            assert np.all(np.abs(found.array - bias.detach().numpy()) <= 0.51 * step + 1e-6)


def test_weights_are_those_of_the_model_where_channels_have_factors(twin: Callable[[str], Any]) -> None:
    model, target = twin("rec"), get_target("openvino", [])
    module, image = GraphModule(model.canonical).eval(), torch.from_numpy(model.x)
    placement = place(model.canonical, target)
    factors = find_factors(module, placement, target.activation, [image])
    assert factors
    assert min(factor.min() for factor in factors.values()) < 0.5
    quantization = prepare(module, placement, target, factors=factors)
    calibrate(quantization, [image], observer="minmax")
    quantization.freeze()
    learned = read_learned(export_qdq(quantization))
    with torch.no_grad():
        for site in placement.sites:
            weight, step = module.parameter(site.weight_name), quantization.weights[site.weight_name]
            unit = along_axis(step.scale, weight.dim(), step.spec) * (1.0 if step.factor is None else step.factor)
            off = (torch.from_numpy(learned.grids[site.weight_name].weight) - step(weight)) / unit
            assert off.abs().max() < 1.01  # an integer, where the weight lies on a tie
            assert (off.abs() > 0.01).float().mean() < 0.001


@pytest.mark.parametrize("task", ["det", "rec"])
def test_a_float_model_has_floats_only(task: str, twin: Callable[[str], Any]) -> None:
    model = twin(task)
    learned = read_learned(model.canonical)
    assert not learned.grids
    convs = [node for node in model.canonical.graph if node.op_type in ("Conv", "ConvTranspose")]
    assert learned.biases.keys() == {node.inputs[1].name for node in convs}
    names = {bias.name for bias in learned.biases.values() if bias}
    assert not names & learned.floats.keys()
    everything = {
        name for name, value in model.canonical.graph.initializers.items() if value.dtype == ir.DataType.FLOAT
    }
    assert learned.floats.keys() | names == everything


def test_the_numbers_of_a_recognisers_attention_are_found(twin: Callable[[str], Any]) -> None:
    # 15 channels a head: the queries are multiplied with 1 / sqrt(15), once in each of two blocks.
    model = twin("rec")
    weights = read_learned(model.canonical)
    numbers = [number for name, number in weights.factors if not name.startswith("whswish")]
    assert numbers == pytest.approx([15**-0.5] * 2)


def test_a_grid_gives_back_real_numbers() -> None:
    grid = Grid(np.array([[1, -2], [3, 4]], np.int8), np.array([0.5, 0.25]), 0, 0.1, 0, True)
    assert grid.weight.tolist() == [[0.5, -1.0], [0.75, 1.0]]
    assert grid.weight.dtype == np.float32
    across = Grid(grid.integers, grid.scale, 1, 0.1, 0, True)
    assert across.weight.tolist() == [[0.5, -0.5], [1.5, 1.0]]


def test_a_model_quantized_by_others_is_refused(twin: Callable[[str], Any]) -> None:
    other = twin("det").quantized.clone()
    name = next(name for name in other.graph.initializers if name.endswith("_quantized"))
    value = other.graph.initializers[name]
    value.name = "weight_int8"
    with pytest.raises(ModelError, match=r"not by ocrslim; give a model.onnx that ocrslim wrote"):
        read_learned(other)
