"""Writing back into Paddle's programs: real models, read again by the importer and by the facts' table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from ocrslim.errors import InputError, ModelError
from ocrslim.export.paddle import PARAMETERS, PROGRAM, export_paddle
from ocrslim.export.paddle_chains import argument
from ocrslim.export.paddle_quant import make_op, make_var, set_attribute
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.paddle.files import find
from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind, message
from ocrslim.graph.importers.paddle.importer import import_paddle
from ocrslim.graph.importers.paddle.program import (
    Program,
    read_parameters,
    read_program,
    write_parameters,
    write_program,
)
from ocrslim.graph.passes.canonical import canonicalize

Array = np.ndarray[Any, np.dtype[Any]]

# The detector subtracts means of hundreds (its batch_norm_0): single precision loses four digits there, in any order.
NEAR = 1e-3
both = pytest.mark.parametrize("task", ["det", "rec"])


def read_back(folder: Path) -> tuple[Program, dict[str, Array]]:
    program = read_program(folder / PROGRAM)
    return program, read_parameters(folder / PARAMETERS, program.persistable_names)


def imported(folder: Path, cache: Path) -> ir.Model:
    files = find(folder)
    assert files is not None
    return load_onnx(import_paddle(files, cache))


def attributes(op: Any) -> dict[str, Any]:
    return {attr.name: attr for attr in op.attrs}


@both
def test_an_unchanged_model_comes_back_with_other_numbers_and_the_same_answers(
    task: str, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    # The canonical graph has everything folded; written back, the chains are neutral and hold the biases.
    model = twin(task)
    export_paddle(model.canonical, model.files.program, model.files.parameters, tmp_path, quantized=False)
    before = run(load_onnx(import_paddle(model.files, tmp_path)), model.x)[0]
    after = run(imported(tmp_path, tmp_path), model.x)[0]
    assert np.abs(before - after).max() < NEAR
    old = read_parameters(model.files.parameters, read_program(model.files.program).persistable_names)
    _, new = read_back(tmp_path)
    assert new.keys() == old.keys()
    assert all(new[name].shape == old[name].shape and new[name].dtype == old[name].dtype for name in old)
    assert sum(not np.array_equal(new[name], old[name]) for name in old) > 30


@both
def test_trained_values_arrive(
    task: str, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    # Every float constant is moved a little, as a training does; the program must compute what the graph computes.
    model = twin(task)
    trained = model.canonical.clone()
    rng = np.random.default_rng(0)
    for name, value in trained.graph.initializers.items():
        array = value.const_value.numpy()
        reader = value.uses()[0]
        if array.dtype == np.float32 and reader.node.op_type not in ("Resize", "Clip"):
            moved = array * rng.uniform(0.97, 1.03, array.shape).astype(np.float32)
            value.const_value = ir.tensor(np.asarray(moved, np.float32).reshape(array.shape), name=name)
    export_paddle(trained, model.files.program, model.files.parameters, tmp_path, quantized=False)
    ours, theirs = run(trained, model.x)[0], run(imported(tmp_path, tmp_path), model.x)[0]
    assert np.abs(ours - theirs).max() < NEAR
    assert np.abs(ours - run(model.canonical, model.x)[0]).max() > 1e-3


@both
def test_the_quantized_program_is_what_the_table_says(task: str, twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin(task)
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    program, arrays = read_back(tmp_path)
    makers = {name: op for op in program.ops for entry in op.outputs for name in entry.arguments}
    quantized = [op for op in program.ops if "quantization_type" in attributes(op)]
    assert len(quantized) == sum(name.endswith("_quantized") for name in model.quantized.graph.initializers)
    for op in quantized:
        assert attributes(op)["quantization_type"].s == "qat_with_weight"
        data, weight = ("Input", "Filter") if op.type == "conv2d" else ("X", "Y")
        check_weight(makers[argument(op, weight)], program, arrays, axis=0 if op.type == "conv2d" else 1)
        check_activation(makers[argument(op, data)], makers, program, arrays)
    names = [name for op in program.ops for entry in op.outputs for name in entry.arguments if ".quantized" in name]
    assert len(names) == len(set(names))  # one pair for each value, however many operators read it


def check_weight(op: Any, program: Program, arrays: dict[str, Array], axis: int) -> None:
    name = argument(op, "X")
    assert op.type == "dequantize_linear"
    assert argument(op, "Y", op.outputs) == f"{name}.quantized.dequantized"
    assert (attributes(op)["quant_axis"].i, attributes(op)["bit_length"].i) == (axis, 8)
    assert argument(op, "Scale") == f"{name}@scale"
    assert argument(op, "ZeroPoint") == f"{name}.quantized.dequantized@zero_point"
    assert arrays[name].dtype == np.int8
    channels = arrays[name].shape[axis]
    assert arrays[f"{name}@scale"].shape == (channels,)
    assert arrays[argument(op, "ZeroPoint")].dtype == np.int32
    assert not arrays[argument(op, "ZeroPoint")].any()
    assert program.vars[name].type.lod_tensor.tensor.data_type == VarKind.FP32


def check_activation(op: Any, makers: dict[str, Any], program: Program, arrays: dict[str, Array]) -> None:
    before = makers[argument(op, "X")]
    name = argument(before, "X")
    assert (before.type, op.type) == ("quantize_linear", "dequantize_linear")
    assert argument(before, "Y", before.outputs) == f"{name}.quantized"
    assert argument(op, "Y", op.outputs) == f"{name}.quantized.dequantized"
    assert argument(before, "ZeroPoint") == f"{name}.quantized@zero_point"
    assert argument(op, "ZeroPoint") == f"{name}.quantized.dequantized@zero_point"
    for each in (before, op):
        assert argument(each, "Scale") == f"{name}@scale"
        assert (attributes(each)["quant_axis"].i, attributes(each)["bit_length"].i) == (-1, 8)
        assert (attributes(each)["op_role"].i, attributes(each)["op_device"].s) == (0, "")
        assert "only_observer" not in attributes(each)
    assert arrays[f"{name}@scale"].shape == (1,)


def test_a_scale_is_the_absolute_maximum(twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin("rec")
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    _, arrays = read_back(tmp_path)
    initializers = model.quantized.graph.initializers
    for name in (name.removesuffix("_quantized") for name in initializers if name.endswith("_quantized")):
        scale = initializers[f"{name}_scale"].const_value.numpy()
        assert arrays[f"{name}@scale"] == pytest.approx(127 * scale)
        assert np.array_equal(arrays[name], initializers[f"{name}_quantized"].const_value.numpy())


def test_a_product_with_a_weight_becomes_mul(twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin("rec")
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    program, arrays = read_back(tmp_path)
    products = [op for op in program.ops if op.type == "mul"]
    assert len(products) == 9
    for op in products:
        given = attributes(op)
        assert (given["x_num_col_dims"].i, given["y_num_col_dims"].i) == (2, 1)
        assert not {"trans_x", "trans_y"} & given.keys()
    # Products of two activations, in attention, stay.
    rest = [op for op in program.ops if op.type == "matmul_v2"]
    assert len(rest) == 4
    assert not [op for op in rest if argument(op, "Y") in arrays]


@both
def test_the_float_form_of_a_quantized_model_has_its_weights_on_the_grid(
    task: str, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    model = twin(task)
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path, quantized=False)
    program, arrays = read_back(tmp_path)
    assert not [op for op in program.ops if "quantize" in op.type]
    initializers = model.quantized.graph.initializers
    name = next(name for name in initializers if name.endswith("_quantized") and name.startswith("conv"))
    scale = initializers[name.replace("_quantized", "_scale")].const_value.numpy().reshape(-1, 1, 1, 1)
    weight = arrays[name.removesuffix("_quantized")]
    assert weight.dtype == np.float32
    assert weight == pytest.approx(initializers[name].const_value.numpy() * scale)


def test_the_files_are_small_and_whole(twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin("det")
    program, parameters = export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    assert parameters.stat().st_size < 0.45 * model.files.parameters.stat().st_size
    assert program.stat().st_size < model.files.program.stat().st_size  # the stack traces are gone
    assert b"op_callstack" not in program.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [PARAMETERS, PROGRAM]


def test_the_source_is_not_touched(twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin("det")
    before = model.files.sha256()
    export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    assert model.files.sha256() == before


def test_another_models_program_is_refused(twin: Callable[[str], Any], tmp_path: Path) -> None:
    det, rec = twin("det"), twin("rec")
    with pytest.raises(
        ModelError, match=r"no counterpart of its parameter .* name the Paddle model that was compressed"
    ):
        export_paddle(det.quantized, rec.files.program, rec.files.parameters, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_float_model_cannot_be_written_as_a_quantized_one(twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin("det")
    with pytest.raises(InputError, match="compress it with --target paddle"):
        export_paddle(model.canonical, model.files.program, model.files.parameters, tmp_path)


def test_asymmetric_activations_are_refused(twin: Callable[[str], Any], tmp_path: Path) -> None:
    model = twin("det")
    other = model.quantized.clone()
    name = next(name for name in other.graph.initializers if name.endswith("_zero_point") and "conv2d" not in name)
    other.graph.initializers[name].const_value = ir.tensor(np.array(7, np.int8), name=name)
    with pytest.raises(InputError, match="symmetric int8: compress with --target paddle, or export the float model"):
        export_paddle(other, model.files.program, model.files.parameters, tmp_path)
    export_paddle(other, model.files.program, model.files.parameters, tmp_path, quantized=False)


def test_paddle_is_not_needed() -> None:
    code = (
        "import sys\n"
        "for name in ('paddle', 'torch'): sys.modules[name] = None\n"
        "import ocrslim.export.paddle, ocrslim.export.deploy, ocrslim.engines.paddle"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def write_small(folder: Path, arrays: dict[str, Array], *ops: Any) -> None:
    """Write a program that reads x, makes y and has these parameters."""
    desc = message("ProgramDesc")
    desc.version.version = 2006002
    block = desc.blocks.add(idx=0, parent_idx=-1)
    feed = make_op("feed", {"X": "feed"}, {"Out": "x"}, {"col": (AttributeType.INT, 0)})
    fetch = make_op("fetch", {"X": "y"}, {"Out": "fetch"}, {"col": (AttributeType.INT, 0)})
    block.ops.extend([feed, *ops, fetch])
    for name, kind in (("feed", VarKind.FEED_MINIBATCH), ("fetch", VarKind.FETCH_LIST)):
        block.vars.add(name=name, persistable=True).type.type = int(kind)
    made = {name for op in (feed, *ops) for entry in op.outputs for name in entry.arguments if name not in arrays}
    block.vars.extend(
        make_var(name, VarKind.FP32, [-1, -1, -1, -1] if name != "x" else [-1, 2, -1, -1]) for name in made
    )
    block.vars.extend(make_var(name, VarKind.FP32, list(arrays[name].shape), persistable=True) for name in arrays)
    write_program(Program(desc), folder / PROGRAM)
    write_parameters(folder / PARAMETERS, arrays)


def convolution(source: str, weight: str, made: str) -> Any:
    op = make_op("conv2d", {"Input": source, "Filter": weight}, {"Output": made}, {})
    for name in ("strides", "paddings", "dilations"):
        numbers = [0, 0] if name == "paddings" else [1, 1]
        op.attrs.add(name=name, type=int(AttributeType.INTS)).ints.extend(numbers)
    set_attribute(op, "groups", AttributeType.INT, 1)
    set_attribute(op, "data_format", AttributeType.STRING, "NCHW")
    return op


def test_a_bias_without_a_place_gets_an_operator(run: Callable[..., list[Array]], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir(), out.mkdir()
    weight = rng.normal(size=(4, 2, 1, 1)).astype(np.float32)
    relu = make_op("relu", {"X": "c"}, {"Out": "y"}, {})
    write_small(source, {"w": weight}, convolution("x", "w", "c"), relu)
    graph = canonicalize(imported(source, tmp_path))
    conv = next(node for node in graph.graph if node.op_type == "Conv")
    conv.resize_inputs(3)
    bias = rng.normal(size=4).astype(np.float32)
    value = ir.Value(name="new", shape=ir.Shape([4]), const_value=ir.tensor(bias, name="new"))
    graph.graph.register_initializer(value)
    conv.replace_input_with(2, value)
    export_paddle(graph, source / PROGRAM, source / PARAMETERS, out, quantized=False)
    x = rng.normal(size=(1, 2, 3, 3)).astype(np.float32)
    wanted = np.maximum(np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x) + bias.reshape(1, 4, 1, 1), 0)
    assert run(imported(out, tmp_path), x)[0] == pytest.approx(wanted, abs=1e-5)
    program, arrays = read_back(out)
    assert [op.type for op in program.ops] == ["feed", "conv2d", "elementwise_add", "relu", "fetch"]
    assert arrays["c.bias"] == pytest.approx(bias)


def test_a_pruned_graph_makes_a_smaller_program(run: Callable[..., list[Array]], tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir(), out.mkdir()
    names = {"Scale": "bn.w", "Bias": "bn.b", "Mean": "bn.m", "Variance": "bn.v"}
    arrays = {name: rng.uniform(0.5, 1.5, 4).astype(np.float32) for name in names.values()}
    arrays |= {"w": rng.normal(size=(4, 2, 1, 1)).astype(np.float32), "v": rng.normal(size=(3, 4, 1, 1)).astype("f")}
    norm = make_op("batch_norm", {"X": "c", **names}, {"Y": "n"}, {"epsilon": (AttributeType.FLOAT, 1e-5)})
    relu = make_op("relu", {"X": "n"}, {"Out": "r"}, {})
    write_small(source, arrays, convolution("x", "w", "c"), norm, relu, convolution("r", "v", "y"))
    graph = canonicalize(imported(source, tmp_path))
    first, _, second = graph.graph
    for node, index, kept in ((first, 1, np.s_[[0, 2]]), (first, 2, np.s_[[0, 2]]), (second, 1, np.s_[:, [0, 2]])):
        old = node.inputs[index]
        old.const_value = ir.tensor(np.ascontiguousarray(old.const_value.numpy()[kept]), name=old.name)
        old.shape = old.const_value.shape
        first.outputs[0].shape = None
    graph.graph.node(1).outputs[0].shape = None
    export_paddle(graph, source / PROGRAM, source / PARAMETERS, out, quantized=False)
    x = rng.normal(size=(1, 2, 3, 3)).astype(np.float32)
    assert run(imported(out, tmp_path), x)[0] == pytest.approx(run(graph, x)[0], abs=1e-5)
    program, small = read_back(out)
    assert small["w"].shape == (2, 2, 1, 1)
    assert {small[name].shape for name in names.values()} == {(2,)}
    assert list(program.vars["v"].type.lod_tensor.tensor.dims) == [3, 2, 1, 1]
