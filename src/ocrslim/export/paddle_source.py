"""Which Paddle model an int8 one is written into: the one that came, or the twin that the zoo has of an ONNX file."""

from __future__ import annotations

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.files import PaddleFiles, find
from ocrslim.graph.importers.paddle.zoo import PADDLE_MODELS, pull_paddle
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.importers.zoo import MODELS

__all__ = ["has_twin", "is_writable", "paddle_source"]

OTHER_TARGETS = "take --target openvino or onnxruntime"


def has_twin(name: object, sha256: object) -> bool:
    """Whether the zoo has a Paddle model of an ONNX file's weights.

    The name alone says nothing: whoever trained a model further keeps the name that its ``inference.yml`` says.

    Args:
        name: of the model.
        sha256: of its ONNX file.
    """
    return isinstance(name, str) and name in PADDLE_MODELS and MODELS[name].sha256 == sha256


def is_writable(source: ModelSource) -> bool:
    """Whether there is a Paddle model of these weights that an int8 one can be written into."""
    if source.paddle is not None:
        return not source.paddle.is_pir
    return has_twin(source.name, source.sha256)


def paddle_source(source: ModelSource) -> PaddleFiles:
    """Return the Paddle model to write into; the zoo's is fetched unless it is in the cache.

    Args:
        source: the float model.

    Raises:
        ModelError: there is none, it is of the kind that can't be written, or it can't be fetched.
    """
    if source.paddle is not None and source.paddle.is_pir:
        raise ModelError(
            f"{source.paddle.program}: is a program of Paddle 3 (PIR), and Paddle runs quantized models as .pdmodel"
            f" only: give the .pdmodel of the same weights, or {OTHER_TARGETS}"
        )
    if source.paddle is not None:
        return source.paddle
    if not has_twin(source.name, source.sha256):
        raise ModelError(
            f"{source.name}: came as ONNX, and an int8 model for Paddle is written into the float one's files: give the"
            f" folder with inference.pdmodel and inference.pdiparams, or {OTHER_TARGETS}"
        )
    files = find(pull_paddle(source.name))
    assert files is not None  # pull_paddle checked both
    return files
