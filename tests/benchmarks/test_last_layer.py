"""The benchmark of last layers, on a dozen rendered lines of two sets: a row for all, and one for each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import last_layer
import pytest

from ocrslim import teaching
from ocrslim.slimming.training.last_layer import LastLayer, Line, fit_last_layer

MODEL = "PP-OCRv6_tiny_rec"


def test_each_set_has_a_row_and_is_left_out_once(
    tiny: Path, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny.exists()
    monkeypatch.setattr(teaching, "OTHER_TEXT", 4)
    labels = []
    for part in ("train", "val"):
        for line in (lines / "rec" / "labels" / f"{part}.txt").read_text(encoding="utf-8").splitlines():
            name, text = line.split("\t")
            folder = tmp_path / ("odd" if len(labels) % 2 else "even")
            folder.mkdir(exist_ok=True)
            shutil.copy(lines / "rec" / "labels" / name, folder / Path(name).name)
            labels.append(f"{folder.name}/{Path(name).name}\t{text}")
    (tmp_path / "all.txt").write_text("\n".join(labels), encoding="utf-8")
    taught = []

    def watched(layer: LastLayer, given: list[Line], *rest: Any) -> LastLayer:
        taught.append(len(given))
        return fit_last_layer(layer, given, *rest)

    monkeypatch.setattr(last_layer, "fit_last_layer", watched)
    path = str(tmp_path / "all.txt")
    assert last_layer.main([MODEL, "--data", path, "--eval", path]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith(f"| {MODEL}")]
    assert [row[1] for row in rows] == ["all", "even", "odd"]
    assert int(rows[0][2]) == int(rows[1][2]) + int(rows[2][2]) == 10 + 24
    assert len(taught) == 3
    assert taught[0] == taught[1] + taught[2] <= 14
    assert rows[0][5:] == ["", ""]
    assert all(-100 <= float(cell) <= 100 for row in rows[1:] for cell in row[3:])


def test_a_detector_is_refused_in_a_line(lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines / "rec" / "labels" / "train.txt"
    assert last_layer.main(["PP-OCRv6_tiny_det", "--data", str(data)]) == 2
    assert "is a detector" in capsys.readouterr().err
