"""``ocrslim compress --float``: the whole job on a real model, what is refused, and where nothing is gained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from ocrslim import lossless
from ocrslim.cli import main
from ocrslim.engines.options import session_options
from ocrslim.engines.session import open_session
from ocrslim.errors import VerifyError
from ocrslim.export.onnx_float import with_shape
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.lossless import LosslessSettings, rewrite
from ocrslim.report.result import sha256_of
from ocrslim.report.run_folder import read_run
from ocrslim.slimming.training import data as data_module

REC = "PP-OCRv6_tiny_rec"


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rendered images and a short timing: the path is the same."""
    monkeypatch.setattr(data_module, "RENDERED", {"rec": 20, "det": 5})
    monkeypatch.setattr(lossless, "MIN_BENCH_SECONDS", 0.1)


def test_a_model_is_rewritten_measured_and_runs_as_before(
    zoo: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo(REC)
    assert main(["compress", REC, "--float", "--target", "onnxruntime", "--out", str(tmp_path), "--threads", "1"]) == 0
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert result["session"] == session_options(result["engine"], result["settings"]["threads"])
    assert result["verdict"] in capsys.readouterr().out
    assert {"model.onnx", "inference.yml", "dictionary.txt", "result.json", "MODEL_CARD.md"} <= {
        path.name for path in tmp_path.iterdir()
    }
    card = (tmp_path / "MODEL_CARD.md").read_text("utf-8")
    assert card.startswith(f"# {REC}, float")
    assert f"SHA-256 `{sha256_of(tmp_path / 'model.onnx')}`" in card
    assert result["drop"]["onnxruntime"]["points"] <= 5.0  # one of 20 lines may lie on a threshold
    assert result["verify"][0]["passed"]
    labels = [(row["label"], row["engine"]) for row in result["latency"]]
    assert labels == [(label, engine) for label in ("float", "rewritten") for engine in ("onnxruntime", "openvino")]
    assert main(["eval", str(tmp_path), "--data", "x", "--task", "det"]) == 2  # it is opened, as the model that it is
    assert "is a rec model" in capsys.readouterr().err
    assert read_run(tmp_path).result["delivered"] == result["delivered"]
    page = (tmp_path / "report.html").read_text("utf-8")
    rewritten = result["delivered"] == "rewritten"  # as the clock says
    assert ("Float, rewritten: " if rewritten else "Float as it came in: ") in page
    assert f"{result['latency'][-1]['median_ms']:.2f}" in page


def test_one_shape_is_what_the_file_takes(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    settings = LosslessSettings("openvino", tmp_path, threads=1, shape=(48, 640))
    result = rewrite(zoo(REC), settings)
    assert {tuple(row["shape"]) for row in result["latency"]} == {(1, 3, 48, 640)}
    if result["delivered"] == "rewritten":
        assert open_session(tmp_path / "model.onnx", "openvino", 1).input_shape == (1, 3, 48, 640)
    assert [check["passed"] for check in result["verify"]] == [True, True]  # the open one, and that which is given


def test_where_it_gains_nothing_the_original_is_the_answer(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lossless, "GAIN", 0.0)
    source = open_model(zoo(REC))
    result = rewrite(source.path, LosslessSettings("onnxruntime", tmp_path, threads=1))
    assert result["delivered"] == "float"
    assert "the original is as fast" in result["verdict"]
    assert (tmp_path / "model.onnx").read_bytes() == source.path.read_bytes()
    assert load_onnx(tmp_path / "model.onnx").graph.name == load_onnx(source.path).graph.name


@pytest.mark.slow
def test_nothing_of_an_earlier_run_lies_beside_the_new_model(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    earlier = ("int8.onnx", "MODEL_CARD.md", "report.html", "sensitivity.svg", "sensitivity.csv")
    for name in (*earlier, "dictionary.txt", "inference.pdmodel", "inference.pdiparams", "result.json"):
        (tmp_path / name).write_text("of an earlier run")
    (tmp_path / "notes.txt").write_text("of the user")
    rewrite(zoo("PP-OCRv4_mobile_det"), LosslessSettings("onnxruntime", tmp_path, threads=1))
    left = {path.name for path in tmp_path.iterdir() if path.read_bytes().startswith(b"of ")}
    assert left == {"notes.txt"}
    assert (tmp_path / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "openvino", "--steps", "3"], "--float: nothing is learned or quantized, leave out --steps"),
        (["--target", "openvino", "--ptq-only"], "leave out --ptq-only"),
        (["--target", "tensorrt"], "--float: for onnxruntime or openvino, not for tensorrt"),
        (["--target", "openvino", "--batch", "6"], "--float: images come one at a time, leave out --batch"),
        ([], "compress --float: give MODEL --target ENGINE"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: list[str],
    words: str,
    zoo: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    zoo(REC)
    assert main(["compress", REC, "--float", "--out", str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_of_one_shape_is_compared_too(
    zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lossless, "with_shape", lambda graph, shape: _other_weights(with_shape(graph, shape)))
    with pytest.raises(VerifyError):
        rewrite(zoo(REC), LosslessSettings("openvino", tmp_path, threads=1, shape=(48, 640)))
    assert not (tmp_path / "model.onnx").exists()


def _other_weights(model: ir.Model) -> ir.Model:
    """Return a graph that answers otherwise."""
    value = max(model.graph.initializers.values(), key=lambda value: value.const_value.size)
    value.const_value = ir.tensor(value.const_value.numpy()[:, ::-1].copy(), name=value.name)
    return model
