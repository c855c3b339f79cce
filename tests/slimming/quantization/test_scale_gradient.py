"""Gradients taken at the output are those that backpropagation finds by way of the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.learning import scales_and_biases
from ocrslim.slimming.quantization.fake_quantizer import FakeQuantizer
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare
from ocrslim.slimming.quantization.scale_gradient import HeldBias, ScaleGradient
from ocrslim.spec import PerAxis, QuantizationSpec

Zoo = Callable[[str], Path]
Operator = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def spec(axis: int) -> QuantizationSpec:
    return QuantizationSpec(8, signed=True, symmetric=True, granularity=PerAxis(axis))


OPERATORS: dict[str, tuple[Operator, tuple[int, ...], tuple[int, ...], int, int]] = {
    # what it does, shapes of x and weight, the channels' axes in the weight and in the output
    "conv": (lambda x, w, b: F.conv2d(x, w, b, stride=2, padding=1), (2, 3, 9, 8), (5, 3, 3, 3), 0, 1),
    "depthwise": (lambda x, w, b: F.conv2d(x, w, b, padding=1, groups=4), (2, 4, 6, 6), (4, 1, 3, 3), 0, 1),
    "conv of lines": (F.conv1d, (2, 3, 9), (5, 3, 3), 0, 1),
    "product": (lambda x, w, b: x @ w if b is None else x @ w + b, (2, 7, 6), (6, 5), 1, -1),
}


@pytest.mark.parametrize("layout", ["rows", "channels last"])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_are_those_of_backpropagation(name: str, biased: bool, layout: str) -> None:
    torch.manual_seed(0)
    operator, of_x, of_weight, weight_axis, axis = OPERATORS[name]
    weight, channels = torch.randn(of_weight).double(), of_weight[weight_axis]
    of_factor = {"product": None, "depthwise": (channels, 1, 1, 1)}.get(
        name, (1, of_weight[1], *([1] * (len(of_x) - 2)))
    )
    factor = None if of_factor is None else 0.5 + torch.rand(of_factor)
    x = torch.randn(of_x).double()
    if layout == "channels last" and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    bias = nn.Parameter(10 * torch.randn(channels).double()) if biased else None
    found = []
    for at_output in (False, True):
        quantizer = FakeQuantizer(
            spec(weight_axis), torch.full((channels,), 0.02), torch.zeros(channels), factor=factor
        )
        quantizer.double()
        quantizer.fix_codes(weight)
        seen, given = x.clone(memory_format=torch.preserve_format).requires_grad_(), bias
        quantizer.at_output = at_output
        if at_output:
            gradient = ScaleGradient(quantizer, bias, axis)
            given = None if bias is None else HeldBias(quantizer)(bias)
            y = gradient(operator(seen, quantizer(weight), given))
        else:
            y = operator(seen, quantizer(weight), given)
        (y * torch.linspace(-1, 1, y.numel()).double().reshape(y.shape)).sum().backward()
        assert quantizer.log_scale.grad is not None
        assert seen.grad is not None
        found.append([y.detach(), seen.grad, quantizer.log_scale.grad])
        if bias is not None:
            assert bias.grad is not None
            found[-1].append(bias.grad.clone())
            bias.grad = None
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(*found, strict=True))


def test_without_fixed_integers_nothing_is_held() -> None:
    quantizer = FakeQuantizer(spec(0), torch.full((3,), 0.1), torch.zeros(3))
    bias, y, weight = nn.Parameter(torch.ones(3)), torch.ones(1, 3, 2, 2), torch.ones(3, 2)
    gradient, held = ScaleGradient(quantizer, bias, 1), HeldBias(quantizer)
    quantizer.at_output = True
    assert held(bias) is bias
    assert gradient(y) is y
    quantizer.fix_codes(weight)
    assert not held(bias).requires_grad
    assert not quantizer(weight).requires_grad
    assert gradient(y).requires_grad
    with torch.no_grad():
        assert gradient(y) is y
    quantizer.at_output = False
    assert held(bias) is bias
    assert quantizer(weight).requires_grad
    quantizer.at_output, quantizer.mode = True, "float"
    assert held(bias) is bias
    assert gradient(y) is y


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_bias_that_is_all_of_an_output_moves_no_scale(kind: torch.dtype) -> None:
    """In half types the bias is added in that type; a channel without products has a gradient of exactly 0."""
    quantizer = FakeQuantizer(spec(0), torch.ones(2), torch.zeros(2))
    bias = nn.Parameter(torch.tensor([7.77, 3.33]))
    gradient = ScaleGradient(quantizer, bias, 1)
    quantizer.at_output = True
    quantizer.fix_codes(torch.ones(2, 1, 1, 1))
    y = bias.detach().to(kind).reshape(1, 2, 1, 1).expand(1, 2, 100, 100).clone()
    y[:, 1] += 1
    gradient(y).sum().backward()
    assert quantizer.log_scale.grad is not None
    assert quantizer.log_scale.grad[0].item() == 0.0
    assert quantizer.log_scale.grad[1].item() == pytest.approx(10_000, rel=0.02)
    assert bias.grad is not None
    assert bias.grad.tolist() == [10_000.0] * 2  # a half type's sum of ones ends at 256


def test_each_way_to_read_a_weight_learns_as_backpropagation_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """One weight at two sites, a bias that two convolutions share, a Gemm, and a product with its bias behind it."""
    text = """
        <ir_version: 9, opset_import: ["" : 20]>
        g (float[1,8,9,9] x, float[16,8,3,3] w, float[16,8,3,3] v, float[16,16,3,3] u, float[16] b, float[16] c,
           float[16,12] m, float[12] d, float[12,10] n, float[10] e) => (float[1,10] y) <int64[2] axes = {2, 3}>
        { a0 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, c) a1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, v, b)
          a2 = Add(a0, a1) r = Relu(a2) f = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(r, u, b)
          h = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(f, u) l = ReduceMean<keepdims=0>(h, axes)
          p = MatMul(l, m) q = Add(p, d) y = Gemm(q, n, e) }
    """
    model = onnx.parser.parse_model(text)
    noise = np.random.default_rng(0)
    for value in [model.graph.input.pop(1) for _ in range(len(model.graph.input) - 1)]:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        constant = noise.normal(size=sizes).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(constant, value.name))
    graph, target = canonicalize(ir.from_proto(model)), get_target("openvino")
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    images = torch.randn(1, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    calibrate(quantization, [images], "minmax")
    held = {site.raw_output: quantization.weights[site.weight_name].at_output for site in quantization.placement.sites}
    assert held
    assert not all(held.values())
    assert any(held.values())
    compare(quantization, images, monkeypatch)


def test_what_is_registered_is_what_was_there_before() -> None:
    quantizer = FakeQuantizer(spec(0), torch.ones(1), torch.zeros(1))
    gradient = ScaleGradient(quantizer, nn.Parameter(torch.ones(1)), 1)
    assert not list(gradient.parameters())
    assert not HeldBias(quantizer).state_dict()


@pytest.mark.parametrize("name", ["PP-OCRv6_tiny_rec", "PP-OCRv4_mobile_det"])
def test_a_whole_model_learns_what_backpropagation_says(name: str, zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, target = canonicalize(load_onnx(zoo(name))), get_target("openvino")
    shape = (2, 3, 48, 96) if name.endswith("rec") else (1, 3, 96, 96)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    calibrate(quantization, [images], "minmax")
    assert all(quantizer.at_output for quantizer in quantization.weights.values())
    assert len(quantization.weights) > 10
    compare(quantization, images, monkeypatch)


def compare(quantization: Quantization, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that a step's gradients are those of backpropagation through the weights."""
    learning = [parameter for group in scales_and_biases(quantization) for parameter in group.parameters]
    short = gradients(quantization, images, learning)
    monkeypatch.setattr("ocrslim.slimming.quantization.prepare._gradient_at_output", lambda site: False)
    quantization.install()
    assert not any(quantizer.at_output for quantizer in quantization.weights.values())
    plain = gradients(quantization, images, learning)
    for one, other in zip(short, plain, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.allclose(one, other, rtol=2e-3, atol=1e-4 * float(other.abs().max()))


def gradients(quantization: Quantization, images: Tensor, learning: list[nn.Parameter]) -> list[Tensor | None]:
    """Return the gradients of a step from the same place."""
    for parameter in learning:
        parameter.grad = None
    quantization.module(images).square().mean().backward()
    return [None if parameter.grad is None else parameter.grad.clone() for parameter in learning]
