"""The exported real models in Paddle Inference itself (2.6.2 and 3.3.1 were run), beside their ONNX twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrslim.engines.session import PADDLE_ENGINES, open_session
from ocrslim.export.paddle import export_paddle
from ocrslim.export.verify import verify_det, verify_rec

Array = np.ndarray[Any, np.dtype[Any]]

# The detector subtracts means of hundreds (its batch_norm_0): single precision loses four digits there, in any order.
NEAR = 1e-3

both = pytest.mark.parametrize("task", ["det", "rec"])


@pytest.fixture(autouse=True)
def paddle() -> Any:
    return pytest.importorskip("paddle", reason="pip install 'ocrslim[paddle]'")


@both
def test_the_original_is_what_the_importer_reads(
    task: str, twin: Callable[[str], Any], run: Callable[..., list[Array]]
) -> None:
    model = twin(task)
    theirs = open_session(model.files.program, "paddle-plain", 1).run(model.x)
    assert np.abs(theirs - run(model.canonical, model.x)[0]).max() < NEAR


@both
@pytest.mark.parametrize("engine", PADDLE_ENGINES)
def test_the_float_model_computes_the_same(
    engine: str, task: str, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    model = twin(task)
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path, quantized=False)
    export_paddle(model.canonical, model.files.program, model.files.parameters, tmp_path, quantized=False)
    session = open_session(tmp_path / "model.onnx", engine, 1)  # what lies beside it
    assert np.abs(session.run(model.x) - run(model.canonical, model.x)[0]).max() < NEAR


@both
@pytest.mark.parametrize("engine", ["paddle", "paddle-plain"])
def test_the_quantized_model_decides_the_same(
    engine: str, task: str, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    model = twin(task)
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    verify = verify_rec if task == "rec" else verify_det
    session = open_session(tmp_path, engine, 1)
    found = verify(lambda x: run(model.quantized, x)[0], session, [model.x], 0.98 if task == "rec" else 0.97)
    assert found.n > 0
    assert found.passed, found
    # And it does round: the float model's answers are others.
    assert np.abs(session.run(model.x) - run(model.canonical, model.x)[0]).max() > 1e-4


@both
def test_a_quantized_model_is_rounded_as_the_table_says(
    task: str, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    # Values, not decisions: an integer that differs by one step moves them, so most of them must be equal.
    model = twin(task)
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    theirs = open_session(tmp_path, "paddle-plain", 1).run(model.x)
    ours = run(model.quantized, model.x)[0]
    floats = run(model.canonical, model.x)[0]
    assert np.abs(theirs - ours).mean() < 0.5 * np.abs(floats - ours).mean() + 1e-6
