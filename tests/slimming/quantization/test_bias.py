"""Bias correction restores the means that rounding the weights shifts, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.bias import correct_bias
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare

CHANNELS = 96


def network(bias: bool = True, tail: str = "Sigmoid") -> ir.Model:
    """A depthwise stem makes means that differ by channel; a pointwise convolution and a product read them."""
    rng = np.random.default_rng(0)

    def constant(name: str, *shape: int, scale: float = 1.0) -> TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) * scale).astype(np.float32), name)

    constants = [
        constant("stem.w", CHANNELS, 3, 1, 1),
        constant("stem.b", CHANNELS),
        constant("point.w", 40, CHANNELS, 1, 1, scale=0.1),
        constant("point.b", 40),
        constant("product.w", 40, 7, scale=0.3),
        constant("product.b", 7),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["stem.y"], "stem"),
        helper.make_node("Relu", ["stem.y"], ["stem.r"], "relu"),
        helper.make_node("Conv", ["stem.r", "point.w"] + ["point.b"] * bias, ["point.y"], "point"),
        helper.make_node(tail, ["point.y"], ["point.s"], "sigmoid"),
        helper.make_node("Transpose", ["point.s"], ["turned"], "transpose", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["turned", "product.w"], ["product.y"], "product"),
        helper.make_node("Add", ["product.y", "product.b"], ["y"], "add"),
    ]
    if not bias:
        constants = [item for item in constants if item.name != "point.b"]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(4, 3, 12, size, generator=generator) for size in (8, 16, 24)]


def prepared(bias: bool, bits: int = 3) -> tuple[GraphModule, Quantization]:
    """Weights of few bits, so that there is something to correct."""
    target = get_target("openvino", ["avx2"])
    target = dataclasses.replace(target, weight=dataclasses.replace(target.weight, bits=bits))
    model = network(bias)
    module = GraphModule(model).eval()
    quantization = prepare(module, place(model, target), target)
    calibrate(quantization, batches(), "minmax")
    return GraphModule(model).eval(), quantization


def means(module: GraphModule, value: str) -> torch.Tensor:
    with torch.no_grad():
        found = [module(batch, fetch=[value])[value] for batch in batches()]
    axis = 1 if value == "point.y" else -1
    return torch.cat([item.transpose(axis, -1).reshape(-1, item.shape[axis]) for item in found]).mean(0)


@pytest.mark.parametrize("bias", [True, False])
def test_means_come_back(bias: bool) -> None:
    plain, quantization = prepared(bias)
    for value in ("point.y", "y"):
        before = (means(quantization.module, value) - means(plain, value)).abs()
        assert before.max() > 0.01, value
    shifted = {
        value: (means(quantization.module, value) - means(plain, value)).abs().mean() for value in ("point.y", "y")
    }
    assert correct_bias(quantization, batches()) == 2
    for value, before in shifted.items():
        after = (means(quantization.module, value) - means(plain, value)).abs().mean()
        assert after < 0.25 * before, value


def test_the_correction_is_the_closed_form() -> None:
    plain, quantization = prepared(bias=True)
    old = quantization.module.parameter("point.b").detach().clone()
    weight = quantization.module.parameter("point.w").detach()
    with torch.no_grad():
        error = quantization.weights["point.w"](weight) - weight
        read = quantization.activations["stem.r"]
        values = [read(plain(batch, fetch=["stem.r"])["stem.r"]) for batch in batches()]
    mean = torch.cat([value.transpose(1, -1).reshape(-1, CHANNELS) for value in values]).mean(0)
    correct_bias(quantization, batches())
    assert torch.allclose(quantization.module.parameter("point.b"), old - error[:, :, 0, 0] @ mean, atol=1e-5)


def test_clipped_outliers_are_not_spread_over_everything() -> None:
    """A few huge values that the grid clips must not become a constant that all values pay."""
    _, quantization = prepared(bias=True, bits=8)
    grid = quantization.activations["stem.r"]
    grid.set_grid(grid.scale / 20)
    old = quantization.module.parameter("point.b").detach().clone()
    correct_bias(quantization, batches())
    shift = (quantization.module.parameter("point.b") - old).abs().max()
    assert shift < 0.01


def test_nothing_else_changes() -> None:
    _, quantization = prepared(bias=True)
    before = {name: value.clone() for name, value in quantization.module.state_dict().items()}
    correct_bias(quantization, batches())
    after = quantization.module.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.split("@")[-1] for name in changed} == {"point%2Eb", "product%2Eb"}
    grid = quantization.activations["stem.r"]
    assert not grid._forward_hooks


def test_no_batches_are_an_error_and_leave_no_listener() -> None:
    _, quantization = prepared(bias=True)

    def broken() -> Iterator[torch.Tensor]:
        yield batches()[0]
        raise RuntimeError("the disk is gone")

    with pytest.raises(ValueError, match="no batches"):
        correct_bias(quantization, [])
    with pytest.raises(RuntimeError, match="disk"):
        correct_bias(quantization, broken())
    assert not any(grid._forward_hooks for grid in quantization.activations.values())
