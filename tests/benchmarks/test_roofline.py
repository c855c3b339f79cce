"""The roofline: multiplications as counted in the graph, classes of layers, and a whole run of the script."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from roofline import CLASSES, Layer, Roofs, count_macs, kind_of, main, measure_roofs, profile

from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.inspect import count_macs as count_in_graph

PIXEL = [1, 8, 4, 6]


@pytest.mark.parametrize(
    ("layer_type", "output", "inputs", "macs", "kind"),
    [
        ("Convolution", PIXEL, [[1, 3, 4, 6], [8, 3, 1, 1]], 8 * 24 * 3, "pointwise conv, float"),
        ("Convolution", PIXEL, [[1, 3, 4, 6], [8, 3, 3, 3]], 8 * 24 * 27, "conv, float"),
        ("Convolution", PIXEL, [[1, 8, 4, 6], [8, 1, 1, 3, 3]], 8 * 24 * 9, "depthwise, grouped conv, float"),
        ("Deconvolution", [1, 8, 8, 12], [[1, 3, 4, 6], [3, 8, 2, 2]], 72 * 32, "transposed conv, float"),
        ("FullyConnected", [1, 40, 10], [[1, 40, 7], [10, 7]], 400 * 7, "product of matrices, float"),
        ("MatMul", [1, 2, 5, 6], [[1, 2, 5, 3], [1, 2, 3, 6]], 60 * 3, "product of matrices, float"),
        ("Reorder", PIXEL, [PIXEL], 0, "reorder, copy"),
        ("Eltwise", PIXEL, [PIXEL, PIXEL], 0, "elementwise, pool, norm"),
    ],
)
def test_layers_are_counted_by_hand(
    layer_type: str, output: list[int], inputs: list[list[int]], macs: int, kind: str
) -> None:
    assert count_macs(layer_type, output, inputs) == macs
    assert kind_of(layer_type, output, inputs, int8=False) == kind


def test_the_least_time_is_that_of_the_nearer_roof() -> None:
    roofs = Roofs(float_macs=1e9, int8_macs=4e9, bandwidth=1e9)
    assert roofs.least(Layer("a", "conv", 2_000_000, 1_000_000, False, 1.0)) == pytest.approx(2e-3)
    assert roofs.least(Layer("a", "conv", 2_000_000, 1_000_000, True, 1.0)) == pytest.approx(1e-3)  # its bytes
    assert roofs.least(Layer("a", "copy", 0, 3_000_000, False, 1.0)) == pytest.approx(3e-3)


@pytest.mark.parametrize(
    ("name", "shape"), [("PP-OCRv4_mobile_rec", (1, 3, 48, 64)), ("PP-OCRv6_tiny_det", (1, 3, 64, 96))]
)
def test_the_layers_make_the_multiplications_of_the_graph(
    name: str, shape: tuple[int, ...], zoo: Callable[[str], Path]
) -> None:
    path = open_model(zoo(name)).path
    layers, whole = profile(path, shape, threads=1, runs=1)
    counted = count_in_graph(load_onnx(path), shape)
    assert counted is not None
    # What becomes part of a fused layer, such as the products of attention, is not told: some 0.02 % of all.
    assert 0 <= counted - sum(layer.macs for layer in layers) <= 0.001 * counted
    assert sum(layer.seconds for layer in layers) <= whole + 1e-9
    assert all(layer.bytes > 0 and not layer.int8 for layer in layers)


def test_the_roofs_are_those_of_this_machine() -> None:
    roofs = measure_roofs(threads=1, runs=3)
    assert roofs.float_macs > 1e9  # a thread of any CPU with AVX2 makes more
    assert roofs.int8_macs > 0
    assert roofs.bandwidth > 1e8


def test_the_script_tells_each_class(zoo: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(zoo("PP-OCRv6_tiny_rec")), "--threads", "1", "--runs", "1"]) == 0
    said = capsys.readouterr().out
    assert "pointwise conv, float" in said
    assert "GMAC/s int8" in said
    summary = said[said.index("| model |") :].splitlines()
    assert summary[2].startswith("| inference.onnx |") or summary[2].startswith("| PP-OCRv6_tiny_rec")
    heads, cells_of = ([cell.strip() for cell in summary[line].split("|")] for line in (0, 2))
    cells = dict(zip(heads, cells_of, strict=True))
    assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\)", cells["pointwise conv"])
    parts = [float(cells[kind].split()[0]) for kind in CLASSES if cells[kind]]
    assert sum(parts) == pytest.approx(float(cells["ms"]), abs=0.05)  # every layer has a class
    assert main(["nothing.onnx"]) == 2
