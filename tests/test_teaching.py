"""What labels teach a recogniser's last layer: where it is, that it folds back exactly, and a real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from ocrslim import teaching
from ocrslim.compress import CompressSettings, compress
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.base import array_of
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.training.last_layer import LastLayer
from ocrslim.teaching import find_last_layer, with_last_layer

RECOGNISERS = [
    "PP-OCRv3_mobile_rec",
    "PP-OCRv4_mobile_rec",
    "PP-OCRv5_mobile_rec",
    "PP-OCRv6_small_rec",
    "PP-OCRv6_tiny_rec",
]
NAME = "PP-OCRv6_tiny_rec"


def graph_of(path: Path) -> ir.Model:
    return canonicalize(load_onnx(path))


@pytest.mark.parametrize("name", RECOGNISERS)
def test_the_last_layer_of_every_recogniser(zoo: Callable[[str], Path], name: str) -> None:
    """A projection before the weights, folded into them, gives what the projection itself gives."""
    graph = graph_of(zoo(name))
    place = find_last_layer(graph)
    assert place is not None
    constants = [array_of(graph.graph.initializers[key]) for key in (place.weight, place.bias)]
    layer = LastLayer(*(torch.from_numpy(np.array(array)) for array in constants))
    count = len(layer.weight)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.eye(count) + 0.05 * torch.randn(count, count, generator=generator) / count**0.5
    offset = 0.1 * torch.randn(count, generator=generator)
    changed = with_last_layer(graph, layer.after(matrix, offset))
    image = torch.randn(1, 3, 48, 160, generator=generator)
    values = GraphModule(graph).eval()(image, fetch=(place.features,))
    wanted = torch.softmax(layer.logits(values[place.features] @ matrix + offset), -1)
    assert torch.allclose(GraphModule(changed).eval()(image), wanted, atol=1e-4)
    # The graph that it was made of is as it was.
    assert np.array_equal(array_of(graph.graph.initializers[place.weight]), constants[0])


def test_detectors_and_shared_weights_have_none(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    assert find_last_layer(graph_of(zoo("PP-OCRv6_tiny_det"))) is None
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(4, np.float32), "b")
    for again, expected in ((False, True), (True, False)):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
            helper.make_node("MatMul", ["h", "w" if again else "v"], ["p"], "last"),
            helper.make_node("Add", ["p", "b"], ["l"], "add"),
            helper.make_node("Softmax", ["l"], ["y"], "softmax", axis=-1),
        ]
        constants = [weight, bias, *([] if again else [numpy_helper.from_array(np.eye(4, dtype=np.float32), "v")])]
        shape = ["n", "t", 4]
        model = helper.make_model(
            helper.make_graph(
                nodes,
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
                constants,
            ),
            opset_imports=[helper.make_opsetid("", 17)],
        )
        path = tmp_path / f"{again}.onnx"
        onnx.save(model, path)
        assert (find_last_layer(load_onnx(path)) is not None) == expected


@pytest.fixture
def few(real_data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Return a file of 700 labelled lines of all sets, and what their paths are relative to."""
    lines = (real_data / "rec" / "labels" / "train.txt").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "few.txt"
    path.write_text("\n".join(lines[:: len(lines) // 700][:700]), encoding="utf-8")
    first = lines[0].split("\t")[0]
    return path, next(folder for folder in (real_data, real_data / "rec") if (folder / first).is_file())


def settings(few: tuple[Path, Path], out: Path) -> CompressSettings:
    return CompressSettings("openvino", out, few[0], data_dir=few[1], effort="quick", max_drop=100.0, observer="minmax")


@pytest.mark.slow
def test_a_run_teaches_and_says_so(
    zoo: Callable[[str], Path], few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo(NAME)
    monkeypatch.setattr("ocrslim.compress.MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(teaching, "FEWEST", 100)
    monkeypatch.setattr(teaching, "gains", lambda *_: (0.5, 0.25))  # what 420 lines teach, 280 can't tell
    result = compress(NAME, settings(few, tmp_path / "out"))
    taught = result["budget"]["taught"]
    assert (taught["points"], taught["folded"]) == (0.5, 0.25)
    assert 300 < taught["lines"] <= 420
    assert taught["held"] == 280
    out = tmp_path / "out"
    assert not list(out.glob("taught*"))
    assert "labels of" in (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Before anything was quantized" in (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["budget"]["taught"] == taught
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 48, 160), np.float32)})[0].ndim == 3


@pytest.mark.slow
@pytest.mark.parametrize("gains", [(0.5, 0.0), (-0.1, 0.4)])
def test_what_gains_by_one_of_two_only_is_not_used(
    gains: tuple[float, float],
    zoo: Callable[[str], Path],
    few: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zoo(NAME)
    monkeypatch.setattr("ocrslim.compress.MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr(teaching, "gains", lambda *_: gains)
    result = compress(NAME, settings(few, tmp_path / "out"))
    assert result["budget"]["taught"] is None
    assert "not used: it has to gain by both" in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
