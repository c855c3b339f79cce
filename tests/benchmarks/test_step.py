"""What a training step costs: a whole run of the script on the smallest model, and the arithmetic of its floor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from step import FIRST, HEADINGS, Cost, main, measure, row

from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.inspect import count_macs


def test_a_row_holds_the_ratios() -> None:
    cost = Cost(
        "m",
        8,
        {"ours": 0.3, "without": 0.25, "all weights": 0.4, FIRST: 0.35},
        floor=0.2,
        gflops=100.0,
        passes=0.25,
    )
    said = row(cost)
    assert tuple(said) == HEADINGS
    assert (said["ratio"], said["ours / floor"], said["GFLOP/s"]) == ("1.20", "1.50", "100")
    assert (said["4 passes in openvino"], said["ours / those"]) == ("0.250", "1.20")


def test_the_floor_is_four_times_the_multiplications_at_the_measured_rate(zoo: Callable[[str], Path]) -> None:
    path = zoo("PP-OCRv6_tiny_rec")
    cost = measure(str(path), 1, "openvino", turns=2)
    macs = count_macs(load_onnx(open_model(path).path), (1, 3, 48, 320))
    assert macs is not None
    assert cost.floor == pytest.approx(4 * macs / (cost.gflops / 2 * 1e9), rel=1e-6)
    assert cost.floor / 4 < cost.passes < 100 * cost.floor  # no engine multiplies four times as fast as that product
    assert set(cost.steps) == {"ours", "without", "all weights", FIRST}
    assert all(seconds > 0 for seconds in cost.steps.values())


def test_a_model_that_is_not_there_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing.onnx"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("step.py: ")
    assert said.err.count("\n") == 1
