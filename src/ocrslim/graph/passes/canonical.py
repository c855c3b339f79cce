"""The canonical form of a model, which everything behind the import works on."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from ocrslim.errors import ModelError
from ocrslim.graph.passes.affine import FoldAffineBackward, FoldAffineForward
from ocrslim.graph.passes.base import Pass
from ocrslim.graph.passes.fold import DropNoOps, FoldConstants, FoldShapes
from ocrslim.graph.passes.fuse import FuseGelu, FuseHardSwish, FuseLayerNormalization

__all__ = ["OPSET", "canonicalize"]

OPSET = 20
"""Has Gelu; per-channel QuantizeLinear needs 13, LayerNormalization 17. Both engines know it in full."""

IR_VERSION = 9  # the first that may hold opset 20
ROUNDS = 20  # a model settles within four or five


def canonicalize(model: ir.Model) -> ir.Model:
    """Return the model in its canonical form.

    Weights are initializers, what is constant is folded, no node is without effect, convolutions hold the affine maps
    around them, HardSwish, Gelu and LayerNormalization are single nodes, the opset is 20 or the model's own where that
    is newer, every node and value has a name of its own. Outputs move by less than 1e-5 or, where single precision
    itself is off by more, than rounding does.

    Args:
        model: not changed.

    Returns:
        ir.Model: with the names of input and outputs and the metadata of the original.

    Raises:
        ModelError: the opset can't be raised to 20.
    """
    model = model.clone()
    common.RemoveInitializersFromInputsPass()(model)
    _lift_constants(model)
    _forget_shapes(model)
    declared = [value.shape for value in model.graph.outputs]
    for value in model.graph.outputs:
        value.shape = None  # a wrong one would stop the inference of all others
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


def _settle(model: ir.Model, steps: Sequence[Pass]) -> None:
    """Run the passes in turn until none changes anything."""
    for _ in range(ROUNDS):
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
