"""A Paddle model into an ONNX file in the cache, which everything behind the import works on."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from ocrslim.atomic import write_bytes
from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.classic import read_classic
from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.files import PaddleFiles
from ocrslim.graph.importers.paddle.network import Network
from ocrslim.graph.importers.paddle.pir import parameter_names, read_pir, read_pir_file
from ocrslim.graph.importers.paddle.program import read_parameters, read_program

__all__ = ["import_paddle", "read_network"]

SAID = 160  # characters of what Python says of it
AGAIN = "download or export the model again"
DAMAGE: tuple[type[Exception], ...] = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError),
    *(DecodeError, EncodeError, MemoryError, RecursionError, StopIteration, ir.serde.SerdeError),
)
"""What code that expects a program meets in a file in which anything may stand at any place."""


def read_network(files: PaddleFiles) -> Network:
    """Read a program and its parameters.

    Raises:
        ModelError: one of the files is missing, cut off or something else, or they don't belong together.
    """
    if files.is_pir:
        operations = read_pir_file(files.program)
        parameters = read_parameters(files.parameters, parameter_names(operations))
        return read_pir(files.program, operations, parameters)
    program = read_program(files.program)
    return read_classic(program, read_parameters(files.parameters, program.persistable_names))


def import_paddle(files: PaddleFiles, cache: Path) -> Path:
    """Convert a model and return the ONNX file, ``inference.onnx`` in a folder named after the hash of its files.

    It takes a fraction of a second and is done each time: a file of an older OCRSlim is replaced.

    Args:
        files: the model.
        cache: folder to write into.

    Raises:
        ModelError: the model can't be read, an operator can't be converted, or the cache can't be written.
    """
    try:
        model = to_onnx(read_network(files))
        data = ir.to_proto(model).SerializeToString(deterministic=True)
    except ModelError as error:
        if str(files.program.parent) in str(error):
            raise
        raise ModelError(f"{files.program}: {error}") from error
    except DAMAGE as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0][:SAID]
        raise ModelError(f"{files.program}: not a whole Paddle program ({said}); {AGAIN}") from error
    path = cache / files.sha256() / "inference.onnx"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != data:
            write_bytes(path, data)
    except OSError as error:
        raise ModelError(
            f"{path.parent}: cannot be written ({error.strerror}); set OCRSLIM_CACHE to a folder that can"
        ) from error
    return path
