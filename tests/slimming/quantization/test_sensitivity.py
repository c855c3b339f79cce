"""Sensitivity finds what hurts, and leaves the model as it was."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.quantization.sensitivity import measure_alone, measure_gains, site_weights, site_work

from .conftest import Calibrated, calibrated


def divergence(answer: torch.Tensor, target: torch.Tensor) -> tuple[float, float]:
    """Return the mean square of the difference, and the share of positions with another largest class."""
    changed = (answer.argmax(-1) != target.argmax(-1)).float().mean().item()
    return (answer - target).square().mean().item(), changed


def test_a_channel_a_thousand_times_as_loud_makes_its_reader_the_worst_site() -> None:
    small = calibrated(loud=1000.0)
    images = small.batches[0]
    alone = {row.node: row for row in measure_alone(small.quantization, small.teacher, images, "y", divergence)}
    assert max(alone, key=lambda node: alone[node].divergence) == "second"
    assert min(alone, key=lambda node: alone[node].sqnr_db) == "second"
    with torch.no_grad():
        taught = small.teacher(images, fetch=["y"])["y"]
    gains = dict(measure_gains(small.quantization, small.teacher, images, taught, "y", divergence))
    assert max(gains, key=lambda node: gains[node]) == "second"


def test_one_site_alone_is_what_a_network_with_that_site_alone_computes() -> None:
    """The stored values give what a whole run gives."""
    small = calibrated()
    images = small.batches[0]
    rows = {row.node: row for row in measure_alone(small.quantization, small.teacher, images, "y", divergence)}
    quantization = small.quantization
    quantization.set_mode("float")
    site = small.site("window")
    for quantizer in (quantization.weights[site.weight_name], quantization.activations[site.input_value]):
        quantizer.mode = "quantize"
    with torch.no_grad():
        whole = quantization.module(images, fetch=["y"])["y"]
        taught = small.teacher(images, fetch=["y"])["y"]
    assert rows["window"].divergence == divergence(whole, taught)[0]


def test_nothing_is_left_changed(small: Calibrated) -> None:
    before = small.forward()
    images = small.batches[0]
    with torch.no_grad():
        taught = small.teacher(images, fetch=["y"])["y"]
    alone = list(measure_alone(small.quantization, small.teacher, images, "y", divergence))
    gains = list(measure_gains(small.quantization, small.teacher, images, taught, "y", divergence))
    nodes = [site.node for site in small.quantization.placement.sites]
    assert [row.node for row in alone] == nodes
    assert [node for node, _ in gains] == nodes
    assert torch.equal(small.forward(), before)


def test_an_iterator_that_is_closed_early_leaves_nothing_changed(small: Calibrated) -> None:
    before = small.forward()
    rows = measure_alone(small.quantization, small.teacher, small.batches[0], "y", divergence)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert torch.equal(small.forward(), before)


def test_what_was_measured_before_is_skipped(small: Calibrated) -> None:
    rows = measure_alone(small.quantization, small.teacher, small.batches[0], "y", divergence, skip={"first"})
    assert "first" not in [row.node for row in rows]


def test_shares_of_the_weights_are_those_of_their_numbers() -> None:
    weights = site_weights(calibrated().quantization)
    sizes = {"first": 96 * 96, "second": 96 * 40, "window": 24 * 40 * 9, "product": 96 * 7}
    assert weights == pytest.approx({node: size / sum(sizes.values()) for node, size in sizes.items()})


def test_shares_of_the_work_are_those_of_the_multiplications() -> None:
    small = calibrated()
    images = small.batches[0]
    count, _, height, width = images.shape
    places = count * height * width
    made = {
        "first": places * 96 * 96,
        "second": places * 96 * 40,
        "window": places // 2 * 24 * 40 * 9,
        "product": places // 2 * 96 * 7,
    }
    work = site_work(small.quantization, images)
    assert sum(work.values()) == 1.0
    for node, share in work.items():
        assert abs(share - made[node] / sum(made[name] for name in work)) < 1e-9


def test_a_sum_reads_what_its_site_reads_quantized() -> None:
    """The stored values give what a whole run gives where a shortcut is quantized with the site's input."""
    target = get_target("tensorrt")
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(72, 72, 1, 1)).astype(np.float32) / 8 for name in ("first", "second")}
    weights["stem"] = rng.normal(size=(72, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "stem"], ["s"], "stem"),
        helper.make_node("Relu", ["s"], ["a"], "relu"),
        helper.make_node("Conv", ["a", "first"], ["b"], "first"),
        helper.make_node("Relu", ["b"], ["c"], "inner"),
        helper.make_node("Conv", ["c", "second"], ["d"], "second"),
        helper.make_node("Add", ["d", "a"], ["y"], "sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    quantization = prepare(GraphModule(model).eval(), place(model, target), target)
    assert [item.node for item in quantization.placement.residuals] == ["sum"]
    calibrate(quantization, [images], "minmax")
    teacher = GraphModule(model).eval()
    rows = {row.node: row for row in measure_alone(quantization, teacher, images, "y", divergence)}
    quantization.set_mode("float")
    for quantizer in (quantization.weights["first"], quantization.activations["a"]):
        quantizer.mode = "quantize"
    with torch.no_grad():
        whole = quantization.module(images, fetch=["y"])["y"]
        taught = teacher(images, fetch=["y"])["y"]
    assert rows["first"].divergence == pytest.approx(divergence(whole, taught)[0], rel=1e-5)
