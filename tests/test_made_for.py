"""The engine that an int8 model was made for runs it, unless another one is asked for by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx_ir as ir
import pytest

import ocrslim
from ocrslim import cli
from ocrslim.errors import InputError
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.made_for import engine_for
from ocrslim.reader import Recognizer

Made = Callable[..., Path]
ENGINES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "paddle": "paddle", "tensorrt": "onnxruntime"}


@pytest.fixture
def made(zoo: Callable[[str], Path], tmp_path: Path) -> Made:
    """Return a function that writes a folder of a target as `compress` does: a model with a value in int8."""

    def make(target: str, task: str = "rec", quantized: bool = True) -> Path:
        folder = tmp_path / f"{task}-{target}"
        folder.mkdir()
        model = load_onnx(zoo(f"PP-OCRv6_tiny_{task}"))
        if quantized:
            _quantize_a_weight(model)
        ir.save(model, folder / "model.onnx")
        facts = {"model": {"name": "m", "task": task}, "target": target, "engine": ENGINES[target]}
        (folder / "result.json").write_text(json.dumps(facts), encoding="utf-8")
        for beside in zoo(f"PP-OCRv6_tiny_{task}").parent.glob("*.yml"):
            (folder / beside.name).write_bytes(beside.read_bytes())
        return folder

    return make


def _quantize_a_weight(model: ir.Model) -> None:
    """Let the first convolution read its weight through a DequantizeLinear."""
    node = next(node for node in model.graph if node.op_type == "Conv")
    weight = node.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    value = weight.const_value.numpy()
    scale = float(np.abs(value).max()) / 127
    parts = []
    for name, array in (("q", np.round(value / scale).astype(np.int8)), ("s", np.array(scale, np.float32))):
        tensor = ir.tensor(array, name=f"made_{name}")
        part = ir.Value(name=f"made_{name}", shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
        part.const_value = tensor
        model.graph.register_initializer(part)
        parts.append(part)
    wide = ir.node("DequantizeLinear", parts)
    wide.outputs[0].name = "made_wide"
    model.graph.insert_before(node, wide)
    node.replace_input_with(1, wide.outputs[0])


@pytest.mark.parametrize("target", list(ENGINES))
def test_the_engine_of_the_result_is_taken(target: str, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_for([open_model(made(target))], None) == ENGINES[target]
    assert capsys.readouterr().err == ""


def test_a_float_model_and_a_strange_result_change_nothing(made: Made, zoo: Callable[[str], Path]) -> None:
    assert engine_for([open_model(made("onnxruntime", quantized=False))], None) == "openvino"
    assert engine_for([open_model(zoo("PP-OCRv6_tiny_det"))], None) == "openvino"
    folder = made("tensorrt")
    for text in ("{", "[]", "{}", '{"target": 3}', '"text"'):
        (folder / "result.json").write_text(text, encoding="utf-8")
        assert engine_for([open_model(folder)], None) == "openvino"


def test_another_engine_by_name_is_told_of(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made("onnxruntime")
    assert engine_for([open_model(folder)], "openvino") == "openvino"
    said = f"ocrslim: {folder}: was made for onnxruntime; in openvino it may read garbage\n"
    assert capsys.readouterr().err == said
    for target, engine in (("paddle", "paddle-int8"), ("tensorrt", "onnxruntime")):
        assert engine_for([open_model(made(target))], engine) == engine
    assert capsys.readouterr().err == ""


def test_a_loaded_model_runs_in_its_engine(made: Made) -> None:
    reader = ocrslim.load(made("onnxruntime"), threads=1)
    assert isinstance(reader, Recognizer)
    assert reader.session.engine == "onnxruntime"


def test_a_pair_of_two_engines_is_refused_and_of_one_is_not(made: Made, zoo: Callable[[str], Path]) -> None:
    det, rec = made("openvino", "det"), made("onnxruntime")
    with pytest.raises(InputError, match=rf"{det} for openvino and {rec} for onnxruntime: were made for different en"):
        ocrslim.load(det, rec)
    pair = ocrslim.load(zoo("PP-OCRv6_tiny_det"), rec, threads=1)
    assert pair.detector.session.engine == pair.recognizer.session.engine == "onnxruntime"


def test_eval_bench_and_predict_take_it(
    made: Made, zoo: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rec, det = made("onnxruntime"), zoo("PP-OCRv6_tiny_det")
    cv2.imwrite(str(tmp_path / "line.png"), np.full((48, 96, 3), 255, np.uint8))
    (tmp_path / "labels.txt").write_text("line.png\tab\n", encoding="utf-8")
    few = ["--threads", "1", "--json"]
    assert cli.main(["eval", str(rec), "--data", str(tmp_path / "labels.txt"), *few]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "onnxruntime"
    assert cli.main(["predict", str(tmp_path / "line.png"), "--det", str(det), "--rec", str(rec), *few]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] == "onnxruntime"
    both = ["bench", str(rec), str(made("openvino"))]
    assert cli.main(both) == 2
    said = capsys.readouterr().err
    assert said.endswith("were made for different engines; take models of one, or say --engine\n")
    assert said.count("\n") == 1


def test_bench_times_in_it(
    made: Made, zoo: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def bench(_: object, engines: list[str], **__: object) -> list[object]:
        asked.append(engines)
        return []

    monkeypatch.setattr("ocrslim.engines.timing.bench", bench)
    rec = made("onnxruntime")
    assert cli.main(["bench", str(zoo("PP-OCRv6_tiny_rec")), str(rec), "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["bench", str(rec), "--json", "--engine", "openvino", "onnxruntime"]) == 0
    assert capsys.readouterr().err.count("was made for onnxruntime; in openvino") == 1
    assert asked == [["onnxruntime"], ["openvino", "onnxruntime"]]
