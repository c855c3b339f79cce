"""Paddle Inference on the CPU: ``.pdmodel`` and, with Paddle 3, ``inference.json``.

``pip install 'ocrslim[paddle]'`` brings paddlepaddle 3 (measured: 3.3.1), which runs both kinds. paddlepaddle 2.6.2
runs ``.pdmodel`` too, but needs ``numpy<2``, which OpenCV 5 refuses. An environment of its own, made by hand, evaluates
and times, but renders no text::

    pip install paddlepaddle==2.6.2 'numpy<2' opencv-python-headless==4.11.0.86 onnx onnx-ir onnxruntime
    pip install lmdb platformdirs pyclipper pyyaml rich
    pip install --no-deps ocrslim
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrslim.engines.checks import check_batch, one_line, only
from ocrslim.errors import EngineError, InputError, ModelError

__all__ = ["MODES", "PaddleMode", "PaddleSession", "find_model"]

PROGRAMS = ("inference.pdmodel", "inference.json", "model.pdmodel", "__model__")
PARAMETERS = {".pdmodel": ".pdiparams", ".json": ".pdiparams"}
INT8_OPERATORS = {"conv2d", "depthwise_conv2d"}
KERNELS_KEPT = 4  # shapes for which oneDNN keeps its kernels, 165 MB each of a page; 0 would keep all
# Of 2.6.2: fuses the recognisers' attention for AVX-512, and ends the process with SIGILL on CPUs that have none.
UNSAFE_PASSES = ("self_attention_fuse_pass",)
NOISE = ("---", "C++ Traceback", "Error Message Summary", "[Hint", "[operator", "In user code", "Compile Traceback")


@dataclass(frozen=True)
class PaddleMode:
    """How Paddle Inference runs a model.

    Args:
        onednn: with oneDNN's kernels instead of Paddle's own.
        int8: with the passes of oneDNN's int8 mode; see :data:`MODES`.
    """

    onednn: bool
    int8: bool


MODES: dict[str, PaddleMode] = {
    "paddle": PaddleMode(onednn=True, int8=False),
    "paddle-plain": PaddleMode(onednn=False, int8=False),
    "paddle-int8": PaddleMode(onednn=True, int8=True),
}
"""Names of the engine -> how it runs.

Of a quantized model, ``paddle`` and ``paddle-plain`` compute the rounding to integers as it is written, in float:
exact, and slower than the float model. In ``paddle-int8`` Paddle's passes take the quantizing operators out, and run a
convolution on integers only where the program also tells the range of its output (observers), which ours does not: the
integer weights are dequantized once, and the model runs as fast as the float one. On a CPU without VNNI convolutions on
integers gained nothing, and lost accuracy. A new program (``.json``) always runs without oneDNN, with which 3.3.1 fails
on detectors.
"""


class PaddleSession:
    """An :class:`ocrslim.engines.session.InferenceSession` of Paddle Inference.

    Args:
        path: see :func:`find_model`.
        threads: that an operator may use.
        optimize: false turns the graph passes off.
        engine: one of :data:`MODES`.

    Raises:
        InputError: paddle is not installed.
        ModelError: there is no Paddle model at ``path``, or Paddle can't read it.
        EngineError: Paddle cannot run it.
    """

    def __init__(self, path: Path, threads: int, optimize: bool = True, engine: str = "paddle") -> None:
        paddle = _import_paddle()
        program, parameters = find_model(path)
        self.engine = engine
        self.version: str = paddle.__version__
        self.threads = threads
        self._path = program
        if program.suffix == ".json" and self.version.startswith("2."):  # it would crash
            raise EngineError(
                f"{program}: is of Paddle 3, paddle {self.version} runs .pdmodel only: pip install 'ocrslim[paddle]'"
            )
        config = _config(paddle.inference, program, parameters, threads, optimize, MODES[engine])
        try:
            with _quiet() if MODES[engine].int8 else nullcontext():
                self._predictor = paddle.inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"{program}: paddle {self.version} cannot run it: {one_line(error, NOISE)}") from error
        self.input_name = only(program, self._predictor.get_input_names(), "input")
        self._output = only(program, self._predictor.get_output_names(), "output")
        self.input_shape = _input_shape(paddle, program, self.input_name)

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch; see :meth:`ocrslim.engines.session.InferenceSession.run`.

        Raises:
            TypeError: ``x`` is not float32.
            EngineError: its shape is not what the model takes, or the engine failed.
        """
        check_batch(self._path, self.input_shape, x)
        try:
            handle = self._predictor.get_input_handle(self.input_name)
            handle.reshape(x.shape)
            handle.copy_from_cpu(np.ascontiguousarray(x))
            self._predictor.run()
            output: Any = self._predictor.get_output_handle(self._output).copy_to_cpu()
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(f"{self._path}: paddle {self.version} failed: {one_line(error, NOISE)}") from error
        assert isinstance(output, np.ndarray)
        return output


def find_model(path: Path) -> tuple[Path, Path]:
    """Return the program and the parameters that a path means.

    Args:
        path: a ``.pdmodel``, ``.json`` or ``__model__`` file; a folder that holds one; or a file of another kind with
            one beside it, such as the ``model.onnx`` of a result.

    Raises:
        ModelError: there is none, or its parameters are missing.
    """
    if path.suffix in PARAMETERS or path.name == "__model__":
        program = path
    else:
        folder = path if path.is_dir() else path.parent
        found = [folder / name for name in PROGRAMS if (folder / name).is_file()]
        if not found:
            raise ModelError(
                f"{folder}: holds no Paddle model (inference.pdmodel), which the engine paddle runs; give one, or write"
                f" it with `ocrslim export {folder} --to paddle`"
            )
        program = found[0]
    parameters = program.with_name("__params__") if program.name == "__model__" else program.with_suffix(".pdiparams")
    for file in (program, parameters):
        if not file.is_file():
            raise ModelError(f"{file}: there is no such file; a Paddle model is two files, {program.name} beside it")
    return program, parameters


def _import_paddle() -> Any:
    """Import paddle, quietly.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")  # its passes report on stderr, a screen for each model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about compilers, which nothing here needs
            import paddle
            import paddle.inference
    except ImportError as error:
        raise InputError(
            f"the engine paddle is not installed ({one_line(error)}): pip install 'ocrslim[paddle]'"
        ) from error
    logging.getLogger("paddle").setLevel(logging.ERROR)
    return paddle


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the int8 passes write past Python: a list of operators on stderr, even when told to be silent."""
    sys.stderr.flush()
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _input_shape(paddle: Any, program: Path, name: str) -> tuple[int | None, ...]:
    """Read the declared shape of the input, which a predictor does not tell."""
    if program.suffix == ".json":
        blocks = json.loads(program.read_text(encoding="utf-8"))["program"]["regions"][0]["blocks"]
        fed = next(op for op in blocks[0]["ops"] if op["#"].endswith((".data", ".feed")))
        shape = fed["O"][0]["TT"]["D"][1]
    else:
        desc = paddle.base.core.ProgramDesc(program.read_bytes())  # a block lives only as long as its program
        shape = desc.block(0).find_var(name.encode()).shape()
    return tuple(size if size > 0 else None for size in shape)


def _config(inference: Any, program: Path, parameters: Path, threads: int, optimize: bool, mode: PaddleMode) -> Any:
    config = inference.Config(str(program), str(parameters))
    config.disable_gpu()
    config.disable_glog_info()
    new = program.suffix == ".json"
    if not new:  # of a new program, 3.3.1 looks for this pass among an older predictor's, and fails
        config.enable_memory_optim()
    config.set_cpu_math_library_num_threads(threads)
    config.switch_ir_optim(optimize)
    for unsafe in UNSAFE_PASSES:
        config.delete_pass(unsafe)
    if mode.onednn and not new:
        config.enable_mkldnn()
        config.set_mkldnn_cache_capacity(KERNELS_KEPT)
        if mode.int8:
            config.enable_mkldnn_int8(INT8_OPERATORS)
    elif hasattr(config, "disable_mkldnn"):  # on unless told otherwise since 3.1
        config.disable_mkldnn()
    return config
