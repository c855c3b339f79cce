"""Speed: real files timed in turns, the cells' figures, and what is no run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import speed

MODEL = "PP-OCRv6_tiny_rec"


def _run(folder: Path, model: Path) -> Path:
    """Write what speed.py reads of a run; the int8 file is the float one."""
    folder.mkdir()
    shutil.copyfile(model, folder / "model.onnx")
    drop = {"metric": "accuracy", "points": -0.5, "low": -1.0, "high": 0.25}
    metrics = {label: {"openvino": {"accuracy": 0.5}} for label in ("float", "int8")}
    result = {
        "model": {"name": MODEL, "path": str(model), "task": "rec"},
        **{"target": "openvino", "engine": "openvino", "metrics": metrics, "drop": {"openvino": drop}},
        **{"latency": [{"label": "int8", "engine": "openvino", "ratio_on_engine": 1.0}]},
        **{"size": {"ratio": 0.5}, "stages": [], "settings": {"reference": None}},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def test_a_run_is_timed_at_each_batch(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _run(tmp_path / "run", tiny)
    speed.main([str(folder), "--batches", "1", "2", "--seconds", "0.1", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [heading.strip() for heading in lines[0].strip("| ").split("|")] == list(speed.HEADINGS)
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:4]]
    assert [row[:4] for row in rows] == [[MODEL, "openvino", "+0.50", "1"], [MODEL, "openvino", "+0.50", "2"]]
    times = [float(row[5]) for row in rows]
    assert times[1] > 1.2 * times[0]  # twice the work
    assert 0.5 < float(rows[0][7].strip("~")) < 2.0  # the same file against itself
    assert "1 threads" in lines[-1]


def test_a_pruned_model_is_held_against_the_one_that_came_in(tiny: Path, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", tiny)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result["model"]["path"], result["settings"]["reference"] = str(tmp_path / "pruned.onnx"), str(tiny)
    found = speed.measure(folder, result, 1, 1, 0.1)  # the other file is not there
    assert 0.5 < found.against_own < 2.0


def test_what_is_slower_or_worse_than_asked_is_told() -> None:
    def row(ratio: float, own: float) -> Any:
        return SimpleNamespace(ratio=ratio, ratio_on_engine=own)

    def found(model: str, engine: str, points: float, ratio: float, own: float) -> speed.Speed:
        return speed.Speed(model, engine, points, 1, row(1.0, 1.0), row(1.0, 1.0), row(ratio, own))

    fast = found("PP-OCRv4_mobile_det", "openvino", 0.1, 0.4, 0.5)
    slow = found("PP-OCRv4_mobile_det", "onnxruntime", -0.6, 0.65, 1.25)
    assert speed.misses([fast]) == []
    assert speed.misses([fast, slow]) == [
        "PP-OCRv4_mobile_det on onnxruntime, batch 1: 0.80 times as fast as float there",
        "PP-OCRv4_mobile_det on onnxruntime, batch 1: 0.60 points lost, 0.5 allowed",
    ]
    assert speed.misses([found("PP-OCRv4_mobile_det", "onnxruntime", 0.0, 0.65, 0.65)]) == [
        "PP-OCRv4_mobile_det, batch 1: 1.54 times float in onnxruntime, 2.0 asked"
    ]


def test_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert str(tmp_path / "result.json") in said
