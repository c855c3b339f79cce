"""What each engine gets and who stands in for Paddle, on the real PP-OCRv4 in both formats."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ocrslim import compress as module
from ocrslim.cli import main
from ocrslim.compress import CompressSettings, compress
from ocrslim.delivery import STAND_IN, Delivery, open_delivery
from ocrslim.engines.session import ENGINES, PADDLE_ENGINES
from ocrslim.engines.timing import BenchRow
from ocrslim.errors import InputError, ModelError, OcrslimError
from ocrslim.export import verify
from ocrslim.export.deploy import export_folder
from ocrslim.export.onnx_float import export_float
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.paddle.files import PaddleFiles
from ocrslim.graph.importers.paddle.program import read_parameters, read_program
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.slimming.training import data as data_module
from ocrslim.slimming.training.last_layer import LastLayer
from ocrslim.teaching import last_layer, with_last_layer

HAS_PADDLE = importlib.util.find_spec("paddle") is not None
NAME = "PP-OCRv4_mobile_det"


@pytest.fixture
def paddle_folder(zoo: Callable[[str], Path]) -> Callable[[str], Path]:
    from ocrslim.graph.importers.paddle.zoo import pull_paddle

    def folder(name: str) -> Path:
        zoo(name)
        try:
            return pull_paddle(name)
        except OcrslimError as error:
            pytest.skip(f"model {name} can't be fetched here: {error}")

    return folder


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "RENDERED", {"rec": 16, "det": 4})
    monkeypatch.setattr(data_module, "CALIBRATION_IMAGES", {"rec": 8, "det": 1})
    monkeypatch.setattr(data_module, "VALIDATION_IMAGES", {"rec": 4, "det": 1})
    monkeypatch.setattr(module, "MIN_BENCH_SECONDS", 0.05)
    monkeypatch.setattr(verify, "REQUIRED_AGREEMENT", 0.9)
    monkeypatch.setattr(verify, "REQUIRED_IOU", 0.9)


# ---- which engine


def test_other_targets_need_no_paddle(zoo: Callable[[str], Path]) -> None:
    source = open_model(zoo("PP-OCRv6_tiny_rec"))
    delivery = open_delivery(source, "openvino", 1)
    assert (delivery.paddle, delivery.notes, delivery.required, delivery.by_paddle) == (None, (), None, False)
    original = delivery.open_original()
    assert original.engine == "openvino"
    assert delivery.open(source.path).engine == "openvino"
    assert delivery.sizes(source.path) == dict.fromkeys(("float", "int8"), source.path.stat().st_size)
    with pytest.raises(InputError, match="target tpu: there is none of that name"):
        open_delivery(source, "tpu", 1)


def test_without_paddle_another_engine_stands_in_and_says_so(
    paddle_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_model(paddle_folder(NAME))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    delivery = open_delivery(source, "paddle", 1)
    assert (delivery.target.name, delivery.target.engine) == ("paddle", STAND_IN)
    assert delivery.target.activation.symmetric  # the rules are Paddle's all the same
    assert (delivery.required, delivery.by_paddle) == (None, False)
    assert delivery.notes[0].startswith("Paddle did not run the int8 model here")
    assert "pip install 'ocrslim[paddle]'" in delivery.notes[0]


def test_with_paddle_it_runs_both_models(paddle_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {task: open_model(paddle_folder(f"PP-OCRv4_mobile_{task}")) for task in ("det", "rec")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    for task, least in (("det", 0.97), ("rec", 0.98)):
        delivery = open_delivery(sources[task], "paddle", 1)
        assert (delivery.target.engine, delivery.by_paddle, delivery.notes) == ("paddle", True, ())
        assert delivery.required == least


def test_the_float_model_that_labels_taught_is_written_for_paddle(
    paddle_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Candidates are compared with it: Paddle's files of it answer as its ONNX file does."""
    source = open_model(paddle_folder("PP-OCRv4_mobile_rec"))
    delivery = open_delivery(source, "paddle", 1)
    delivery = replace(delivery, target=replace(delivery.target, engine="paddle"))
    opened: list[Path] = []
    monkeypatch.setattr("ocrslim.delivery.open_session", lambda path, *_: opened.append(path))
    graph = canonicalize(load_onnx(source.path))
    layer = last_layer(graph)
    changed = with_last_layer(graph, LastLayer(layer.weight.flip(0), layer.bias + torch.arange(len(layer.bias)) / 1e3))
    path = tmp_path / "taught.onnx"
    export_float(changed, delivery.target, path)
    delivery.open(path)
    assert opened == [tmp_path / "taught.paddle"]
    (tmp_path / "dictionary.txt").write_text("\n".join(source.characters or ()), encoding="utf-8")
    again = canonicalize(load_onnx(open_model(opened[0], tmp_path / "dictionary.txt").path))
    image = torch.randn(1, 3, 48, 160, generator=torch.Generator().manual_seed(0))
    answers = [GraphModule(model).eval()(image) for model in (changed, again, graph)]
    assert torch.allclose(answers[0], answers[1], atol=1e-4)
    assert not torch.allclose(answers[0], answers[2], atol=1e-2)


def test_a_model_without_paddle_files_is_told_before_any_work(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    zoo("PP-OCRv6_tiny_rec")
    with pytest.raises(ModelError, match="PP-OCRv6_tiny_rec: came as ONNX"):
        compress("PP-OCRv6_tiny_rec", CompressSettings("paddle", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


# ---- the whole job


@pytest.mark.slow
@pytest.mark.usefixtures("little")
def test_a_paddle_model_comes_back_as_one(paddle_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder, out = paddle_folder(NAME), tmp_path / "out"
    result = compress(folder, CompressSettings("paddle", out, ptq_only=True, threads=1, effort="quick"))
    made = {path.name for path in out.iterdir()}
    assert {"model.onnx", "inference.pdmodel", "inference.pdiparams", "result.json"} <= made
    assert not [name for name in made if name.startswith("candidate")]
    check_names_and_size(folder, out, result)
    engine = "paddle" if HAS_PADDLE else STAND_IN
    assert (result["target"], result["engine"]) == ("paddle", engine)
    assert list(result["drop"]) == [engine]
    assert result["timed_on"] == ("paddle-int8" if HAS_PADDLE else STAND_IN)
    assert f"of float on {result['timed_on']}" in result["verdict"] or "float is better" in result["verdict"]
    assert bool(result["notes"]) != HAS_PADDLE
    assert ("Paddle did not run" in result["verdict"]) != HAS_PADDLE
    timed = {row["engine"] for row in result["latency"]}
    assert (set(PADDLE_ENGINES) <= timed) == HAS_PADDLE
    check_export_finds_the_source(out)


def check_names_and_size(folder: Path, out: Path, result: dict[str, Any]) -> None:
    """Every parameter keeps its name, the weights of the sites are integers, and the sizes are those of the files."""
    program = read_program(out / "inference.pdmodel")
    parameters = read_parameters(out / "inference.pdiparams", program.persistable_names)
    before = read_program(folder / "inference.pdmodel")
    assert set(read_parameters(folder / "inference.pdiparams", before.persistable_names)) <= set(parameters)
    integers = [name for name, array in parameters.items() if array.dtype == np.int8]
    assert len(integers) == len({item["node"] for item in result["placement"]["quantized"]})
    assert all(f"{name}@scale" in parameters for name in integers)
    assert any(op.type == "quantize_linear" for op in program.ops)
    size = sum((out / name).stat().st_size for name in ("inference.pdmodel", "inference.pdiparams"))
    assert result["size"]["int8"] == size
    assert result["size"]["ratio"] < 0.6


def check_export_finds_the_source(out: Path) -> None:
    """``export --to paddle`` needs no --source: the result says which model it was, and the bytes are the same."""
    before = (out / "inference.pdiparams").read_bytes()
    again = out.with_name("again")
    export_folder(out, "paddle", out=again)
    assert (again / "inference.pdiparams").read_bytes() == before


# ---- a dictionary from the command line


def test_characters_may_be_named_where_the_model_has_none(
    zoo: Callable[[str], Path], real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = zoo("PP-OCRv4_mobile_rec")
    bare = onnx.load(source)
    for _ in range(len(bare.metadata_props)):
        del bare.metadata_props[0]
    onnx.save(bare, tmp_path / "bare_rec.onnx")
    lines = (real_data / "rec/labels/val.txt").read_text("utf-8").splitlines()[:4]
    (tmp_path / "few.txt").write_text("\n".join(lines) + "\n", "utf-8")
    where = ["--data", str(tmp_path / "few.txt"), "--data-dir", str(root_of(real_data, lines[0]))]
    command = ["eval", str(tmp_path / "bare_rec.onnx"), *where, "--profile", "example", "--threads", "1"]
    assert main(command) == 2
    assert "no dictionary; name it with --dict" in capsys.readouterr().err
    characters = tmp_path / "keys"
    shutil.copy(source.parent / "dictionary.txt", characters)
    assert main([*command, "--dict", str(characters), "--json"]) == 0
    assert '"n": 4' in capsys.readouterr().out
    assert main([*command, "--dict", str(tmp_path / "gone")]) == 2
    assert "gone: can't be read" in capsys.readouterr().err


def root_of(real_data: Path, line: str) -> Path:
    """Return what the images of a label file are relative to."""
    return real_data if (real_data / line.partition("\t")[0]).is_file() else real_data / "rec"


# ---- where int8 gains nothing


def _row(label: str, engine: str, ratio: float, threads: int = 1) -> BenchRow:
    return BenchRow(label, engine, 1.0, 1.0, 1.0, ratio, ratio, 10, None, 1, threads, (1,), "cpu", (), {}, 0.0)


def test_the_float_model_is_given_where_int8_is_no_faster(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    source = open_model(zoo("PP-OCRv6_tiny_rec"))
    delivery = open_delivery(source, "openvino", 1)
    exported = tmp_path / "model.onnx"
    exported.write_bytes(b"int8")
    fast = [_row("float", "openvino", 1.0), _row("int8", "openvino", 0.8), _row("int8", "onnxruntime", 1.3)]
    assert delivery.keep_float(exported, fast) == "int8"
    assert exported.read_bytes() == b"int8"
    slow = [_row("float", "openvino", 1.0), _row("int8", "openvino", 1.01), _row("int8", "onnxruntime", 0.5)]
    assert delivery.keep_float(exported, slow) == "float"
    assert exported.read_bytes() == source.path.read_bytes()
    assert (tmp_path / "int8.onnx").read_bytes() == b"int8"


@pytest.mark.parametrize(
    ("int8", "rewritten", "answer"),
    [
        (0.7, 0.8, "int8"),
        (0.8, 0.7, "rewritten"),
        (1.1, 0.9, "rewritten"),
        (1.1, 1.0, "float"),
        (0.9, 1.2, "int8"),
        (0.97, 0.975, "int8"),
    ],
)
def test_int8_has_to_be_faster_than_the_rewritten_float_model(
    int8: float, rewritten: float, answer: str, zoo: Callable[[str], Path], tmp_path: Path
) -> None:
    source = open_model(zoo("PP-OCRv6_tiny_rec"))
    delivery = open_delivery(source, "onnxruntime", 1)
    exported = tmp_path / "model.onnx"
    exported.write_bytes(b"int8")
    delivery.rewrite(canonicalize(load_onnx(source.path)), exported)
    written = (tmp_path / "rewritten.onnx").read_bytes()
    times = {"float": 1.0, "int8": int8, "rewritten": rewritten}
    rows = [_row(label, "onnxruntime", ratio) for label, ratio in times.items()]
    assert delivery.keep_float(exported, rows) == answer
    files = {"int8": b"int8", "rewritten": written, "float": source.path.read_bytes()}
    assert exported.read_bytes() == files[answer]
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"} | ({"int8.onnx"} if answer != "int8" else set())


def test_an_engine_that_stands_in_says_nothing_of_the_speed(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    delivery = open_delivery(open_model(zoo("PP-OCRv6_tiny_rec")), "tensorrt", 1)
    exported = tmp_path / "model.onnx"
    exported.write_bytes(b"int8")
    delivery.rewrite(canonicalize(load_onnx(delivery.source.path)), exported)
    assert not (tmp_path / "rewritten.onnx").exists()
    assert delivery.keep_float(exported, [_row("int8", delivery.target.engine, 2.0)]) == "int8"
    assert exported.read_bytes() == b"int8"


def test_what_looks_slow_is_timed_longer(zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []
    ratios = [1.1, 0.9, 0.9, 0.98, 0.96]

    def bench(self: Delivery, exported: Path, shape: Sequence[int], min_seconds: float) -> list[BenchRow]:
        seconds.append(min_seconds)
        return [_row("int8", "openvino", ratios[len(seconds) - 1])]

    monkeypatch.setattr(Delivery, "bench", bench)
    delivery = open_delivery(open_model(zoo("PP-OCRv6_tiny_rec")), "openvino", 1)
    rows = delivery.bench_surely(Path("m.onnx"), (1, 3, 48, 320), 2.0)
    assert seconds == [2.0, 6.0]
    assert delivery.answer(rows) == "int8"
    delivery.bench_surely(Path("m.onnx"), (1, 3, 48, 320), 2.0)
    assert seconds == [2.0, 6.0, 2.0]
    delivery.bench_surely(Path("m.onnx"), (1, 3, 48, 320), 2.0)
    assert seconds == [2.0, 6.0, 2.0, 2.0, 6.0]  # a tie, nearly


def test_what_cannot_be_written_for_paddle_is_told_before_a_climb(
    paddle_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = open_delivery(open_model(paddle_folder(NAME)), "paddle", 1)
    graph = canonicalize(load_onnx(delivery.source.path))
    delivery.try_writing(graph)
    rec = paddle_folder("PP-OCRv4_mobile_rec")
    other = replace(delivery, paddle=PaddleFiles(rec / "inference.pdmodel", rec / "inference.pdiparams"))
    with pytest.raises(OcrslimError):
        other.try_writing(graph)
    open_delivery(delivery.source, "openvino", 1).try_writing(graph)  # writes nothing


def test_one_thread_is_timed_beside_the_threads_that_count(zoo: Callable[[str], Path]) -> None:
    source = open_model(zoo("PP-OCRv6_tiny_rec"))
    alone = open_delivery(source, "openvino", 2).bench_alone(source.path, (1, 3, 48, 64), 0.0)
    assert [(row.label, row.engine, row.threads) for row in alone] == [
        (label, engine, 1) for label in ("float", "int8") for engine in ENGINES
    ]
    assert open_delivery(source, "openvino", 1).bench_alone(source.path, (1, 3, 48, 64), 0.0) == []


def test_only_the_threads_that_were_asked_for_decide(zoo: Callable[[str], Path]) -> None:
    delivery = open_delivery(open_model(zoo("PP-OCRv6_tiny_rec")), "openvino", 2)
    slow = [_row("int8", "openvino", 1.1, 2), _row("int8", "openvino", 0.9, 1)]
    assert delivery.answer(slow) == "float"
    assert delivery.answer([_row("int8", "openvino", 0.9, 2), _row("int8", "openvino", 1.1, 1)]) == "int8"
