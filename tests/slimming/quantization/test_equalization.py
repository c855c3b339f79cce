"""Equalisation changes nothing that a real model computes, and makes ranges what the closed form says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.quantization.equalization import Pair, equalize, find_pairs
from ocrslim.slimming.quantization.placement import Site, place

Zoo = Callable[[str], Path]
CHANNELS = 16


def site(value: str, node: str = "second") -> Site:
    return Site(node, "conv", value, "w1", 0, None, False, "y", None, None, "a test")


def network(between: str = "Relu", groups: int = 1, second_reader: str | None = None, tied: bool = False) -> ir.Model:
    """Return two convolutions with an operator between them, and perhaps something else that reads its output."""
    rng = np.random.default_rng(0)
    loud = np.geomspace(0.05, 20.0, CHANNELS).astype(np.float32)
    first = rng.normal(size=(CHANNELS, 3, 1, 1)).astype(np.float32) * loud[:, None, None, None]
    second = rng.normal(size=(CHANNELS, CHANNELS // groups, 1, 1)).astype(np.float32)
    constants = {"w0": first, "b0": (1 + rng.random(CHANNELS)).astype(np.float32) * loud, "w1": second}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["raw"], name="first"),
        helper.make_node(between, ["raw"], ["a"], name="between"),
        helper.make_node("Conv", ["a", "w1"], ["y"], name="second", group=groups),
    ]
    outputs = ["y"]
    if second_reader is not None:
        inputs = ["a", "w1"] if second_reader == "Conv" else ["a"]
        nodes.append(helper.make_node(second_reader, inputs, ["z"], name="reader"))
        outputs.append("z")
    if tied:
        nodes.append(helper.make_node("ReduceSum", ["w1"], ["z"], name="reader", keepdims=0))
        outputs.append("z")
    shapes = {name: None for name in outputs}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(seed))


def largest(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    return tensor.detach().abs().amax([other for other in range(tensor.dim()) if other != axis])


@pytest.mark.parametrize("groups", [1, CHANNELS])
def test_channels_range_as_far_as_the_weights_that_read_them(groups: int) -> None:
    model = network(groups=groups)
    pairs = find_pairs(model, [site("a")])
    axis = 1 if groups == 1 else 0
    assert pairs == (Pair("a", 1, (("w0", 0), ("b0", 0)), (("w1", axis),)),)
    before, after = GraphModule(model), GraphModule(equalize(model, pairs, [image()]))
    with torch.no_grad():
        assert torch.allclose(after(image(1)), before(image(1)), rtol=1e-4, atol=1e-4)
        old, new = (module(image(), fetch=["a"])["a"] for module in (before, after))
    ranges, weights = largest(new, 1), largest(after.parameter("w1"), axis)
    ratios = ranges / weights  # the same for each channel
    assert torch.allclose(ratios, ratios.mean().expand_as(ratios), rtol=1e-4)
    assert largest(old, 1).max() / largest(old, 1).min() > 2 * ranges.max() / ranges.min()
    product = largest(old, 1) * largest(before.parameter("w1"), axis)
    assert torch.allclose(ranges * weights, product, rtol=1e-4)


def test_the_model_that_was_given_stays_as_it_is() -> None:
    model = network()
    before = GraphModule(model).parameter("w0").detach().clone()
    equalize(model, find_pairs(model, [site("a")]), [image()])
    assert torch.equal(GraphModule(model).parameter("w0"), before)


@pytest.mark.parametrize(
    "model",
    [
        network("HardSwish"),  # not homogeneous
        network("Sigmoid"),
        network(second_reader="Relu"),  # would see other values
        network(second_reader="Conv"),  # the weight is read twice
        network(tied=True),
        network(groups=4),  # neither full nor depthwise
    ],
    ids=["hardswish", "sigmoid", "read by a relu", "weight read twice", "weight read elsewhere", "grouped"],
)
def test_what_cannot_be_moved_stays(model: ir.Model) -> None:
    assert find_pairs(model, [site("a")]) == ()


def test_only_what_a_site_reads_is_equalised() -> None:
    assert find_pairs(network(), [site("x")]) == ()
    assert find_pairs(network(), []) == ()


def test_dead_channels_and_weights_stay() -> None:
    model = network()
    module = GraphModule(model)
    with torch.no_grad():
        module.parameter("w0")[3] = 0.0
        module.parameter("b0")[3] = 0.0
        module.parameter("w1")[:, 5] = 0.0
    dead = module.to_ir()
    found = GraphModule(equalize(dead, find_pairs(dead, [site("a")]), [image()]))
    assert bool(torch.isfinite(found.parameter("w1")).all())
    assert torch.equal(found.parameter("w1")[:, 3], module.parameter("w1")[:, 3])
    assert torch.equal(found.parameter("w0")[5], module.parameter("w0")[5])
    with torch.no_grad():
        assert torch.allclose(found(image()), module(image()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "least", "shape"),
    [
        ("PP-OCRv4_mobile_rec", 4, (1, 3, 48, 96)),  # LayerNormalization before each product of the attention blocks
        ("PP-OCRv6_small_det", 6, (1, 3, 96, 64)),  # depthwise before pointwise convolutions
    ],
)
def test_a_real_model_computes_the_same(zoo: Zoo, name: str, least: int, shape: tuple[int, ...]) -> None:
    graph = canonicalize(load_onnx(zoo(name)))
    pairs = find_pairs(graph, place(graph, get_target("openvino", ["avx2"])).sites)
    assert len(pairs) >= least
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    equal = equalize(graph, pairs, [x])
    before, after = GraphModule(graph).eval(), GraphModule(equal).eval()
    values = [pair.value for pair in pairs]
    with torch.no_grad():
        assert torch.allclose(after(x), before(x), atol=2e-4)
        old, new = before(x, fetch=values), after(x, fetch=values)
    assert any(not torch.allclose(old[value], new[value], rtol=0.1) for value in values)
