"""What a pruned recogniser learns from: its whole model, and the labels of lines where there are enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from ocrslim import pruned, relearning
from ocrslim.ocr.render import render_lines
from ocrslim.pruned import PruneSettings, prune_and_distil
from ocrslim.relearning import learns_from_lines
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


def test_labels_teach_where_there_are_enough_and_they_have_weight(
    labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, settings = open_training_data("rec", labels, None, (), 0), PruneSettings("openvino", Path("out"), ratio=0.1)
    assert not learns_from_lines(data, settings)
    monkeypatch.setattr(relearning, "FEWEST", len(data.train))
    assert learns_from_lines(data, settings)
    assert not learns_from_lines(data, replace(settings, distillation=DistillationSettings(label_ratio=0.0)))
    assert not learns_from_lines(replace(data, labelled=False), settings)
