"""Gradients taken at the output are those that backpropagation finds by way of the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    factor = None if name == "product" else 0.5 + torch.rand(1, *of_weight[1:2], *([1] * (len(of_weight) - 2)))
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
    assert held(bias) is bias
    assert gradient(y) is y
    quantizer.fix_codes(weight)
    assert not held(bias).requires_grad
    assert not quantizer(weight).requires_grad
    assert gradient(y).requires_grad
    with torch.no_grad():
        assert gradient(y) is y
    quantizer.mode = "float"
    assert held(bias) is bias
    assert gradient(y) is y


def test_half_types_are_summed_in_single_precision() -> None:
    quantizer = FakeQuantizer(spec(0), torch.full((1,), 1.0), torch.zeros(1))
    gradient = ScaleGradient(quantizer, None, 1)
    quantizer.fix_codes(torch.ones(1, 1, 1, 1))
    y = torch.ones(1, 1, 100, 100, dtype=torch.bfloat16)  # 10,001 of such would add up to 256
    gradient(y).sum().backward()
    assert quantizer.log_scale.grad is not None
    assert quantizer.log_scale.grad.tolist() == [10_000.0]


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
    learning = [parameter for group in scales_and_biases(quantization) for parameter in group.parameters]
    short = gradients(quantization, images, learning)
    assert sum(quantizer.at_output for quantizer in quantization.weights.values()) == len(quantization.weights) > 10
    quantization.module.clear_hooks()
    monkeypatch.setattr("ocrslim.slimming.quantization.prepare._gradient_at_output", lambda site: False)
    for quantizer in quantization.weights.values():
        quantizer.at_output = False
    quantization.install()
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
