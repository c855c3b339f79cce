"""ONNX Runtime on the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from ocrslim.engines.checks import check_batch, one_line, only
from ocrslim.engines.options import Options, session_options
from ocrslim.errors import EngineError, ModelError

__all__ = ["OnnxRuntimeSession", "as_session_options"]

BROKEN = (ort.InvalidProtobuf, ort.InvalidGraph, ort.InvalidArgument, ort.NoModel, ort.NoSuchFile)
FAILED = (ort.Fail, ort.NotImplemented, ort.RuntimeException, ort.EPFail, RuntimeError)
ENUMERATIONS = {
    "graph_optimization_level": onnxruntime.GraphOptimizationLevel,
    "execution_mode": onnxruntime.ExecutionMode,
}
FATAL_ONLY = 4  # log level: what matters is raised, and said once
# "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from PATH failed:Protobuf parsing failed."
PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?")


def as_session_options(options: Options) -> onnxruntime.SessionOptions:
    """Return ONNX Runtime's own object of options.

    Args:
        options: see :func:`ocrslim.engines.options.session_options`.
    """
    result = onnxruntime.SessionOptions()
    result.log_severity_level = FATAL_ONLY
    for name, value in options.items():
        if "." in name:
            result.add_session_config_entry(name, str(value))
        else:
            setattr(result, name, getattr(ENUMERATIONS[name], str(value)) if name in ENUMERATIONS else value)
    return result


class OnnxRuntimeSession:
    """An :class:`ocrslim.engines.session.InferenceSession` of ONNX Runtime's CPU provider.

    Args:
        path: the ONNX file.
        threads: that an operator may use; operators run one after another.
        optimize: false turns every graph optimisation off.

    Raises:
        ModelError: the file is not a sound ONNX model with one input and one output.
        EngineError: ONNX Runtime cannot run it.
    """

    engine = "onnxruntime"
    version: str = onnxruntime.__version__

    def __init__(self, path: Path, threads: int, optimize: bool = True) -> None:
        given = session_options(self.engine, threads)
        options = as_session_options(given if optimize else {**given, "graph_optimization_level": "ORT_DISABLE_ALL"})
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except BROKEN as error:
            raise ModelError(
                f"{path}: is no ONNX model that onnxruntime can read: {_said(error)}; fetch or export it again"
            ) from error
        except FAILED as error:
            raise EngineError(f"{path}: onnxruntime {self.version} cannot run it: {_said(error)}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.input_name = only(path, [value.name for value in inputs], "input")
        self._outputs = [only(path, [value.name for value in outputs], "output")]
        # An open dimension is a name or None in ONNX Runtime.
        self.input_shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape)
        self.threads = threads
        self._path = path

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch; see :meth:`ocrslim.engines.session.InferenceSession.run`.

        Raises:
            TypeError: ``x`` is not float32.
            EngineError: its shape is not what the model takes, or the engine failed.
        """
        check_batch(self._path, self.input_shape, x)
        try:
            (output,) = self._session.run(self._outputs, {self.input_name: np.ascontiguousarray(x)})
        except (*BROKEN, *FAILED) as error:
            raise EngineError(f"{self._path}: onnxruntime {self.version} failed: {_said(error)}") from error
        assert isinstance(output, np.ndarray)
        return output


def _said(error: BaseException) -> str:
    return PREFIX.sub("", one_line(error))
