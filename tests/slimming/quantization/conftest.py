"""A small network of every kind of site, calibrated, for the tests of what works on sites."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.placement import Site, place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare

CHANNELS = 96
LOUD = 5  # the channel that ``loud`` multiplies


@dataclass(frozen=True)
class Calibrated:
    """A float network and its quantized copy."""

    teacher: GraphModule
    quantization: Quantization
    batches: list[torch.Tensor]

    def site(self, node: str) -> Site:
        """Return the site of a node."""
        return next(site for site in self.quantization.placement.sites if site.node == node)

    def forward(self, value: str = "y") -> torch.Tensor:
        """Return a value of the quantized network on the first batch."""
        with torch.no_grad():
            found: torch.Tensor = self.quantization.module(self.batches[0], fetch=[value])[value]
        return found


def network(loud: float = 1.0) -> ir.Model:
    """Stem, two pointwise convolutions, a strided 3x3 convolution with padding, a product.

    Args:
        loud: factor of one channel of what the second pointwise convolution reads; what reads it divides it out again,
            so that the network computes the same.
    """
    rng = np.random.default_rng(0)
    weights = {
        "stem.w": rng.normal(size=(CHANNELS, 3, 1, 1)),
        "stem.b": rng.normal(size=CHANNELS),
        "first.w": rng.normal(size=(CHANNELS, CHANNELS, 1, 1)) * 0.1,
        "first.b": rng.normal(size=CHANNELS),
        "second.w": rng.normal(size=(40, CHANNELS, 1, 1)) * 0.1,
        "second.b": rng.normal(size=40),
        "window.w": rng.normal(size=(24, 40, 3, 3)) * 0.1,
        "window.b": rng.normal(size=24),
        "product.w": rng.normal(size=(24, 7)) * 0.3,
        "product.b": rng.normal(size=7),
    }
    weights["product.w"] = np.concatenate([weights["product.w"]] * 4)[:96]
    weights["first.b"][LOUD] = 3.0  # or Relu might silence it
    weights["first.w"][LOUD] *= loud
    weights["first.b"][LOUD] *= loud
    weights["second.w"][:, LOUD] /= loud
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["stem.y"], "stem"),
        helper.make_node("Relu", ["stem.y"], ["stem.r"], "stem.relu"),
        helper.make_node("Conv", ["stem.r", "first.w", "first.b"], ["first.y"], "first"),
        helper.make_node("Relu", ["first.y"], ["first.r"], "first.relu"),
        helper.make_node("Conv", ["first.r", "second.w", "second.b"], ["second.y"], "second"),
        helper.make_node("Sigmoid", ["second.y"], ["second.s"], "second.sigmoid"),
        helper.make_node(
            "Conv", ["second.s", "window.w", "window.b"], ["window.y"], "window", strides=[2, 1], pads=[1, 1, 1, 1]
        ),
        helper.make_node("Sigmoid", ["window.y"], ["window.s"], "window.sigmoid"),
        helper.make_node("Concat", ["window.s"] * 4, ["wide"], "concat", axis=1),
        helper.make_node("Transpose", ["wide"], ["turned"], "transpose", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["turned", "product.w"], ["product.y"], "product"),
        helper.make_node("Add", ["product.y", "product.b"], ["y"], "add"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def calibrated(target: str = "openvino", *, bits: int | None = None, loud: float = 1.0) -> Calibrated:
    """Return the network, calibrated; ``bits`` of the weights, the target's own by default."""
    chosen = get_target(target, ["avx2"])
    if bits is not None:
        chosen = dataclasses.replace(chosen, weight=dataclasses.replace(chosen.weight, bits=bits))
    model = network(loud)
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(4, 3, 12, size, generator=generator) for size in (8, 16, 24)]
    quantization = prepare(GraphModule(model).eval(), place(model, chosen), chosen)
    calibrate(quantization, batches, "minmax")
    return Calibrated(GraphModule(model).eval(), quantization, batches)


@pytest.fixture(params=("onnxruntime", "openvino"))
def small(request: pytest.FixtureRequest) -> Calibrated:
    """Return the network calibrated for either target."""
    return calibrated(request.param)
