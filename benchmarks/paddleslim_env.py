"""PaddleSlim's own environment: made once from pinned packages, and a model of it run there as one of our sessions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from wire import read_array, write_array

from ocrslim.errors import EngineError, InputError
from ocrslim.report.result import write_json

__all__ = ["DRIVER", "PaddleServer", "make_environment", "thread_variables"]

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements-paddleslim.txt"
DRIVER = HERE / "paddleslim_driver.py"
PYTHONS = ("3.11", "3.12")  # that paddlepaddle 2.6.2 and all the pinned packages have wheels for
CHECK = "import paddle; print(paddle.__version__)"
INSTALL_SECONDS = 1800
CHECK_SECONDS = 300
SAID = 200  # characters of pip's message that are worth repeating


def make_environment(folder: Path, python: str | None = None) -> Path:
    """Return the Python of PaddleSlim's environment, made unless it is there with the same packages.

    Args:
        folder: for the environment; made if missing.
        python: the interpreter to make it with; ``None`` looks for one of :data:`PYTHONS`.

    Raises:
        InputError: there is no such interpreter, or pip can't install the packages.
    """
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    made = folder / "made.json"
    try:
        if json.loads(made.read_text(encoding="utf-8"))["requirements"] == wanted and inside.is_file():
            return inside
    except (OSError, ValueError, KeyError):
        pass  # not made yet, or not to its end
    outside = find_python(python)
    shutil.rmtree(folder, ignore_errors=True)
    _run([outside, "-m", "venv", str(folder)], "make an environment")
    pip = [str(inside), "-m", "pip", "install", "--no-input", "--quiet", "--only-binary", ":all:"]
    _run([*pip, "--requirement", str(REQUIREMENTS)], "install the packages")
    version = _run([str(inside), "-c", CHECK], "import paddle", CHECK_SECONDS).strip().splitlines()[-1]
    write_json(made, {"requirements": wanted, "paddlepaddle": version})
    return inside


def find_python(named: str | None, search: Sequence[str] = PYTHONS) -> str:
    """Return an interpreter that PaddleSlim's packages have wheels for.

    Args:
        named: the only one to look at; ``None`` tries this one, then ``python3.11`` and so on from the path.
        search: versions that will do.

    Raises:
        InputError: there is none.
    """
    candidates = [named] if named else [sys.executable, *(f"python{version}" for version in search)]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is not None and _version(path) in search:
            return path
    what = f"{named} is none" if named else "there is none on the path"
    raise InputError(
        f"PaddleSlim 2.6.0 needs a Python {' or '.join(search)} to make its environment with, and {what}: install one"
        " and name it with --paddleslim-python"
    )


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment variables that give both sides so many threads, whichever library computes."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "FLAGS_paddle_num_threads")
    return {"GLOG_minloglevel": "2", **dict.fromkeys(names, str(threads))}


class PaddleServer:
    """A model in the other environment's Paddle Inference, as an :class:`ocrslim.engines.session.InferenceSession`.

    Args:
        python: of the environment.
        model: folder with ``inference.pdmodel`` and ``inference.pdiparams``.
        threads: of the engine.
        log: what the other side says goes there.

    Raises:
        EngineError: it ended before its time.
    """

    engine = "paddle"
    version = "2.6.2"
    input_name = "x"
    input_shape: tuple[int | None, ...] = (None, 3, None, None)

    def __init__(self, python: Path, model: Path, threads: int, log: Path) -> None:
        self.threads = threads
        self._model = model
        self._log = log
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                [str(python), str(DRIVER), "serve", str(model), str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**os.environ, **thread_variables(threads)},
            )

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch; see :meth:`ocrslim.engines.session.InferenceSession.run`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            write_array(self._process.stdin, x)
            output: Any = read_array(self._process.stdout)
        except (OSError, EOFError):
            output = None
        if output is None:
            raise EngineError(f"{self._model}: Paddle Inference ended with it; {self._log} says why")
        assert isinstance(output, np.ndarray)
        return output

    def close(self) -> None:
        """End the other process; safe to call twice."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):  # it was gone already
                    stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> PaddleServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _version(python: str) -> str:
    """Return an interpreter's version as ``3.11``; "" of what is no Python."""
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _run(command: Sequence[str], what: str, seconds: float = INSTALL_SECONDS) -> str:
    """Run a command and return what it wrote.

    Raises:
        InputError: it failed; in one line.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"PaddleSlim's environment: can't {what}: {error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        told = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise InputError(f"PaddleSlim's environment: can't {what} ({told[:SAID]})")
    return done.stdout
