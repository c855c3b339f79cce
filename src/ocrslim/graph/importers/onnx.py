"""ONNX files into ``onnx_ir`` models, with every failure told in one line.

A file is not trusted: its size is bounded, data outside of its folder are not read, and what it claims of a tensor
(sizes, element type, place in a file beside it) is compared with the bytes that are there before memory is taken.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from ocrslim.errors import ModelError

__all__ = ["external_files", "load_onnx", "model_bytes"]

SAID = 160  # characters of a library's own message that are worth repeating
MAX_BYTES = 1 << 30
"""Of the file, and of the weights beside it: the largest PP-OCR model has 0.1 GB."""

_AGAIN = "export or download it again"


def load_onnx(path: str | Path) -> ir.Model:
    """Read an ONNX file; weights that lie in files beside it are read into memory.

    Args:
        path: the file. External data are read from the file's own folder and nowhere else.

    Returns:
        ir.Model: with the value of every initializer loaded, so that the file may go away.

    Raises:
        ModelError: the file is missing, larger than 1 GiB, no ONNX model, has no input or output, names data outside
            its folder, or a tensor in it is not what its sizes say.
    """
    path = Path(path)
    if not os.path.isfile(path):  # Path.is_file raises OSError for a name that is too long
        raise ModelError(f"{path}: no such file; give an ONNX file, a model folder or a name from `ocrslim models`")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path}: larger than {MAX_BYTES >> 30} GiB; that is no PP-OCR model")
        model = ir.load(path)
        _check_tensors(model, path)
        ir.external_data.load_to_model(model)
    except ModelError:
        raise
    except Exception as error:  # protobuf, the parser and the file system each raise their own kinds
        raise ModelError(f"{path}: not a readable ONNX model ({_said(error)}); {_AGAIN}") from error
    if not len(model.graph) or not model.graph.inputs or not model.graph.outputs:
        raise ModelError(f"{path}: an ONNX model without nodes, input or output; {_AGAIN}")
    try:
        proto = ir.to_proto(model)
        for output in proto.graph.output:
            output.type.tensor_type.shape.SetInParent()  # the checker demands shapes of outputs, engines don't
        onnx.checker.check_model(proto, full_check=False)
    except Exception as error:  # the checker's own kind, and what onnx_ir says of values that can't be written
        raise ModelError(f"{path}: not a valid ONNX model ({_said(error)}); {_AGAIN}") from error
    return model


def external_files(path: Path) -> list[Path]:
    """Return the files beside an ONNX file that hold its weights, sorted; most models have none.

    Args:
        path: a file that :func:`load_onnx` has read.
    """
    tensors = _tensors(ir.load(path))
    found = {os.fspath(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    return sorted(path.parent / name for name in found)


def model_bytes(path: Path) -> int:
    """Return the bytes of an ONNX file and of the files beside it that hold its weights.

    Args:
        path: see :func:`external_files`.
    """
    return sum(file.stat().st_size for file in (path, *external_files(path)))


def _check_tensors(model: ir.Model, path: Path) -> None:
    """Compare every tensor's sizes with its bytes; those in files beside the model aren't read for that.

    Raises:
        ModelError: there are more bytes than a model has, or some lie outside the model's folder.
        ValueError: sizes and bytes differ, or a Constant holds no tensor.
    """
    beside = 0
    for node in (node for graph in _graphs(model) for node in graph):
        if node.op_type == "Constant" and len(node.attributes) != 1:  # the checker lets it pass
            raise ValueError(f"the Constant {node.name!r} has {len(node.attributes)} values")
    for tensor in _tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            beside += _check_external(tensor, path)
            if beside > MAX_BYTES:
                raise ModelError(f"{path}: weights of more than {MAX_BYTES >> 30} GiB; that is no PP-OCR model")
        elif tensor.dtype != ir.DataType.STRING:
            tensor.numpy()  # a view of the file's bytes; it refuses sizes that they don't fill


def _graphs(model: ir.Model) -> list[ir.Graph]:
    """Return the graph, those of functions, and all graphs within them."""
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    return graphs + [graph for outer in tuple(graphs) for graph in outer.subgraphs()]


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Yield the tensors of initializers and attributes, those in subgraphs and functions too."""
    for graph in _graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if attribute.type == ir.AttributeType.TENSOR:
                    yield attribute.as_tensor()
                elif attribute.type == ir.AttributeType.TENSORS:
                    yield from attribute.as_tensors()


def _check_external(tensor: ir.ExternalTensor, path: Path) -> int:
    """Return how many bytes a tensor takes in a file beside the model."""
    name = tensor.name or "?"
    folder = os.path.realpath(path.parent)
    place = os.path.realpath(os.path.join(folder, os.fspath(tensor.location)))
    if os.path.commonpath([folder, place]) != folder or not os.path.isfile(place):
        raise ModelError(f"{path}: the data of {name!r} are not in a file of its folder; keep model and data together")
    if any(not isinstance(size, int) or size < 0 for size in tensor.shape.dims):
        raise ValueError(f"the sizes of {name!r} are {tensor.shape}")
    needed = math.ceil(math.prod(tensor.shape.numpy()) * tensor.dtype.bitwidth / 8)
    offset, length = tensor.offset or 0, needed if tensor.length is None else tensor.length
    if length != needed or offset < 0 or offset + length > os.path.getsize(place):
        raise ModelError(f"{path}: the data of {name!r} are not {needed} bytes in {place}; {_AGAIN}")
    return needed


def _said(error: Exception) -> str:
    """Return the first line of a library's message, shortened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:SAID]
