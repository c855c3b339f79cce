"""The benchmark of calibrations, on a dozen rendered lines: a row for each way, and the models that it can't take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import calibration
import pytest

from ocrslim.slimming.quantization.prepare import Quantization, prepare

MODEL = "PP-OCRv6_tiny_rec"


@pytest.mark.parametrize(("target", "ways"), [("openvino", 6), ("tensorrt", 3)])
def test_each_way_has_a_row(
    tiny: Path,
    lines: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    ways: int,
) -> None:
    data = lines / "rec" / "labels" / "train.txt"
    assert tiny.exists()
    with_factors = []

    def watched(*given: Any, factors: Mapping[str, Any]) -> Quantization:
        with_factors.append(bool(factors))
        return prepare(*given, factors=factors)

    monkeypatch.setattr(calibration, "prepare", watched)
    assert calibration.main([MODEL, "--target", target, "--data", str(data), "--lines", "4"]) == 0
    printed = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in printed if line.startswith(f"| {MODEL}")]
    assert len(rows) == ways
    assert len({tuple(row[1:3]) for row in rows}) == ways
    assert with_factors == [row[2] == "of each channel" for row in rows]
    for row in rows:
        assert 0 <= int(row[3]) <= int(row[4]) == 4


def test_a_detector_is_refused_in_a_line(lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = lines / "rec" / "labels" / "train.txt"
    assert calibration.main(["PP-OCRv6_tiny_det", "--data", str(data)]) == 2
    assert "is a detector" in capsys.readouterr().err
