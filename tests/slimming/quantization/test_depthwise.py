"""Depthwise sites: each channel is a small product of its own, for samples, rounding, ranges and factors alike."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.bias import correct_bias
from ocrslim.slimming.quantization.channels import find_factors
from ocrslim.slimming.quantization.placement import DEPTHWISE, place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare
from ocrslim.slimming.quantization.ranges import choose_ranges
from ocrslim.slimming.quantization.rounding import _round_channels, round_to_outputs, round_weights
from ocrslim.slimming.quantization.samples import WIDTH, collect_samples, input_factors, weight_matrix

CHANNELS = 32
OPENVINO = get_target("openvino", ["avx2", "avx_vnni"])


def network(kernel: int = 3, stride: int = 1, loud: float = 1.0) -> ir.Model:
    """Return a stem and a depthwise convolution; one channel between them is ``loud``, and quiet again behind."""
    rng = np.random.default_rng(0)
    weights = {
        "stem.w": rng.normal(size=(CHANNELS, 3, 1, 1)),
        "stem.b": rng.normal(size=CHANNELS),
        "depth.w": rng.normal(size=(CHANNELS, 1, kernel, kernel)),
        "depth.b": rng.normal(size=CHANNELS),
    }
    for name in ("stem.w", "stem.b"):
        weights[name][5] *= loud
    weights["depth.w"][5] /= loud
    pad = [kernel // 2] * 4
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["stem.y"], "stem"),
        helper.make_node("Relu", ["stem.y"], ["stem.r"], "stem.act"),
        helper.make_node(
            "Conv",
            ["stem.r", "depth.w", "depth.b"],
            ["y"],
            "depth",
            group=CHANNELS,
            pads=pad,
            strides=[stride, stride],
        ),
    ]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], constants)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def images(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(2, 3, 12, 14, generator=generator) * 2 - 1 for _ in range(2)]


def quantized(graph: ir.Model, *, channels: bool = False, full: bool = True) -> Quantization:
    placement = place(graph, OPENVINO, also=["depth"])
    factors = find_factors(GraphModule(graph), placement, OPENVINO.activation, images()) if channels else {}
    quantization = prepare(GraphModule(graph).eval(), placement, OPENVINO, factors=factors)
    calibrate(quantization, images(), "minmax")
    if full:
        samples = collect_samples(quantization, images())
        choose_ranges(quantization, images(), samples)
        round_weights(quantization, samples)
    return quantization


def error(graph: ir.Model, quantization: Quantization) -> float:
    with torch.no_grad():
        wanted, got = GraphModule(graph)(images(1)[0]), quantization.module(images(1)[0])
    return float((wanted - got).square().mean())


def test_it_is_float_unless_it_is_asked_for() -> None:
    usual = place(network(), OPENVINO)
    assert not usual.sites
    assert usual.optional == ("depth",)
    assert usual.float_nodes["depth"] == DEPTHWISE
    (site,) = place(network(), OPENVINO, also=["depth"]).sites
    assert (site.kind, site.weight_axis) == ("depthwise", 0)
    assert not place(network(), OPENVINO, keep_float=["depth"], also=["depth"]).sites


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_samples_times_weights_are_outputs(kernel: int, stride: int) -> None:
    graph = network(kernel, stride)
    quantization = quantized(graph, full=False)
    (site,) = quantization.placement.sites
    rows = collect_samples(quantization, images())["depth"]
    assert rows.shape[1:] == (CHANNELS, kernel * kernel)
    assert len(rows) <= 4096 * WIDTH // (CHANNELS * kernel * kernel)
    weight = weight_matrix(quantization.module.parameter(site.weight_name), site)
    with torch.no_grad():
        made = [(rows * weight).sum(2), *(GraphModule(graph)(batch, fetch=["y"])["y"] for batch in images())]
    bias = quantization.module.parameter("depth.b").detach()
    found = {tuple(np.round((row + bias).tolist(), 3)) for row in made[0]}
    known = {
        tuple(np.round(column.tolist(), 3))
        for batch in made[1:]
        for column in batch.permute(0, 2, 3, 1).reshape(-1, CHANNELS)
    }
    assert len(found & known) > 0.95 * len(found)  # some differ in the last digit


@settings(max_examples=15)
@given(st.integers(0, 1000), st.booleans())
def test_each_channel_is_rounded_by_its_own_inputs(seed: int, one_scale: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, inputs = torch.randn(4, 9, generator=generator), torch.randn(200, 4, 9, generator=generator)
    scale = torch.full((1,), 0.3) if one_scale else torch.tensor([0.1, 0.2, 0.3, 0.4])
    whole = _round_channels(weight, inputs, scale, (-8, 7))
    for channel in range(4):
        step = scale if one_scale else scale[channel : channel + 1]
        alone = round_to_outputs(weight[channel : channel + 1], inputs[:, channel], step, (-8, 7))
        assert torch.equal(whole[channel], alone[0])


def test_rounding_by_outputs_beats_rounding_to_nearest() -> None:
    graph = network(5)
    assert error(graph, quantized(graph)) < error(graph, quantized(graph, full=False))


def test_the_mean_that_rounding_leaves_goes_into_the_bias() -> None:
    quantization = quantized(network(), full=False)
    with torch.no_grad():
        values = [quantization.module(batch) for batch in images()]
        floats = [GraphModule(network())(batch) for batch in images()]
    assert correct_bias(quantization, images()) == 1
    with torch.no_grad():
        after = [quantization.module(batch) for batch in images()]
    before_shift, after_shift = (
        torch.cat([a - b for a, b in zip(found, floats, strict=True)]).mean((0, 2, 3)).abs().mean()
        for found in (values, after)
    )
    assert after_shift < before_shift


def test_a_loud_channel_costs_the_others_nothing_with_a_scale_for_each() -> None:
    graph = network(loud=50.0)
    plain, channels = quantized(graph), quantized(graph, channels=True)
    (site,) = channels.placement.sites
    assert input_factors(channels, site).shape == (CHANNELS, 1)
    assert channels.weights["depth.w"].factor is not None
    assert channels.weights["depth.w"].factor.shape == (CHANNELS, 1, 1, 1)
    assert error(graph, channels) < 0.05 * error(graph, plain)


def test_gradients_reach_scales_and_bias() -> None:
    quantization = quantized(network(), channels=True)
    quantization.fix_codes()
    loss = F.mse_loss(quantization.module(images()[0]), torch.zeros(()).expand(2, CHANNELS, 12, 14))
    loss.backward()  # type: ignore[no-untyped-call]
    for quantizer in (*quantization.weights.values(), *quantization.activations.values()):
        assert quantizer.log_scale.grad is not None
        assert quantizer.log_scale.grad.abs().sum() > 0
