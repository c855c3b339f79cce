"""The canonical form of a model, which everything behind the import works on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from ocrslim.errors import ModelError
from ocrslim.graph.passes.affine import FoldAffineBackward, FoldAffineForward
from ocrslim.graph.passes.base import Pass
from ocrslim.graph.passes.fold import DropNoOps, FoldConstants, FoldShapes
from ocrslim.graph.passes.fuse import FuseGelu, FuseHardSwish, FuseLayerNormalization
from ocrslim.graph.passes.shuffle import UnshuffleUpsampling

__all__ = ["OPSET", "canonicalize", "refuse_long_vectors", "refuse_negative_sizes"]

OPSET = 20
"""Has Gelu; per-channel QuantizeLinear needs 13, LayerNormalization 17. Both engines know it in full."""

IR_VERSION = 9  # the first that may hold opset 20
HIDDEN = "ocrslim.hidden"  # a domain of which ONNX knows nothing
LONGEST = 1 << 20  # whole numbers in a vector; real models have some thousands, of positions
MOST_NESTED = 100  # Slices, each after another; a window transformer has some 50
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
"""Sizes that can't be inferred are no error, and nothing that a user should see on the terminal."""

ROUNDS = 20  # a model settles within four or five


def canonicalize(model: ir.Model) -> ir.Model:
    """Return the model in its canonical form.

    Weights are initializers, what is constant is folded, no node is without effect, convolutions hold the affine maps
    around them, HardSwish, Gelu and LayerNormalization are single nodes, upsampling by a shuffle is a transposed
    convolution, the opset is 20 or the model's own where that is newer, every node and value has a name of its own.
    Outputs move by less than 1e-5 or, where single precision itself is off by more, than rounding does.

    Args:
        model: not changed.

    Returns:
        ir.Model: with the names of input and outputs and the metadata of the original.

    Raises:
        ModelError: the opset can't be raised to 20, a size falls below zero, or a vector is too long.
    """
    model = model.clone()
    common.RemoveInitializersFromInputsPass()(model)
    _lift_constants(model)
    _forget_shapes(model)
    declared = [value.shape for value in model.graph.outputs]
    for value in model.graph.outputs:
        value.shape = None  # a wrong one would stop the inference of all others
    refuse_long_vectors(model)
    refuse_negative_sizes(model)
    # The converter needs to know which axis of a Softmax is the last, so the ranks have to be known first.
    _settle(model, (FoldConstants(), FoldShapes(), DropNoOps()))
    model = _to_opset(model)
    _lift_constants(model)  # axes that were attributes
    common.NameFixPass()(model)
    _forget_shapes(model)
    _settle(
        model,
        (
            FoldConstants(),
            FoldShapes(),
            DropNoOps(),
            UnshuffleUpsampling(),
            FuseHardSwish(),
            FuseGelu(),
            FuseLayerNormalization(),
            FoldAffineBackward(),
            FoldAffineForward(),
        ),
    )
    _forget_shapes(model)
    common.ShapeInferencePass()(model)
    for value, shape in zip(model.graph.outputs, declared, strict=True):
        value.shape = value.shape if shape is None else shape
    common.TopologicalSortPass()(model)
    common.NameFixPass()(model)
    return model


def refuse_long_vectors(model: ir.Model) -> None:
    """Refuse a model that makes a vector of more than :data:`LONGEST` whole numbers.

    ONNX's inference of shapes follows what is in a vector of whole numbers, one by one where a node reads it: of four
    thousand million it never comes back. So sizes are looked at before that, by an inference that follows no contents.

    Args:
        model: not changed.

    Raises:
        ModelError: there is such a vector.
    """
    looked = model.clone()
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(looked)
    for node in looked.graph:
        for value in node.outputs:
            size = value.shape[0] if value.shape is not None and len(value.shape) == 1 else 0
            if isinstance(size, int) and size > LONGEST and value.dtype in (ir.DataType.INT64, ir.DataType.INT32):
                raise ModelError(f"node {node.name!r} makes a vector of {size} numbers: no such model is run")


def refuse_negative_sizes(model: ir.Model) -> None:
    """Refuse a model in which a size falls below zero, as behind a kernel that is larger than the image.

    No engine runs it, and ONNX's inference of shapes ends the whole process where a ``Slice`` reads such a value. So
    each is hidden from it until what it reads is known to be sound.

    Args:
        model: not changed.

    Raises:
        ModelError: there is such a size.
    """
    if not any(map(_may_read_any_size, model.graph)):
        return
    model = model.clone()
    hidden = set(filter(_may_read_any_size, model.graph))
    for node in hidden:
        node.domain = HIDDEN
    model.graph.opset_imports[HIDDEN] = 1
    for _ in range(MOST_NESTED):
        common.ShapeInferencePass(check_type=False, strict_mode=False)(model)
        ready, unknown = set[ir.Node](), set[ir.Value | None]()
        for node in model.graph:
            if any(isinstance(size, int) and size < 0 for value in node.outputs for size in value.shape or ()):
                raise ModelError(f"node {node.name!r} makes a size below zero: the model can't run, export it again")
            if node in hidden and unknown.isdisjoint(node.inputs):
                ready.add(node)
            if node in hidden or not unknown.isdisjoint(node.inputs):
                unknown.update(node.outputs)
        if not hidden:
            return
        for node in ready:
            node.domain = ""
        hidden -= ready


def _may_read_any_size(node: ir.Node) -> bool:
    """Return whether a node is a Slice of anything but a shape, whose own size is its number of axes."""
    maker = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    return node.op_type == "Slice" and (maker is None or maker.op_type != "Shape")


def _settle(model: ir.Model, steps: Sequence[Pass]) -> None:
    """Run the passes in turn until none changes anything."""
    for _ in range(ROUNDS):
        refuse_long_vectors(model)
        common.ShapeInferencePass()(model)
        changed = [step(model).modified for step in steps]
        common.RemoveUnusedNodesPass()(model)
        if not any(changed):
            return


def _to_opset(model: ir.Model) -> ir.Model:
    """Raise the opset with ONNX's own converter, which drops the metadata: they are put back."""
    present = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 1))
    if present < OPSET:
        try:
            proto = onnx.version_converter.convert_version(ir.to_proto(model), OPSET)
        except Exception as error:  # the converter raises bare RuntimeErrors and more
            said = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(f"the model's opset {present} can't be raised to {OPSET}: {said}") from error
        converted = ir.from_proto(proto)
        converted.metadata_props.update(model.metadata_props)
        converted.doc_string = model.doc_string
        converted.graph.name = model.graph.name
        model = converted
    model.ir_version = max(model.ir_version, IR_VERSION)
    return model


def _forget_shapes(model: ir.Model) -> None:
    """Forget inferred shapes, and what exporters write for an open size: -1, or one name for two sizes of an input."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
                value.type = None
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            names = [str(size) for size in value.shape]
            known = [name if name != "?" and names.count(name) == 1 else None for name in names]
            value.shape = ir.Shape(
                [
                    size if isinstance(size, int) and size > 0 else (None if isinstance(size, int) else name)
                    for size, name in zip(value.shape, known, strict=True)
                ]
            )


def _lift_constants(model: ir.Model) -> None:
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
