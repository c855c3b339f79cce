"""What a training step costs: a whole run of the script on the smallest model, and the arithmetic of its floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from step import FIRST, HEADINGS, Cost, Subject, main, measure, misses, peak_of_its_own, row

from ocrslim.engines.targets import get_target
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.inspect import count_macs
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.quantization.placement import place


def test_a_row_holds_the_ratios() -> None:
    cost = Cost(
        "m",
        8,
        {"ours": 0.3, "without": 0.25, "all weights": 0.4, FIRST: 0.35},
        floor=0.2,
        made=0.75,
        gflops=100.0,
        in_engine=0.25,
        peak=8.04,
    )
    said = row(cost)
    assert tuple(said) == HEADINGS
    assert (said["ratio"], said["ours / floor"], said["made"]) == ("1.20", "1.50", "0.75")
    assert (said["openvino's rate"], said["ours / that"], said["peak, GB"]) == ("0.250", "1.20", "8.0")
    assert misses(cost) == []
    assert misses(replace(cost, steps={**cost.steps, "without": 0.2}, floor=0.1, peak=9.0)) == [
        "m: ratio 1.50, 1.25 asked",
        "m: ours / floor 3.00, 1.7 asked",
        "m: peak, GB 9.0, 8 asked",
    ]


def test_a_whole_measurement(zoo: Callable[[str], Path]) -> None:
    path = zoo("PP-OCRv6_tiny_rec")
    cost = measure(str(path), 1, "openvino", turns=2)
    macs = count_macs(load_onnx(open_model(path).path), (1, 3, 48, 320))
    assert macs is not None
    multiplied, made = Subject.load(str(path), 1, "openvino").arithmetic()
    assert cost.floor == pytest.approx(multiplied / (cost.gflops / 2 * 1e9), rel=1e-6)
    passes = multiplied / macs
    assert 3.5 < passes <= 4.0  # the stem and what else is float has no gradients of weights
    assert cost.made == made / multiplied
    assert 0.74 < cost.made < 0.8  # three products of four, the stem's gradients in neither
    assert cost.floor / 4 < cost.in_engine < 100 * cost.floor  # no engine multiplies four times as fast as that product
    assert set(cost.steps) == {"ours", "without", "all weights", FIRST}
    assert all(seconds > 0 for seconds in cost.steps.values())
    assert 0.2 < peak_of_its_own(str(path), 1, "openvino") < 3.0


def test_gradients_are_counted_where_something_needs_them() -> None:
    text = """
        <ir_version: 9, opset_import: ["" : 20]> g (float[1,2,8,8] x, float[64,2,1,1] v, float[64,64,3,3] w,
                                                    float[1,64,1,1] u) => (float[1,1,8,8] y)
        { a = Conv<kernel_shape=[1,1]>(x, v) b = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(a, w)
          c = Conv<kernel_shape=[1,1]>(b, u) y = Sigmoid(c) }
    """
    model = onnx.parser.parse_model(text)
    for value in [model.graph.input.pop() for _ in range(3)]:
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(sizes, np.float32), value.name))
    graph = canonicalize(ir.from_proto(model))
    stem, site, behind = (str(node.name) for node in graph.graph if node.op_type == "Conv")
    assert [found.node for found in place(graph, get_target("openvino"), ()).sites] == [site]
    macs = {stem: 1, site: 10, behind: 100}
    subject = Subject("m", Path("m.onnx"), "det", graph, torch.zeros(1, 2, 8, 8), "openvino", macs)
    assert subject.arithmetic() == (2 * 1 + 4 * 10 + 3 * 100, 1 * 1 + 3 * 10 + 3 * 100)


def test_a_model_that_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing.onnx"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("step.py: ")
    assert said.err.count("\n") == 1
