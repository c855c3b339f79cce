"""Paddle Lite: turn a Paddle model into the ``.nb`` file that phones load, and run it where that can be done.

Paddle Lite's Python package exists for CPython 3.8 at most, so its tools live in an environment of their own, which the
variable OCRSLIM_PADDLE_LITE names. Version 2.13rc0 is the one to have: 2.12 fails on quantized models for x86, 2.10
computes wrong results.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocrslim.atomic import replacing
from ocrslim.engines.checks import check_batch
from ocrslim.errors import EngineError, InputError

__all__ = ["ENVIRONMENT", "VALID_TARGETS", "PaddleLiteSession", "export_paddle_lite", "find_paddle_lite"]

ENVIRONMENT = "OCRSLIM_PADDLE_LITE"
VALID_TARGETS = ("arm", "x86")
VERSION = "2.13"
HOW = (
    f"make an environment of CPython 3.8, `python3.8 -m venv lite && lite/bin/pip install paddlelite==2.13rc0`, and set"
    f" {ENVIRONMENT} to its folder"
)
SECONDS = 300  # that a conversion or a run may take; some ten are usual

# What that Python runs. It has no numpy, so numbers travel as raw float32 in files.
_VERSION = "import paddlelite.lite as lite; print(lite.Opt().version())"
_CONVERT = """
import sys
import paddlelite.lite as lite
program, parameters, out, target = sys.argv[1:]
opt = lite.Opt()
opt.set_model_file(program)
opt.set_param_file(parameters)
opt.set_optimize_out(out)
opt.set_valid_places(target)
opt.set_model_type("naive_buffer")
opt.run()
"""
_RUN = """
import array, sys
import paddlelite.lite as lite
model, source, out = sys.argv[1:4]
config = lite.MobileConfig()
config.set_model_from_file(model)
predictor = lite.create_paddle_predictor(config)
values = array.array("f")
with open(source, "rb") as file:
    values.frombytes(file.read())
tensor = predictor.get_input(0)
tensor.resize([int(size) for size in sys.argv[4:]])
tensor.set_float_data(values.tolist())
predictor.run()
result = predictor.get_output(0)
with open(out, "wb") as file:
    file.write(array.array("f", result.float_data()).tobytes())
print("shape", *result.shape())
"""


def find_paddle_lite() -> Path:
    """Return the Python interpreter that has Paddle Lite: OCRSLIM_PADDLE_LITE, or the one that runs this.

    Raises:
        InputError: there is none, or it is of another version than 2.13; the text says how to get one.
    """
    named = os.environ.get(ENVIRONMENT)
    python = _python(Path(named)) if named else Path(sys.executable)
    try:
        done = subprocess.run(
            [str(python), "-c", _VERSION], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except OSError as error:
        raise InputError(f"{ENVIRONMENT}={named}: {python} can't be run ({error.strerror}); {HOW}") from error
    if done.returncode:
        where = f"{ENVIRONMENT}={named} has no Paddle Lite" if named else "Paddle Lite is not installed here"
        raise InputError(f"{where}; {HOW}")
    version = (done.stdout.split() or [""])[-1].lstrip("v")
    if not version.startswith(VERSION):
        raise InputError(f"{python}: has Paddle Lite {version}, which converts these models wrongly; {HOW}")
    return python


def _python(path: Path) -> Path:
    """Return the interpreter of an environment's folder, or the path itself."""
    if not path.is_dir():
        return path
    names = (path / "bin" / "python", path / "Scripts" / "python.exe", path / "python")
    return next((name for name in names if name.is_file()), names[0])


def export_paddle_lite(program: Path, parameters: Path, path: Path, valid_target: str = "arm") -> Path:
    """Convert a Paddle model into a ``.nb`` file.

    Args:
        program: ``.pdmodel``, float or quantized.
        parameters: its ``.pdiparams``.
        path: of the ``.nb`` file.
        valid_target: the processor that will run it, one of :data:`VALID_TARGETS`.

    Returns:
        Path: ``path``.

    Raises:
        InputError: there is no Paddle Lite, or no such target.
        EngineError: it cannot convert the model.
    """
    if valid_target not in VALID_TARGETS:
        raise InputError(f"--valid-targets {valid_target}: take one of {', '.join(VALID_TARGETS)}")
    python = find_paddle_lite()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".lite") as folder:
        out = Path(folder) / "model"
        _run(python, _CONVERT, [str(program), str(parameters), str(out), valid_target], program)
        made = out.with_name("model.nb")
        if not made.is_file():
            raise EngineError(f"{program}: Paddle Lite wrote no file for {valid_target}; is it a Paddle 2 program?")
        with replacing(path) as partial:
            os.replace(made, partial)
    return path


class PaddleLiteSession:
    """An :class:`ocrslim.engines.session.InferenceSession` of a ``.nb`` file for x86, in Paddle Lite's own process.

    For comparing results, not for timing: each run starts a process.

    Args:
        path: the ``.nb`` file.
        input_shape: that the model takes, ``None`` where any size will do; the file does not tell.

    Raises:
        InputError: there is no Paddle Lite.
    """

    engine = "paddle-lite"
    version = VERSION
    input_name = "x"
    threads = 1

    def __init__(self, path: Path, input_shape: tuple[int | None, ...] = (None, 3, None, None)) -> None:
        self._path = path
        self._python = find_paddle_lite()
        self.input_shape = input_shape

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch; see :meth:`ocrslim.engines.session.InferenceSession.run`.

        Raises:
            TypeError: ``x`` is not float32.
            EngineError: its shape is not what the model takes, or Paddle Lite failed.
        """
        check_batch(self._path, self.input_shape, x)
        with tempfile.TemporaryDirectory(prefix="ocrslim-lite") as folder:
            source, out = Path(folder) / "x", Path(folder) / "y"
            source.write_bytes(np.ascontiguousarray(x).tobytes())
            said = _run(
                self._python, _RUN, [str(self._path), str(source), str(out), *map(str, x.shape)], self._path, out
            )
            shape = [int(size) for line in said.splitlines() if line.startswith("shape ") for size in line.split()[1:]]
            return np.fromfile(out, np.float32).reshape(shape)


def _run(python: Path, code: str, arguments: Sequence[str], model: Path, made: Path | None = None) -> str:
    """Run code in Paddle Lite's interpreter and return what it printed.

    Raises:
        EngineError: it failed, crashed, took too long or did not make the file.
    """
    try:
        done = subprocess.run(
            [str(python), "-c", code, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{model}: Paddle Lite took more than {SECONDS} seconds") from error
    if done.returncode or (made is not None and not made.is_file()):
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise EngineError(
            f"{model}: Paddle Lite cannot do it: {said[-1] if said else f'it ended with code {done.returncode}'}"
        )
    return done.stdout
