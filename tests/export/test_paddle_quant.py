"""Quantizing operators in a program written by hand: their order, their sharing, their variables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ocrslim.export.learned import Grid
from ocrslim.export.paddle_chains import argument
from ocrslim.export.paddle_quant import Quantizer, make_op, make_var, replace_ops, set_attribute
from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind, message
from ocrslim.graph.importers.paddle.program import Program

INTEGERS = np.arange(-4, 4, dtype=np.int8).reshape(4, 2, 1, 1)
GRID = Grid(INTEGERS, np.array([0.1, 0.2, 0.3, 0.4], np.float32), 0, 0.05, 0, True)


def two_convolutions() -> Program:
    """Both read x; the second reads the weight of the first."""
    desc = message("ProgramDesc")
    block = desc.blocks.add(idx=0, parent_idx=-1)
    for made in ("a", "b"):
        block.ops.append(make_op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": made}, {}))
    block.vars.append(make_var("x", VarKind.FP32, [-1, 2, -1, -1]))
    block.vars.append(make_var("w", VarKind.FP32, [4, 2, 1, 1], persistable=True))
    return Program(desc)


def test_a_pair_is_made_once_and_stands_before_its_first_reader() -> None:
    program, parameters = two_convolutions(), {"w": INTEGERS.astype(np.float32)}
    quantizer = Quantizer(program, parameters)
    for index in range(2):
        quantizer.quantize(index, "Input", "w", GRID)
    assert len(program.ops) == 2  # only finish changes the list
    quantizer.finish()
    assert [op.type for op in program.ops] == [
        *("dequantize_linear", "quantize_linear", "dequantize_linear"),
        *("conv2d", "conv2d"),
    ]
    for op in program.ops[3:]:
        assert argument(op, "Input") == "x.quantized.dequantized"
        assert argument(op, "Filter") == "w.quantized.dequantized"


def test_parameters_and_their_descriptions_go_together() -> None:
    program, parameters = two_convolutions(), {"w": INTEGERS.astype(np.float32)}
    quantizer = Quantizer(program, parameters)
    quantizer.quantize(0, "Input", "w", GRID)
    quantizer.finish()
    assert parameters["w"].dtype == np.int8
    assert parameters["w@scale"] == pytest.approx([12.7, 25.4, 38.1, 50.8])
    assert parameters["x@scale"] == pytest.approx([6.35])
    assert program.persistable_names == sorted(parameters)
    for name in set(parameters) - {"w"}:
        tensor = program.vars[name].type.lod_tensor.tensor
        assert list(tensor.dims) == list(parameters[name].shape)
        assert tensor.data_type == (VarKind.INT32 if name.endswith("zero_point") else VarKind.FP32)
    made = program.vars["x.quantized.dequantized"]
    assert list(made.type.lod_tensor.tensor.dims) == [-1, 2, -1, -1]
    assert not made.persistable


def test_products_flatten_all_axes_but_the_last() -> None:
    desc = message("ProgramDesc")
    block = desc.blocks.add(idx=0, parent_idx=-1)
    block.ops.append(make_op("matmul_v2", {"X": "x", "Y": "w"}, {"Out": "y"}, {}))
    set_attribute(block.ops[0], "trans_x", AttributeType.BOOLEAN, False)
    block.vars.append(make_var("x", VarKind.FP32, [-1, 1, -1, 2]))
    block.vars.append(make_var("w", VarKind.FP32, [2, 3], persistable=True))
    program = Program(desc)
    quantizer = Quantizer(program, {})
    quantizer.quantize(0, "X", "w", Grid(np.ones((2, 3), np.int8), np.ones(3, np.float32), 1, 1.0, 0, True))
    quantizer.finish()
    op = program.ops[-1]
    given = {attr.name: attr for attr in op.attrs}
    assert op.type == "mul"
    assert (given["x_num_col_dims"].i, given["y_num_col_dims"].i) == (3, 1)
    assert "trans_x" not in given


def test_an_attribute_is_set_once() -> None:
    op = make_op("scale", {"X": "x"}, {"Out": "y"}, {"scale": (AttributeType.FLOAT, 2.0)})
    set_attribute(op, "scale", AttributeType.FLOAT, 3.0)
    found: list[Any] = [attr for attr in op.attrs if attr.name == "scale"]
    assert [attr.f for attr in found] == [3.0]


def test_replacing_operators_may_use_the_old_ones() -> None:
    program = two_convolutions()
    replace_ops(program, list(program.ops)[::-1])
    assert [argument(op, "Output") for op in program.ops] == ["b", "a"]
