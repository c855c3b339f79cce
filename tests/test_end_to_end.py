"""Scoring det and rec together: the recipe by a reader that says what it is told, and by real models on real pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import ocrslim
from ocrslim.config.profile import DetProfile
from ocrslim.end_to_end import evaluate_pages
from ocrslim.errors import DataError
from ocrslim.graph.importers.source import ModelSource
from ocrslim.reader import PageReading, Reader, TextLine

SQUARE = [[0, 0], [100, 0], [100, 20], [0, 20]]
LOWER = [[0, 50], [100, 50], [100, 70], [0, 70]]


class Session:
    """An InferenceSession that is never run."""

    engine = "onnxruntime"
    version = "9"
    input_name = "x"
    input_shape = (None, 3, None, None)
    threads = 1


class Told(Reader):
    """A reader that finds the same lines on every page."""

    def __init__(self, *lines: tuple[list[list[int]], str]) -> None:
        source = ModelSource(Path("fake.onnx"), "fake", "det", None, None, "0" * 64, None)
        self.detector = self.recognizer = type("Model", (), {"source": source, "session": Session()})()
        self.detector.profile, self.drop_score = DetProfile(), 0.5  # any dataclass will do for the protocol
        self.lines = tuple(TextLine(np.array(box, np.float32), text, 0.9, 0.9) for box, text in lines)

    def __call__(self, image: Any, channels: Any = "BGR") -> PageReading:
        return PageReading(self.lines, 120, 80)


@pytest.fixture
def labels(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a label file of one page for each list of (box, text)."""

    def write(*pages: list[tuple[list[list[int]], str]]) -> Path:
        lines = []
        for index, boxes in enumerate(pages):
            image = tmp_path / ("one", "two")[index % 2] / f"{index}.png"
            image.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(image), np.full((80, 120, 3), 255, np.uint8))
            told = [{"points": box, "transcription": text} for box, text in boxes]
            lines.append(f"{image.relative_to(tmp_path)}\t{json.dumps(told)}\n")
        path = tmp_path / "labels.txt"
        path.write_text("".join(lines), encoding="utf-8")
        return path

    return write


def test_figures_sets_and_protocol(labels: Callable[..., Path]) -> None:
    data = labels([(SQUARE, "Total"), (LOWER, "###")], [(SQUARE, "total"), (LOWER, "")], [(LOWER, "9")])
    result = evaluate_pages(Told((SQUARE, "Total")), data, loose=True)
    # One page right, one right but for its case, one with a box where nothing is.
    assert result.metrics["precision"] == pytest.approx(1 / 3)
    assert result.metrics["recall"] == pytest.approx(1 / 3)
    assert result.metrics["loose"]["hmean"] == pytest.approx(2 / 3)
    assert (result.task, result.engine, result.n, result.headline) == ("end-to-end", "onnxruntime", 3, "hmean")
    assert result.per_set["one"]["n"] == 2
    assert result.per_set["one"]["loose"]["recall"] == pytest.approx(1 / 2)
    assert result.per_set["two"]["recall"] == 0
    assert result.protocol["boxes_without_text_ignored"] == 1
    assert (result.protocol["iou_above"], result.protocol["drop_score"]) == (0.5, 0.5)
    json.dumps(result.to_json(), allow_nan=False)


def test_without_loose_there_are_no_loose_figures(labels: Callable[..., Path]) -> None:
    result = evaluate_pages(Told(), labels([(SQUARE, "x")]))
    assert set(result.metrics) == {"hmean", "precision", "recall"}
    assert "loose" not in result.protocol


def test_results_of_the_same_pages_have_an_interval(labels: Callable[..., Path]) -> None:
    data = labels(*[[(SQUARE, "x")]] * 4)
    good, bad = evaluate_pages(Told((SQUARE, "x")), data), evaluate_pages(Told((SQUARE, "y")), data)
    assert bad.drop_from(good, n=20).low == 1.0


def test_broken_pages_are_skipped_and_a_limit_is_kept(labels: Callable[..., Path], tmp_path: Path) -> None:
    data = labels(*[[(SQUARE, "x")]] * 4)
    (tmp_path / "two" / "1.png").write_bytes(b"")
    result = evaluate_pages(Told((SQUARE, "x")), data, limit=3)
    assert result.n == 2
    assert [item.reason for item in result.skipped] == [f"{tmp_path / 'two' / '1.png'}: the image is empty"]


def test_labels_without_texts_cannot_be_scored(labels: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="no box has a text to score by"):
        evaluate_pages(Told(), labels([(SQUARE, ""), (LOWER, "*")]))


def test_nothing_readable(labels: Callable[..., Path], tmp_path: Path) -> None:
    data = labels([(SQUARE, "x")])
    (tmp_path / "one" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 1 images can be read"):
        evaluate_pages(Told(), data)


@pytest.mark.slow
def test_real_pages_score_as_measured(zoo: Callable[[str], Path], real_data: Path) -> None:
    names = ("PP-OCRv6_tiny_det", "PP-OCRv6_tiny_rec")
    reader = ocrslim.load(*(zoo(name).parent for name in names), engine="onnxruntime", threads=1)
    result = evaluate_pages(reader, real_data / "det/labels/val_sroie.txt", loose=True, limit=5)
    assert result.metrics["hmean"] <= result.metrics["loose"]["hmean"]
    assert result.metrics["loose"]["hmean"] > 0.5
