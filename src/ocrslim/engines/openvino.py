"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import frontend

from ocrslim.engines.checks import check_batch, one_line, only
from ocrslim.engines.options import session_options
from ocrslim.errors import EngineError, ModelError

__all__ = ["OpenVinoSession"]

BROKEN = (frontend.GeneralFailure, frontend.InitializationFailure, frontend.OpValidationFailure, RuntimeError)
UNSUPPORTED = (frontend.OpConversionFailure, frontend.NotImplementedFailure)
NOISE = ("Exception from", "Check '", "FrontEnd API failed", "Summary:", "Loading input model")


class OpenVinoSession:
    """An :class:`ocrslim.engines.session.InferenceSession` of OpenVINO's CPU device.

    Args:
        path: the ONNX file, or OpenVINO's own ``.xml`` with its ``.bin`` beside it; open dimensions stay open.
        threads: that a run may use.

    Raises:
        ModelError: the file is not a sound ONNX model with one input and one output.
        EngineError: OpenVINO cannot run it.
    """

    engine = "openvino"
    version: str = openvino.__version__.split("-", maxsplit=1)[0]

    def __init__(self, path: Path, threads: int) -> None:
        # The reader is named: Core.read_model would offer a broken file to every format's reader in turn, and
        # some of those write to stderr.
        reader = frontend.FrontEndManager().load_by_framework("ir" if path.suffix == ".xml" else "onnx")
        try:
            model = reader.convert(reader.load(str(path)))
        except UNSUPPORTED as error:
            raise EngineError(f"{path}: openvino {self.version} cannot run it: {one_line(error, NOISE)}") from error
        except BROKEN as error:
            raise ModelError(f"{path}: is no ONNX model that openvino can read: {one_line(error, NOISE)}") from error
        self.input_name = only(path, [value.any_name for value in model.inputs], "input")
        only(path, [value.any_name for value in model.outputs], "output")
        self.input_shape = tuple(
            size.get_length() if size.is_static else None for size in model.inputs[0].partial_shape
        )
        self.threads = threads
        self._path = path
        options = dict(session_options(self.engine, threads))
        try:
            self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"{path}: openvino {self.version} cannot run it: {one_line(error, NOISE)}") from error

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one batch; see :meth:`ocrslim.engines.session.InferenceSession.run`.

        Raises:
            TypeError: ``x`` is not float32.
            EngineError: its shape is not what the model takes, or the engine failed.
        """
        check_batch(self._path, self.input_shape, x)
        try:
            results = self._request.infer({0: np.ascontiguousarray(x)}, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(f"{self._path}: openvino {self.version} failed: {one_line(error, NOISE)}") from error
        output = results[0]
        assert isinstance(output, np.ndarray)
        return output
