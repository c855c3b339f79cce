"""Pruning: what is shown of a result, which engines are asked, mistakes. Pruning itself is tested in test_pruned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import prune
import pytest

MODEL = "PP-OCRv6_tiny_rec"


def _result(path: Path) -> dict[str, Any]:
    row = {
        **{"label": "pruned", "engine": "openvino", "ratio_on_engine": 0.8, "other_load": 0.0, "threads": 2},
        **{"cpu": "EPYC", "flags": ["avx2"], "versions": {"openvino": "2026.4"}},
    }
    return {
        "model": {"name": MODEL, "path": str(path), "sha256": "0" * 64},
        "engine": "openvino",
        "pruning": {"ratio": 0.7512, "untrained": {"points": 24.0}},
        "drop": {"openvino": {"points": 0.5, "low": -0.25, "high": 1.0}},
        "metrics": {
            "float": {"openvino": {"accuracy": 0.5, "loose": {"accuracy": 0.75}}},
            "pruned": {"openvino": {"accuracy": 0.49, "loose": {"accuracy": 0.74}}},
        },
        "stages": [{"name": "train", "seconds": 600.0}, {"name": "bench", "seconds": 9.0}],
        "latency": [row],
    }


def test_the_cells_say_gains_with_plus(tmp_path: Path) -> None:
    assert prune.cells(_result(tmp_path)) == dict(
        zip(
            prune.HEADINGS,
            (MODEL, "openvino", "0.75", "-24.00", "-0.50 (-1.00 to +0.25)", "-1.00", "1.25", "10.0"),
            strict=True,
        )
    )


def test_a_result_that_is_there_is_loaded_in_the_other_engine(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"{MODEL}-openvino-1.3"
    folder.mkdir()
    for file in tiny.parent.iterdir():
        shutil.copyfile(file, folder / ("model.onnx" if file.suffix == ".onnx" else file.name))
    (folder / "result.json").write_text(json.dumps(_result(tiny)), encoding="utf-8")
    assert prune.main(["--data", str(tmp_path), "--out", str(tmp_path), "--models", MODEL]) == 1
    said = capsys.readouterr().out
    assert "| openvino 1.0000 |" in said
    assert f"missed: {MODEL}: 1.25 times as fast, 1.3 asked" in said


def test_what_was_missed_is_told(tmp_path: Path) -> None:
    result = _result(tmp_path)
    assert prune.misses(result, {"openvino": 1.0}, 1.25) == []
    result["drop"]["openvino"]["points"] = 1.2
    result["stages"][0]["seconds"] = 1900.0
    assert prune.misses(result, {"paddle": 0.5}, 1.5) == [
        "paddle answers otherwise, 0.5000",
        "1.20 points lost, at most 1.0 asked",
        "32 minutes of training, at most 30 asked",
        "1.25 times as fast, 1.5 asked",
    ]


def test_missing_labels_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], zoo: object) -> None:
    assert prune.main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--models", MODEL]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "val.txt" in said[0]
