"""Measured placement: what the clock says decides, once; the clock here is a made one, but for the last test."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ocrslim.engines.session import open_session
from ocrslim.engines.targets import get_target
from ocrslim.export.learned import read_learned
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.quantization import measured as module
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.channels import find_factors
from ocrslim.slimming.quantization.measured import OUTPUTS, measure_placement
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import prepare

VNNI = ["avx2", "avx_vnni"]
SHAPE = (1, 3, 16, 16)
LAYERS = {  # name -> weight, groups; the spatial size halves at ``half``
    "stem": ((96, 3, 1, 1), 1),
    "wide": ((96, 96, 1, 1), 1),
    "depth": ((96, 1, 3, 3), 96),
    "half": ((40, 96, 2, 2), 1),
    "few": ((96, 40, 1, 1), 1),
    "last": ((96, 96, 1, 1), 1),
}
Costs = Mapping[str, tuple[float, float]]
"""Node -> milliseconds in float and in int8; 1 in both where it is missing."""


def network() -> ir.Model:
    rng = np.random.default_rng(0)
    nodes, weights, source = [], [], "x"
    for name, (shape, group) in LAYERS.items():
        weights.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) * 0.2, f"{name}.w"))
        weights.append(numpy_helper.from_array(rng.normal(size=shape[0]).astype(np.float32), f"{name}.b"))
        step = [2, 2] if name == "half" else [1, 1]
        pads = [1, 1, 1, 1] if name == "depth" else [0, 0, 0, 0]
        inputs = [source, f"{name}.w", f"{name}.b"]
        nodes.append(helper.make_node("Conv", inputs, [f"{name}.y"], name, group=group, strides=step, pads=pads))
        nodes.append(helper.make_node("Relu", [f"{name}.y"], [f"{name}.r"], f"{name}.act"))
        source = f"{name}.r"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("x", source)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def sites_of(path: Path) -> set[str]:
    """Return the convolutions of a file whose weight is int8, and OUTPUTS where a float one reads what was rounded."""
    nodes = onnx.load(path).graph.node
    made = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    rounded = any(node.input[0] in made and node.input[1] not in made for node in convolutions)
    return {node.name for node in convolutions if node.input[1] in made} | ({OUTPUTS} if rounded else set())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Return a function that sets what nodes cost, and returns the list of how many models were timed at once."""

    def set_costs(costs: Costs, noise: float = 0.001) -> list[int]:
        asked: list[int] = []

        def time_rounds(sessions: Sequence[set[str]], batch: object, rounds: int) -> NDArray[np.float64]:
            asked.append(len(sessions))
            rng = np.random.default_rng(len(asked))
            sums = [sum(costs.get(name, (1, 1))[name in sites] for name in (*LAYERS, OUTPUTS)) for sites in sessions]
            drift = rng.uniform(1.0, 2.0, (rounds, 1))  # a neighbour slows whole rounds: only ratios stand
            return np.array(sums) * drift * (1.0 + noise * rng.normal(size=(rounds, len(sums))))

        monkeypatch.setattr(module, "open_session", lambda path, engine, threads: sites_of(path))
        monkeypatch.setattr(module, "time_rounds", time_rounds)
        return asked

    return set_costs


def test_what_pays_becomes_int8_and_what_does_not_float(clock: Callable[..., list[int]], tmp_path: Path) -> None:
    clock({"wide": (1, 2), "depth": (3, 1), "few": (1, 3), "last": (4, 1)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq, table=tmp_path / "t.json")
    assert found.slow == {"wide"}
    assert found.fast == {"depth"}
    assert found.ratio == pytest.approx(7 / (1 + 2 + 3 + 1 + 1 + 1 + 1), rel=0.01)  # six layers and the outputs
    assert not found.outputs
    told = {trial.group: (trial.int8, trial.kept, trial.saved) for trial in found.trials}
    assert told["depthwise convolutions at 16x16"][:2] == (True, True)
    assert told["convolutions at 16x16"][:2] == (False, True)
    assert told["convolutions of few products at 8x8"][:2] == (True, False)
    assert told["convolutions of few products at 8x8"][2] == pytest.approx(-2 / 10, abs=0.02)


def test_all_optional_nodes_are_the_start_where_they_pay_together(clock: Callable[..., list[int]]) -> None:
    clock({"depth": (3, 1), "few": (3, 1), "half": (2, 1)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq)
    assert found.fast == {"depth", "few"}
    assert not found.slow
    assert {trial.group: trial.int8 for trial in found.trials}["depthwise convolutions at 16x16"] is False  # taken back


def test_the_largest_alone_are_the_start_where_the_others_together_cost(clock: Callable[..., list[int]]) -> None:
    clock({"wide": (3, 1), "half": (1, 1.5), "last": (1, 1.5)})
    target = get_target("onnxruntime", VNNI)
    policy = {site.node for site in place(network(), target).sites}
    assert "half" in policy
    found = measure_placement(network(), target, SHAPE, 1, export_qdq, small=policy - {"wide"})
    assert found.slow == policy - {"wide"}
    assert found.slow_alone == found.slow
    assert not found.fast
    told = {trial.group: trial for trial in found.trials}
    assert told["sites (all but the largest)"].kept
    assert not told["sites (all but the largest)"].int8
    assert told["sites (all but the largest)"].saved > 0.05
    assert not told["sites (all that may be int8)"].kept


def test_where_nothing_optional_is_int8_the_largest_alone_may_be_the_fastest(clock: Callable[..., list[int]]) -> None:
    clock({"wide": (3, 1), "depth": (4, 1), "half": (1, 1.5), "last": (1, 1.5), "few": (2, 1)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq, small=["half", "last"])
    assert found.fast == {"depth", "few"}
    assert found.slow_alone == {"half", "last"}
    assert {trial.group: trial.kept for trial in found.trials}["sites (all that may be int8)"]


@pytest.mark.parametrize("small", [(), ("wide", "half", "last")])
def test_no_largest_or_all_of_them_are_no_start(clock: Callable[..., list[int]], small: tuple[str, ...]) -> None:
    clock({"depth": (3, 1)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq, small=small)
    assert "sites (all but the largest)" not in {trial.group for trial in found.trials}
    assert found.fast == {"depth", "few"}


def test_of_the_largest_start_a_group_that_pays_becomes_int8_too(clock: Callable[..., list[int]]) -> None:
    clock({"wide": (5, 1), "depth": (3, 1), "half": (1, 1.5), "few": (1, 3), "last": (1, 1.5)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq, small=["half", "last"])
    assert found.slow == {"half", "last"}
    assert found.fast == {"depth"}
    told = {trial.group: (trial.int8, trial.kept) for trial in found.trials}
    assert told["depthwise convolutions at 16x16"] == (True, True)
    assert told["convolutions at 8x8"] == (True, False)


def test_outputs_are_quantized_where_that_pays_and_the_engine_leaves_the_choice(
    clock: Callable[..., list[int]],
) -> None:
    clock({OUTPUTS: (3, 1)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq)
    assert found.outputs
    assert not found.fast
    assert found.ratio == pytest.approx(7 / 9, rel=0.01)
    trial = next(trial for trial in found.trials if trial.group == "outputs of sites")
    assert (trial.int8, trial.kept, trial.nodes) == (True, True, ("half", "last", "wide"))
    clock({OUTPUTS: (1, 3)})
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq)
    assert not found.outputs
    assert next(trial for trial in found.trials if trial.group == "outputs of sites").saved < 0
    found = measure_placement(network(), get_target("onnxruntime", VNNI), SHAPE, 1, export_qdq)
    assert not found.outputs  # it is no choice there: they are quantized
    assert "outputs of sites" not in {trial.group for trial in found.trials}


def test_noise_is_no_gain(clock: Callable[..., list[int]]) -> None:
    clock({"depth": (1.02, 1)}, noise=0.2)
    found = measure_placement(network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq)
    assert not found.fast
    assert not found.slow
    assert found.ratio == 1.0


def test_a_table_is_asked_before_the_clock(clock: Callable[..., list[int]], tmp_path: Path) -> None:
    asked = clock({"depth": (3, 1), "wide": (1, 2)})
    table, target = tmp_path / "cache" / "placement.json", get_target("onnxruntime", VNNI)
    seen: list[tuple[int, int]] = []
    first = measure_placement(
        network(), target, SHAPE, 1, export_qdq, table=table, progress=lambda *at: seen.append(at)
    )
    assert asked
    assert seen[-1][0] <= seen[-1][1]
    asked.clear()
    assert measure_placement(network(), target, SHAPE, 1, export_qdq, table=table) == first
    assert asked == []
    measure_placement(network(), target, SHAPE, 2, export_qdq, table=table)  # other threads are another question
    assert asked
    known = json.loads(table.read_text())
    table.write_text("{")  # a damaged table is made anew
    again = measure_placement(network(), target, SHAPE, 1, export_qdq, table=table)
    assert (again.fast, again.slow) == (first.fast, first.slow)
    assert set(json.loads(table.read_text())) <= set(known)


def test_what_must_stay_float_does(clock: Callable[..., list[int]]) -> None:
    clock({"depth": (3, 1), "wide": (3, 1)})
    found = measure_placement(
        network(), get_target("openvino", VNNI), SHAPE, 1, export_qdq, keep_float=["depth", "wide"]
    )
    assert not found.fast
    assert all("depth" not in trial.nodes for trial in found.trials)


@pytest.mark.parametrize(("engine", "channels"), [("openvino", False), ("openvino", True), ("onnxruntime", False)])
def test_depthwise_sites_are_near_float_in_the_engine(engine: str, channels: bool, tmp_path: Path) -> None:
    """Ranges by outputs and rounding work on depthwise sites too, and the engine computes what the module does."""
    graph, target = network(), get_target(engine)
    placement = place(graph, target, also=["depth", "few"])
    assert {site.node: site.kind for site in placement.sites}["depth"] == "depthwise"
    teacher = GraphModule(graph).eval()
    batches = [torch.rand(2, 3, 16, 16) * 2 - 1 for _ in range(3)]
    factors = find_factors(teacher, placement, target.activation, batches) if channels else {}
    assert ("wide.r" in factors) is channels  # what the depthwise convolution reads
    quantization = prepare(GraphModule(graph).eval(), placement, target, factors=factors)
    calibrate_fully(quantization, batches, "output", 0)
    quantization.freeze()
    export_qdq(quantization, tmp_path / "q.onnx")
    got = open_session(tmp_path / "q.onnx", engine, 1).run(batches[0].numpy())
    with torch.no_grad():
        wanted, ours = teacher(batches[0]), quantization.module(batches[0])
    scale = wanted.std().item()
    assert np.abs(got - ours.numpy()).mean() < 0.02 * scale
    assert (torch.from_numpy(got) - wanted).abs().mean().item() < (0.04 if channels else 0.06) * scale
    learned = read_learned(load_onnx(tmp_path / "q.onnx"))  # what goes back to Paddle as float
    assert np.abs(learned.grids["depth.w"].weight - quantization.module.parameter("depth.w").numpy()).max() < 1e-5


@pytest.mark.slow
def test_the_real_clock(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    """PP-OCRv6 tiny det at a small size: the fastest placement is no slower than the usual one, and asked once."""
    graph = canonicalize(load_onnx(zoo("PP-OCRv6_tiny_det")))
    target, table = get_target("openvino"), tmp_path / "t.json"
    found = measure_placement(graph, target, (1, 3, 160, 160), 1, export_qdq, table=table)
    assert found.ratio <= 1.0
    assert len(found.trials) >= 6
    placement = place(graph, target, found.slow, found.fast)
    assert {site.node for site in placement.sites} >= found.fast
    began = time.monotonic()
    assert measure_placement(graph, target, (1, 3, 160, 160), 1, export_qdq, table=table) == found
    assert time.monotonic() - began < 5.0  # what the table knows costs no time of the engine
