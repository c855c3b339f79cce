"""What every engine looks like from outside: one float image batch in, one float array out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ocrslim.errors import InputError, ModelError

__all__ = ["ENGINES", "PADDLE_ENGINES", "InferenceSession", "open_session"]

ENGINES: tuple[str, ...] = ("onnxruntime", "openvino")
"""Engines that run ONNX files; the base install brings them."""

PADDLE_ENGINES: tuple[str, ...] = ("paddle", "paddle-int8", "paddle-plain")
"""Paddle Inference in its modes, see :data:`ocrslim.engines.paddle.MODES`; the extra ``[paddle]`` brings it."""


class InferenceSession(Protocol):
    """A model that is loaded in an engine.

    Attributes:
        engine: one of :data:`ENGINES` or :data:`PADDLE_ENGINES`.
        version: of the engine's package.
        input_name: the graph's only input.
        input_shape: its dimensions; ``None`` where any size will do.
        threads: that a run uses.
    """

    engine: str
    version: str
    input_name: str
    input_shape: tuple[int | None, ...]
    threads: int

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch.

        Args:
            x: float32 ``[N, C, H, W]``; a session takes any sizes that its ``input_shape`` leaves open, in any order.

        Returns:
            ndarray: the graph's only output, the caller's own copy: ``[N, T, classes]`` of a recogniser,
            ``[N, 1, H, W]`` of a detector.

        Raises:
            TypeError: ``x`` is not float32.
            EngineError: the engine failed.
        """
        ...


def open_session(path: Path, engine: str, threads: int = 2, optimize: bool = True) -> InferenceSession:
    """Load a model file in an engine, on the CPU.

    Args:
        path: the model file, ONNX; for Paddle's engines see :func:`ocrslim.engines.paddle.find_model`.
        engine: one of :data:`ENGINES` or :data:`PADDLE_ENGINES`.
        threads: that a run may use, at least 1.
        optimize: false runs the graph as it is written, operator by operator; openvino cannot.

    Raises:
        InputError: there is no such engine, it is not installed, or ``threads`` is below 1.
        ModelError: the file is missing or broken, or has more than one input or output.
        EngineError: the file is sound, but the engine cannot run it.
        ValueError: ``optimize`` is false for an engine that always optimises.
    """
    if engine not in (*ENGINES, *PADDLE_ENGINES):
        names = ", ".join((*ENGINES, *PADDLE_ENGINES))
        raise InputError(f"engine {engine}: there is none of that name; take one of {names}")
    if threads < 1:
        raise InputError(f"threads {threads}: at least 1 is needed")
    if engine in PADDLE_ENGINES:
        from ocrslim.engines.paddle import PaddleSession

        return PaddleSession(path, threads, optimize, engine)
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file; name an ONNX model")
    # An engine is a second of imports: only the one that is asked for is paid for, and probe.py weighs it alone.
    if engine == "onnxruntime":
        from ocrslim.engines.onnxruntime import OnnxRuntimeSession

        return OnnxRuntimeSession(path, threads, optimize)
    if not optimize:
        raise ValueError("optimize=False: openvino always optimises; use onnxruntime")
    from ocrslim.engines.openvino import OpenVinoSession

    return OpenVinoSession(path, threads)
