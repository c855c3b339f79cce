"""The benchmark of the engines' options, in the engines themselves on a small model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import session_options


def test_a_slower_choice_is_above_one() -> None:
    def quick(batch: np.ndarray) -> None:
        time.sleep(0.02)

    def slow(batch: np.ndarray) -> None:
        time.sleep(0.06)

    batch = np.zeros(1, np.float32)
    assert 2.0 < session_options.ratio(quick, slow, batch, 5) < 4.0
    assert session_options.ratio(slow, quick, batch, 5) < 0.5


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_choice_is_one_that_the_engine_takes(engine: str, zoo: Callable[[str], Path]) -> None:
    zoo("PP-OCRv6_tiny_rec")
    rows = session_options.measure("PP-OCRv6_tiny_rec", engine, 1, 1)
    assert len(rows) == len(session_options.OTHERS[engine]) + 1
    assert rows[-1]["changed"] == session_options.CONSTANT
    assert all(float(row["of our time"]) > 0 for row in rows)
    assert np.float32(1e-40) * np.float32(1) > 0, "an option changed the arithmetic of this process"


def test_an_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert session_options.main(["nowhere.onnx"]) == 2
    assert capsys.readouterr().err.startswith("session_options.py: nowhere.onnx")
