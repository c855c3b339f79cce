"""Against Paddle itself, in environments of its own: ``OCRSLIM_PADDLE_PYTHON`` names their Pythons, ``:`` between.

Any of 2.6.2 (classic programs), 3.0.0, 3.2.2 and 3.3.1 (PIR of the versions 1, 3 and 4) will do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.files import find
from ocrslim.graph.importers.paddle.importer import read_network

pytestmark = pytest.mark.slow

VARIABLE = "OCRSLIM_PADDLE_PYTHON"
PYTHONS = [python for python in os.environ.get(VARIABLE, "").split(":") if python] or [""]
SCRIPT = Path(__file__).with_name("export_with_paddle.py")
SECONDS = 300
SHAPES = {"det": (2, 3, 96, 160), "rec": (2, 3, 48, 200)}


def paddle_in(python: str) -> str:
    """Return the version of paddle that a Python has; skip the test where there is none."""
    if not python or shutil.which(python) is None:
        pytest.skip(f"{VARIABLE} names no Python that has paddle: python -m venv P; P/bin/pip install paddlepaddle")
    asked = [python, "-c", "import paddle; print('version', paddle.__version__)"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout.rpartition("version ")[2].strip()


def export(python: str, *arguments: str | Path) -> None:
    command = [python, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def convert(folder: Path) -> Any:
    files = find(folder)
    assert files is not None
    return to_onnx(read_network(files))


@pytest.mark.parametrize("python", PYTHONS)
def test_layers_compute_what_paddle_computes(python: str, run_onnx: Callable[..., Any], tmp_path: Path) -> None:
    version = paddle_in(python)
    export(python, "layers", tmp_path)
    for name in ("crnn", "mixture"):
        files = find(tmp_path / name)
        assert files is not None
        assert files.is_pir == (not version.startswith("2."))
        with np.load(tmp_path / name / "io.npz") as io:
            found = run_onnx(convert(tmp_path / name), {"x": io["x"]})[0]
            np.testing.assert_allclose(found, io["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec"])
def test_real_models_are_the_same_in_pir(
    python: str,
    name: str,
    paddle_zoo: Callable[[str], Path],
    images: Callable[..., Any],
    run_onnx: Callable[..., Any],
    tmp_path: Path,
) -> None:
    version = paddle_in(python)
    if version.startswith("2."):
        pytest.skip(f"paddle {version} has no PIR")
    export(python, "pir", paddle_zoo(name), tmp_path)
    text = (tmp_path / "inference.json").read_text()
    assert json.loads(text)["base_code"]["version"] == {"3.0": 1, "3.2": 3, "3.3": 4}[version[:3]]
    feed = {"x": images(name, SHAPES[name[-3:]])}
    classic = run_onnx(convert(paddle_zoo(name)), feed)[0]
    # Both kinds of input are read: the one of the translation, and the one of a native export.
    for spelt in (text, text.replace('"1.feed"', '"1.data"')):
        (tmp_path / "inference.json").write_text(spelt)
        np.testing.assert_allclose(run_onnx(convert(tmp_path), feed)[0], classic, rtol=0, atol=2e-6)
