"""ONNX files into ``onnx_ir`` models, with every failure told in one line."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from ocrslim.errors import ModelError

__all__ = ["load_onnx"]

SAID = 160  # characters of a library's own message that are worth repeating


def load_onnx(path: str | Path) -> ir.Model:
    """Read an ONNX file; weights that lie in files beside it are read into memory.

    Args:
        path: the file. External data are read from the file's own folder and nowhere else.

    Returns:
        ir.Model: with the value of every initializer loaded, so that the file may go away.

    Raises:
        ModelError: the file is missing, is no ONNX model, has no input or output, or names data outside its folder.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give an ONNX file, a model folder or a name from `ocrslim models`")
    try:
        model = ir.load(path)
        ir.external_data.load_to_model(model)
    except Exception as error:  # protobuf, the parser and the file system each raise their own kinds
        raise ModelError(f"{path}: not a readable ONNX model ({_said(error)}); export or download it again") from error
    if not len(model.graph) or not model.graph.inputs or not model.graph.outputs:
        raise ModelError(f"{path}: an ONNX model without nodes, input or output; export or download it again")
    proto = ir.to_proto(model)
    for output in proto.graph.output:
        output.type.tensor_type.shape.SetInParent()  # the checker demands shapes of outputs, engines don't
    try:
        onnx.checker.check_model(proto, full_check=False)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{path}: not a valid ONNX model ({_said(error)}); export or download it again") from error
    return model


def _said(error: Exception) -> str:
    """Return the first line of a library's message, shortened."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:SAID]
