"""Write a trained model back into the Paddle program that it came from: ``.pdmodel`` and ``.pdiparams``.

1. Every parameter that our graph still has gets its trained value, by name.
2. What our graph folded into convolutions becomes neutral, and the bias goes where there is a place for it; see
   :mod:`ocrslim.export.paddle_chains`.
3. The number of a ``scale`` operator, an attribute in Paddle and a constant of ours, goes back into the attribute.
4. Quantized operators get Paddle's quantizing and dequantizing operators; see :mod:`ocrslim.export.paddle_quant`.
5. ``op_callstack`` is dropped: it is the exporter's own stack trace, and half of the file.
6. Where channels were pruned, groups and the sizes of reshapes follow; see :mod:`ocrslim.export.paddle_sizes`.
A parameter for which none of that holds is an error: the file is then of another model.

Written with protobuf and numpy alone. Files of this form run in Paddle Inference 2.6 and 3, and in Paddle Lite 2.13.
Programs of the new kind (``inference.json``) are not written: Paddle 3 runs quantized models as ``.pdmodel`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ocrslim.errors import InputError, ModelError
from ocrslim.export.learned import Grid, Learned, read_learned
from ocrslim.export.paddle_chains import CONVOLUTIONS, Chains, argument
from ocrslim.export.paddle_quant import Quantizer, make_op, make_var, replace_ops, set_attribute
from ocrslim.export.paddle_sizes import reshape_sizes, write_groups, write_reshapes
from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind
from ocrslim.graph.importers.paddle.program import (
    Program,
    read_parameters,
    read_program,
    write_parameters,
    write_program,
)

__all__ = ["PARAMETERS", "PROGRAM", "export_paddle"]

Array = NDArray[Any]

PROGRAM, PARAMETERS = "inference.pdmodel", "inference.pdiparams"
# Operator -> roles of its activation and its weight.
ROLES = {
    **dict.fromkeys(CONVOLUTIONS, ("Input", "Filter")),
    **dict.fromkeys(("matmul_v2", "matmul", "mul"), ("X", "Y")),
}


def export_paddle(
    model: ir.Model, program: Path, parameters: Path, folder: Path, *, quantized: bool = True
) -> tuple[Path, Path]:
    """Write a trained model as a Paddle inference model.

    Args:
        model: canonical, float or with the Q/DQ nodes of :func:`ocrslim.export.onnx_qdq.export_qdq`; made from the
            program below.
        program: ``.pdmodel`` or ``__model__`` that the model was made from.
        parameters: its ``.pdiparams`` or ``__params__``.
        folder: that gets ``inference.pdmodel`` and ``inference.pdiparams``; exists.
        quantized: with integer weights and quantizing operators; otherwise the float model, with the weights where the
            training left them, on their grids.

    Returns:
        tuple: the program's and the parameters' path.

    Raises:
        ModelError: the model was not made from this program.
        InputError: ``quantized``, but the model is float, or its activations are not symmetric int8.
    """
    learned = read_learned(model)
    if quantized:
        _check_symmetric(learned)
    changed = read_program(program).clone()
    old = read_parameters(parameters, changed.persistable_names)
    new = _Writer(changed, old, learned, quantized).write()
    write_reshapes(changed, reshape_sizes(model))
    paths = folder / PROGRAM, folder / PARAMETERS
    write_parameters(paths[1], new)
    write_program(changed, paths[0])
    return paths


def _check_symmetric(learned: Learned) -> None:
    """Paddle's format has signed integers and no zero points."""
    if not learned.grids:
        raise InputError("the model is float, there is nothing quantized to export; compress it with --target paddle")
    for name, grid in learned.grids.items():
        if not grid.signed or grid.input_zero_point:
            raise InputError(
                f"the input of {name!r} is quantized asymmetrically, for another engine; Paddle takes symmetric int8:"
                " compress with --target paddle, or export the float model"
            )


class _Writer:
    """Changes one program and gathers its parameters."""

    def __init__(self, program: Program, old: Mapping[str, Array], learned: Learned, quantized: bool) -> None:
        self._program = program
        self._old = dict(old)
        self._learned = learned
        self._quantized = quantized
        self._new: dict[str, Array] = {}

    def write(self) -> dict[str, Array]:
        """Change the program, and return its parameters by name."""
        known = {name: self._weight(name) for name in self._old}
        self._new = {name: array for name, array in known.items() if array is not None}
        biases = self._fold()
        missing = sorted(set(self._old) - set(self._new))
        if missing:
            raise ModelError(
                f"{self._program.path}: the trained model has no counterpart of its parameter {missing[0]!r}"
                f" ({len(missing)} such); name the Paddle model that was compressed"
            )
        self._write_factors()
        write_groups(self._program, self._old, self._new)
        for name, array in self._new.items():
            self._describe(name, array)
        if self._quantized:
            self._quantize()
        self._add_biases(biases)
        for op in self._program.ops:
            for index in reversed(range(len(op.attrs))):
                if op.attrs[index].name == "op_callstack":
                    del op.attrs[index]
        return self._new

    def _weight(self, name: str) -> Array | None:
        """Rule 1."""
        if self._old[name].dtype.kind != "f":
            return self._old[name]
        if name in self._learned.grids:
            return self._learned.grids[name].weight.astype(self._old[name].dtype)
        if name not in self._learned.floats:
            return None
        return _shaped(self._learned.floats[name], self._old[name])

    def _fold(self) -> dict[str, Array]:
        """Rule 2; return biases that have no place: name of a convolution's output -> the bias."""
        chains = Chains(self._program, self._old, self._learned)
        homeless: dict[str, Array] = {}
        for output, weight, chain in chains.find():
            bias = self._learned.biases[weight]
            self._new.update(chain.neutral)
            if bias is not None and chain.places:
                self._new[chain.places[0]] = _shaped(bias.array, self._old[chain.places[0]])
            elif bias is not None:
                homeless[output] = bias.array
        return homeless

    def _write_factors(self) -> None:
        """Rule 3; the numbers are in the order of the operators, whatever an exporter called their results."""
        scales = [op for op in self._program.ops if op.type == "scale" and self._is_float(argument(op, "X"))]
        numbers = [number for name, number in self._learned.factors if name not in self._old]
        if len(scales) != len(numbers):
            raise ModelError(
                f"{self._program.path}: scales {len(scales)} values by a number, the trained model {len(numbers)}; name"
                " the Paddle model that was compressed"
            )
        for op, number in zip(scales, numbers, strict=True):
            set_attribute(op, "scale", AttributeType.FLOAT, number)

    def _is_float(self, name: str) -> bool:
        kind = self._program.vars[name].type.lod_tensor.tensor.data_type
        return kind in (VarKind.FP32, VarKind.FP16, VarKind.FP64)

    def _quantize(self) -> None:
        """Rule 4."""
        quantizer = Quantizer(self._program, self._new)
        left: dict[str, Grid] = dict(self._learned.grids)
        for index, op in enumerate(self._program.ops):
            if op.type in ROLES:
                data, role = ROLES[op.type]
                weight = argument(op, role)
                if weight in self._learned.grids:
                    quantizer.quantize(index, data, weight, self._learned.grids[weight])
                    left.pop(weight, None)
        if left:
            raise ModelError(f"{self._program.path}: no convolution or product reads {min(left)!r}, which is quantized")
        quantizer.finish()

    def _add_biases(self, biases: Mapping[str, Array]) -> None:
        """Put an elementwise_add behind each convolution whose bias has no place."""
        ops = []
        for op in self._program.ops:
            ops.append(op)
            made = argument(op, "Output")
            if op.type not in CONVOLUTIONS or made not in biases:
                continue
            name, raw = f"{made}.bias", f"{made}.unbiased"
            self._new[name] = biases[made].astype(np.float32)
            dims = list(self._program.vars[made].type.lod_tensor.tensor.dims)
            self._program.blocks[0].vars.append(make_var(name, VarKind.FP32, [self._new[name].size], persistable=True))
            self._program.blocks[0].vars.append(make_var(raw, VarKind.FP32, dims))
            next(entry for entry in op.outputs if entry.parameter == "Output").arguments[0] = raw
            axis = {"axis": (AttributeType.INT, 1)}
            ops.append(make_op("elementwise_add", {"X": raw, "Y": name}, {"Out": made}, axis))
        if biases:
            replace_ops(self._program, ops)

    def _describe(self, name: str, array: Array) -> None:
        """Correct the sizes in a parameter's description: a pruned weight is smaller."""
        tensor = self._program.vars[name].type.lod_tensor.tensor
        if list(tensor.dims) != list(array.shape):
            del tensor.dims[:]
            tensor.dims.extend(array.shape)


def _shaped(array: Array, old: Array) -> Array:
    """Return an array in the shape and type that a parameter has, also where it has fewer channels by now."""
    if array.ndim != old.ndim:
        shape = [-1 if size != 1 else 1 for size in old.shape] if array.size != old.size else list(old.shape)
        array = array.reshape(shape)
    return np.ascontiguousarray(array, old.dtype)
