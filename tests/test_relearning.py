"""What a pruned recogniser learns from: its whole model, and the labels of lines where there are enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

from ocrslim import pruned, relearning
from ocrslim.errors import ModelError
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.ocr.render import render_lines
from ocrslim.pruned import PruneSettings, prune_and_distil
from ocrslim.relearning import _speller
from ocrslim.slimming.training.data import open_training_data
from ocrslim.slimming.training.distillation import DistillationSettings

LINES = 12


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Rendered lines with their texts."""
    rows = []
    for index, (image, text) in enumerate(render_lines("abcdefgh0123456789", LINES, seed=0)):
        cv2.imwrite(str(tmp_path / f"{index}.png"), image)
        rows.append(f"{index}.png\t{text}")
    (tmp_path / "labels.txt").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "labels.txt"


def test_labels_teach_beside_the_whole_model(
    labels: Path, zoo: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruned, "MIN_BENCH_SECONDS", 0.1)
    monkeypatch.setattr("ocrslim.slimming.pruning.cost.SECONDS", 0.0)
    monkeypatch.setattr(relearning, "FEWEST", 1)
    monkeypatch.setattr(relearning, "JUDGE_EVERY", 1)
    settings = PruneSettings("openvino", tmp_path / "out", ratio=0.05, steps=2, threads=1, data=labels)
    history = prune_and_distil(zoo("PP-OCRv6_tiny_rec"), settings)["training"]["history"]
    assert [row["step"] for row in history] == [0, 1, 2]
    assert all(row["labels"] > 0 and row["distillation"] > 0 for row in history[1:])
    assert "float model does and to read as the labels say" in (tmp_path / "out" / "MODEL_CARD.md").read_text("utf-8")


def test_labels_teach_where_enough_can_be_spelled_and_they_have_weight(
    labels: Path, zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_model(zoo("PP-OCRv6_tiny_rec"))
    graph, images = canonicalize(load_onnx(source.path)), torch.zeros(1, 3, 48, 320)
    data, settings = open_training_data("rec", labels, None, (), 0), PruneSettings("openvino", Path("out"), ratio=0.1)
    foreign = replace(data, train_samples=[replace(sample, text="\u2603") for sample in data.train_samples])
    without = replace(settings, distillation=DistillationSettings(label_ratio=0.0))
    assert _speller(source, graph, data, images, settings) is None
    monkeypatch.setattr(relearning, "FEWEST", len(data.train))
    assert _speller(source, graph, data, images, settings) is not None
    assert _speller(source, graph, foreign, images, settings) is None
    assert _speller(source, graph, data, images, without) is None
    assert _speller(source, graph, replace(data, labelled=False), images, settings) is None
    longer = replace(source, characters=(*(source.characters or ()), "\u2603"))
    with pytest.raises(ModelError, match="is it another model's"):
        _speller(longer, graph, data, images, settings)
