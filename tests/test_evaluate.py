"""The scoring recipe by real models: on drawn text, and against the table of an independent scorer on real images."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from ocrslim.config.profile import RecProfile
from ocrslim.engines.session import open_session
from ocrslim.errors import DataError, InputError
from ocrslim.evaluate import EvalResult, evaluate_file, read_line
from ocrslim.graph.importers.source import open_model
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import TextBox


def _line(path: Path, width: int = 100, height: int = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))
    return path


def _box(left: float, top: float, right: float, bottom: float, text: str = "x") -> TextBox:
    points = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    return TextBox(points, text, text == "###")


def _draw(text: str, scale: float = 1.5) -> NDArray[np.uint8]:
    """Return black text on white, drawn by OpenCV's own font."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    image = np.full((height + below + 24, width + 24, 3), 255, np.uint8)
    return np.asarray(
        cv2.putText(image, text, (12, height + 12), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 2, cv2.LINE_AA),
        np.uint8,
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_real_recogniser_reads_drawn_lines(zoo: Callable[[str], Path], engine: str) -> None:
    source = open_model(zoo("PP-OCRv4_mobile_rec"))
    session = open_session(source.path, engine, 1)
    charset = Charset.from_source(source)
    for text in ("Hello World", "Total 1234.56", "A much longer line of text, drawn to see that wide lines fit"):
        read, confidence = read_line(session, charset, RecProfile(), _draw(text))
        assert read.replace(" ", "") == text.replace(" ", "")
        assert confidence > 0.8


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_real_detector_finds_drawn_lines(zoo: Callable[[str], Path], tmp_path: Path, engine: str) -> None:
    source = open_model(zoo("PP-OCRv4_mobile_det"))
    page = np.full((480, 800, 3), 255, np.uint8)
    labels = []
    for index, text in enumerate(("Hello World", "Total 1234.56", "Thank you")):
        line = _draw(text)
        top = 40 + index * 140
        page[top : top + line.shape[0], 60 : 60 + line.shape[1]] = line
        labels.append(
            {"transcription": text, "points": _box(68, top + 6, 56 + line.shape[1], top + 62).points.tolist()}
        )
    assert cv2.imwrite(str(tmp_path / "page.png"), page)
    (tmp_path / "labels.txt").write_text("page.png\t" + json.dumps(labels) + "\n", encoding="utf-8")
    result = evaluate_file(source.path, tmp_path / "labels.txt", engine=engine, profile="example", threads=1)
    assert result.metrics == {"hmean": 1.0, "precision": 1.0, "recall": 1.0}
    assert (result.engine, result.task, result.n) == (engine, "det", 1)


def test_a_file_is_scored_from_its_lines_to_its_figures(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    lines = ["one.png\tHello", "", "two.png\tWorld", "gone.png\tx", "broken.png\tx", "two.png\tOther", "one.png\tlast"]
    for name, text in (("one", "Hello"), ("two", "World")):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), _draw(text))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    labels = tmp_path / "rec.txt"
    labels.write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    console = Console(quiet=True)
    model = zoo("PP-OCRv4_mobile_rec").parent
    result = evaluate_file(model, labels, task="rec", loose=True, threads=1, limit=4, console=console)
    assert result.n == 3
    assert result.metrics["accuracy"] == pytest.approx(2 / 3, abs=1e-5)
    assert [item.where for item in result.skipped] == [
        f"{labels}:2",
        f"{labels}:4",
        str(tmp_path / "broken.png"),
    ]
    assert result.protocol["profile"] == "model"  # the folder has an inference.yml
    with pytest.raises(InputError, match="--task det: PP-OCRv4_mobile_rec is a rec model"):
        evaluate_file(model, labels, task="det")
    with pytest.raises(DataError, match="no such label file"):
        evaluate_file(model, tmp_path / "none.txt")


def test_scoring_does_not_load_torch() -> None:
    code = "import sys, ocrslim.evaluate; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def _score(name: str, real_data: Path, limit: int | None = None) -> EvalResult:
    labels = real_data / name[-3:] / "labels" / "val.txt"
    return evaluate_file(name, labels, profile="example", loose=True, limit=limit)


@pytest.mark.parametrize(("name", "metric", "least"), [("PP-OCRv4_mobile_rec", "accuracy", 0.5)])
def test_a_real_model_reads_real_lines(
    zoo: Callable[[str], Path], real_data: Path, name: str, metric: str, least: float
) -> None:
    zoo(name)
    result = _score(name, real_data, limit=60)
    assert result.n == 60
    assert result.metrics[metric] > least
    assert result.metrics["loose"][metric] >= result.metrics[metric]


# accuracy, loose accuracy, loose 1-NED of 1,601 lines; hmean, precision, recall of 177 images: an independent scorer's
TABLE = {
    "PP-OCRv3_mobile_rec": (0.5809, 0.7483, 0.9240),
    "PP-OCRv4_mobile_rec": (0.6002, 0.7814, 0.9388),
    "PP-OCRv5_mobile_rec": (0.5703, 0.7402, 0.9247),
    "PP-OCRv6_small_rec": (0.6964, 0.8613, 0.9624),
    "PP-OCRv6_tiny_rec": (0.6121, 0.7639, 0.9327),
    "PP-OCRv3_mobile_det": (0.8359, 0.8551, 0.8176),
    "PP-OCRv4_mobile_det": (0.8282, 0.8417, 0.8152),
    "PP-OCRv5_mobile_det": (0.7746, 0.7966, 0.7539),
    "PP-OCRv6_small_det": (0.8031, 0.8421, 0.7676),
    "PP-OCRv6_tiny_det": (0.8210, 0.8507, 0.7933),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_figures_are_those_of_an_independent_scorer(zoo: Callable[[str], Path], real_data: Path, name: str) -> None:
    zoo(name)
    result = _score(name, real_data)
    metrics = result.metrics
    if result.task == "det":
        figures = (metrics["hmean"], metrics["precision"], metrics["recall"])
    else:
        figures = (metrics["accuracy"], metrics["loose"]["accuracy"], metrics["loose"]["norm_edit_distance"])
    assert result.n == (177 if result.task == "det" else 1601)
    assert figures == pytest.approx(TABLE[name], abs=0.003)


@pytest.mark.parametrize("limit", [1, 2, 99])
def test_a_limit_counts_samples_not_lines_of_the_file(zoo: Callable[[str], Path], tmp_path: Path, limit: int) -> None:
    for index in range(3):
        _line(tmp_path / f"{index}.png")
    labels = tmp_path / "rec.txt"
    labels.write_text("\ngone.png\tx\n0.png\ta\n\n1.png\tb\n2.png\tc\n", encoding="utf-8")
    result = evaluate_file(zoo("PP-OCRv6_tiny_rec"), labels, limit=limit, threads=1, engine="onnxruntime")
    assert result.n == min(limit, 3)
    assert [Path(record.image).name for record in result.records] == [f"{index}.png" for index in range(result.n)]
    assert [item.where.split(":")[-1] for item in result.skipped] == ["1", "2", "4"]


def test_a_set_is_the_folder_that_holds_the_image(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("a/deep/0.png", "b/1.png", "2.png"):
        _line(tmp_path / name)
    labels = tmp_path / "rec.txt"
    labels.write_text("a/deep/0.png\tx\nb/1.png\tx\n2.png\tx\n", encoding="utf-8")
    result = evaluate_file(zoo("PP-OCRv6_tiny_rec"), labels, threads=1, engine="onnxruntime")
    assert {name: figures["n"] for name, figures in result.per_set.items()} == {"b": 1, "deep": 1, tmp_path.name: 1}


def test_both_engines_give_the_same_figures(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    texts = ("Hello World", "Total 1234.56", "wrong label")
    rows = []
    for index, text in enumerate(texts):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), _draw(text))
        rows.append(f"{index}.png\t{text if index < 2 else 'other'}\n")
    (tmp_path / "rec.txt").write_text("".join(rows), encoding="utf-8")
    results = [
        evaluate_file(zoo("PP-OCRv6_tiny_rec"), tmp_path / "rec.txt", engine=engine, threads=1, loose=True)
        for engine in ("onnxruntime", "openvino")
    ]
    assert results[0].metrics == results[1].metrics
    assert [record.text for record in results[0].records] == [record.text for record in results[1].records]
    assert results[0].metrics["loose"]["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert results[0].protocol["engine_version"] != results[1].protocol["engine_version"]
