"""The probe, run as the program that it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ocrslim.engines.probe import main, random_batch
from ocrslim.engines.session import ENGINES

Maker = Callable[..., Path]


def test_the_batch_is_always_the_same() -> None:
    batch = random_batch((2, 3, 5, 7))
    assert batch.shape == (2, 3, 5, 7)
    assert batch.dtype == np.float32
    assert -1 <= batch.min() < -0.8
    assert 0.8 < batch.max() <= 1
    np.testing.assert_array_equal(batch, random_batch([2, 3, 5, 7]))


@pytest.mark.parametrize("engine", ENGINES)
def test_it_prints_one_json_object(engine: str, mixer: Maker) -> None:
    command = [
        sys.executable,
        "-m",
        "ocrslim.engines.probe",
        str(mixer()),
        engine,
        "1",
        "3",
        "8",
        "8",
        "--threads",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    figures = json.loads(done.stdout)
    assert list(figures) == ["peak_rss_mb"]
    assert figures["peak_rss_mb"] is None or 10 < figures["peak_rss_mb"] < 400


def test_it_fails_with_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(tmp_path / "no.onnx"), "openvino", "1", "3", "8", "8"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "no.onnx" in err
