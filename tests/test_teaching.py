"""What labels teach a recogniser's last layer: where it is, that it folds back exactly, and a real run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from ocrslim import teaching
from ocrslim.compress import CompressSettings, compress
from ocrslim.config.profile import load_profile
from ocrslim.errors import DataError, ModelError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.base import array_of
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import RecSample
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.training.data import open_training_data
from ocrslim.slimming.training.last_layer import LastLayer
from ocrslim.teaching import (
    Lesson,
    as_lines,
    find_last_layer,
    gains,
    open_features,
    read_features,
    speller,
    teach,
    with_last_layer,
)

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


@pytest.fixture
def little(zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is there, and a short timing is enough."""
    zoo(NAME)
    monkeypatch.setattr("ocrslim.compress.MIN_BENCH_SECONDS", 0.1)


FIVE = 50.0


def obvious(layer: LastLayer, *_: Any) -> LastLayer:
    """Stand in for what labels teach: class 5 everywhere, which no calibration makes of itself."""
    bias = layer.bias.clone()
    bias[5] += FIVE
    return LastLayer(layer.weight, bias)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
@pytest.mark.usefixtures("little")
def test_a_run_makes_int8_what_labels_taught(
    target: str, few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "FEWEST", 100)
    monkeypatch.setattr(teaching, "fit_last_layer", obvious)
    monkeypatch.setattr(teaching, "gains", lambda *_: (0.5, 0.25, 0.1))
    result = compress(NAME, replace(settings(few, tmp_path / "out"), target=target))
    taught = result["budget"]["taught"]
    assert (taught["points"], taught["folded"]) == (0.5, 0.25)
    assert 300 < taught["lines"] <= 420
    assert taught["held"] == 280
    out = tmp_path / "out"
    assert not list(out.glob("taught*"))
    assert "labels of" in (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Before anything was quantized" in (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "result.json").read_text(encoding="utf-8"))["budget"]["taught"] == taught
    # The candidates are near to the float model that was taught, and the given model is one of them, or that one.
    assert all(rung["divergence"] < 0.2 for rung in result["budget"]["rungs"])
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, 48, 160), np.float32)})
    assert (answer.argmax(-1) == 5).all() == (result["delivered"] != "float")


def lesson(few: tuple[Path, Path], folder: Path, **changed: Any) -> Lesson:
    source = open_model(NAME)
    data = open_training_data("rec", few[0], few[1], source.characters or (), 0)
    log = RunLog(folder, Console(quiet=True))
    return Lesson(source, data, load_profile(None, source.inference_yml).rec, folder, log, 2, 0, **changed)


def said(folder: Path) -> str:
    return (folder / "log.txt").read_text(encoding="utf-8")


def test_too_few_lines_and_other_dictionaries_are_told(
    zoo: Callable[[str], Path], few: tuple[Path, Path], tmp_path: Path
) -> None:
    graph = graph_of(zoo(NAME))
    assert teach(graph, lesson(few, tmp_path, most=150)) is None
    assert "150 labelled lines are too few to teach the last layer, 200 are needed" in said(tmp_path)
    given = lesson(few, tmp_path)
    other = replace(given.source, characters=(given.source.characters or ())[:-7])
    with pytest.raises(ModelError, match="its dictionary needs"):
        teach(graph, replace(given, source=other))
    detector = graph_of(zoo("PP-OCRv6_tiny_det"))
    assert teach(detector, given) is None
    assert "labels can't teach it" in said(tmp_path)


def test_labels_that_cannot_be_spelled_do_not_teach(
    zoo: Callable[[str], Path], few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A character that the model does not have, no text at all, an image that is none."""
    graph = graph_of(zoo(NAME))
    given = lesson(few, tmp_path)
    charset = Charset.from_source(given.source)
    session = open_features(graph, tmp_path / "features.onnx", 2)
    sample = next(item for item in given.data.train_samples if isinstance(item, RecSample))
    (tmp_path / "broken.png").write_bytes(b"no image")
    samples = [
        replace(sample, text=text, image=image)
        for text, image in (
            ("ab", sample.image),
            ("a\u2603\ufe0fb", sample.image),
            (None, sample.image),
            ("ab", tmp_path / "broken.png"),
        )
    ]
    damaged: dict[str, str] = {}
    told: list[tuple[int, int]] = []
    read = list(read_features(session, samples, given.profile, damaged, lambda *at: told.append(at)))
    assert [item.text for item, _ in read] == ["ab", "a\u2603\ufe0fb", None]
    assert list(damaged) == [str(tmp_path / "broken.png")]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    lines = as_lines(read, charset)
    assert len(lines) == 1
    assert charset.spell(lines[0].classes.numpy()) == "ab"
    monkeypatch.setattr(teaching, "as_lines", lambda *_: lines)
    assert teach(graph, replace(given, most=250)) is None
    assert "1 of 250 labelled lines can teach the last layer" in said(tmp_path)


def test_nothing_to_render_is_no_end(
    zoo: Callable[[str], Path], few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real fit on 300 real lines, without fonts, judged on lines of fixed width; what it gained is told."""
    graph = graph_of(zoo(NAME))

    def none(*_: Any) -> list[Any]:
        raise DataError("there is no font")

    monkeypatch.setattr(teaching, "render_lines", none)
    found = teach(graph, lesson(few, tmp_path, most=300, judged=100, rec_width="fixed", ignore_space=True))
    assert "without rendered text beside the labels: there is no font" in said(tmp_path)
    assert "points of accuracy on 100 held-back ones" in said(tmp_path)
    assert (found is None) == ("not used" in said(tmp_path))


def test_a_text_is_spelled_whole_or_not_at_all() -> None:
    spell = speller(Charset(["a", "b"]))
    found = spell("ab a")
    assert found is not None
    assert found.tolist() == [1, 2, 3, 1]
    assert spell("abc") is None
    assert spell("") is None


def test_gains_are_counted_by_hand() -> None:
    """Of four lines three are read better exactly and one worse; folded, one better and one worse."""
    charset = Charset(["a", "A", "b"], use_space=False)
    labels = ["a", "b", "A", "b"]
    read = [(RecSample(Path(f"{index}.png"), text, ""), torch.eye(4)[[index]]) for index, text in enumerate(labels)]

    def reading(*classes: int) -> LastLayer:
        return LastLayer(torch.eye(4)[list(classes)], torch.zeros(4))

    before, after = reading(2, 3, 1, 1), reading(1, 1, 2, 3)  # "A b a a" and "a a A b"
    points, folded, error = gains(before, after, read, charset)
    assert points == pytest.approx(50.0, abs=1e-3)
    assert folded == pytest.approx(0.0, abs=1e-3)
    assert error == pytest.approx(50.0)  # all four changed


@pytest.mark.slow
@pytest.mark.parametrize("found", [(0.5, 0.0, 0.1), (-0.1, 0.4, 0.1), (0.5, 0.25, 0.6)])
@pytest.mark.usefixtures("little")
def test_what_gains_too_little_is_not_used(
    found: tuple[float, float, float], few: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "gains", lambda *_: found)
    result = compress(NAME, settings(few, tmp_path / "out"))
    assert result["budget"]["taught"] is None
    assert "not used: it has to gain by both, and more" in (tmp_path / "out" / "log.txt").read_text(encoding="utf-8")
