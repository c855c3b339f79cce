"""The float model in the form that an engine runs fastest: the same weights, the same answers, other nodes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common

from ocrslim.atomic import replacing
from ocrslim.engines.targets import Target
from ocrslim.errors import InputError
from ocrslim.graph.importers.onnx import external_files, load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.passes.shuffle import ShuffleUpsampling

__all__ = ["copy_model", "export_float", "with_shape"]


def export_float(graph: ir.Model, target: Target, path: Path | None = None) -> ir.Model:
    """Return the graph with what its target gains by, and write it if a path is given.

    What :func:`ocrslim.graph.passes.canonical.canonicalize` fuses is what engines don't: ONNX Runtime computes a
    HardSwish that is written as five nodes as five, over the whole image each.

    Args:
        graph: canonical; not changed.
        target: what for.
        path: of the ONNX file; it appears only when it is complete.
    """
    model = graph.clone()
    if target.shuffle_upsampling:
        ShuffleUpsampling()(model)
        common.RemoveUnusedNodesPass()(model)  # its old weights: their names are free when it is undone
    if path is not None:
        with replacing(path) as partial:
            ir.save(model, partial)
    return model


def copy_model(path: Path, to: Path) -> None:
    """Copy an ONNX file; where its weights lie in files beside it, the copy holds them itself.

    Args:
        path: of the model.
        to: appears only when it is complete.
    """
    with replacing(to) as partial:
        if external_files(path):
            ir.save(ir.external_data.load_to_model(load_onnx(path)), partial)
        else:
            shutil.copyfile(path, partial)


def with_shape(graph: ir.Model, shape: Sequence[int]) -> ir.Model:
    """Return a canonical graph for inputs of one shape only: what it computes of the shape becomes constant.

    Args:
        graph: not changed.
        shape: of the input, N, C, H, W.

    Raises:
        InputError: the model does not take that shape.
    """
    model = graph.clone()
    (value,) = model.graph.inputs
    takes = list(value.shape) if value.shape is not None else []
    if len(takes) != len(shape) or any(isinstance(a, int) and a != b for a, b in zip(takes, shape, strict=True)):
        raise InputError(f"--shape: the model takes {takes}, which {list(shape)} is not one of; give another HxW")
    value.shape = ir.Shape(shape)
    for output in model.graph.outputs:
        output.shape = None  # what follows from the input's
    return canonicalize(model)
