"""Networks of one operation, programs and PIR files written by hand, and the real models in Paddle's format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from ocrslim.errors import OcrslimError
from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind, message
from ocrslim.graph.importers.paddle.network import Network, Operation, Variable
from ocrslim.graph.importers.paddle.program import DTYPES, Program, write_parameters, write_program

collect_ignore = ["export_with_paddle.py"]  # it runs in a Python that has paddle

Array = np.ndarray[Any, np.dtype[Any]]
Operate = Callable[..., Any]
KINDS = {dtype: kind for kind, dtype in DTYPES.items()}


def _run_onnx(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Check a model and run it in ONNX Runtime as it is written."""
    proto = ir.to_proto(model)
    for output in proto.graph.output:
        output.type.tensor_type.shape.SetInParent()  # the checker demands shapes of outputs, engines don't
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    for output in proto.graph.output:
        if not output.type.tensor_type.shape.dim:
            output.type.tensor_type.ClearField("shape")  # of unknown rank
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {item.name for item in session.get_inputs()}
    return list(session.run(None, {name: array for name, array in feeds.items() if name in wanted}))


@pytest.fixture(scope="session")
def run_onnx() -> Callable[[ir.Model, Mapping[str, Array]], list[Array]]:
    """Return a function that checks a model and runs it in ONNX Runtime as it is written."""
    return _run_onnx


@pytest.fixture(scope="session")
def operate() -> Operate:
    """Return a function that runs one operation: ``operate("relu", {"X": x}, {"threshold": 6.0})``.

    Slots take an array or a list of them. What is named in ``constants`` is a parameter, all else is fed. ``result``
    is the dtype of the output, ``shape`` what the model says of its shape, ``outputs`` how many there are.
    """

    def run(
        type_: str,
        inputs: Mapping[str, Array | Sequence[Array]],
        attributes: Mapping[str, Any] | None = None,
        *,
        slot: str = "Out",
        constants: Sequence[str] = (),
        result: Any = np.float32,
        shape: tuple[int, ...] | None = None,
        outputs: int = 1,
        open_sizes: bool = True,
    ) -> Any:
        feeds, parameters, slots = {}, {}, {}
        variables: dict[str, Variable] = {}
        for name, given in inputs.items():
            arrays = [given] if isinstance(given, np.ndarray) else list(given)
            names = [f"{name}{index}" for index in range(len(arrays))]
            slots[name] = tuple(names)
            for each, array in zip(names, arrays, strict=True):
                (parameters if name in constants else feeds)[each] = array
                sizes = tuple(-1 if open_sizes and axis != 1 else size for axis, size in enumerate(array.shape))
                variables[each] = Variable(sizes, array.dtype)
        made = tuple(f"y{index}" for index in range(outputs))
        variables |= {name: Variable(shape, np.dtype(result)) for name in made}
        operation = Operation(type_, slots, {slot: made}, dict(attributes or {}), type_)
        network = Network(Path("one.pdmodel"), tuple(feeds), made, (operation,), variables, parameters)
        found = _run_onnx(to_onnx(network), feeds)
        for array in found:
            assert array.dtype == result
        return found[0] if outputs == 1 else found

    return run


@pytest.fixture(scope="session")
def numbers() -> Callable[..., Array]:
    """Return a function that makes normal numbers of a shape, always the same for it."""

    def make(*shape: int, seed: int = 0) -> Array:
        return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)

    return make


def _set_attribute(op: Any, name: str, value: Any) -> None:
    """Append an attribute to an ``OpDesc``, in the type that the Python value suggests."""
    attribute = op.attrs.add(name=name)
    first = value[0] if isinstance(value, list) and value else value
    single: dict[type, tuple[int, str]] = {
        bool: (AttributeType.BOOLEAN, "b"),
        int: (AttributeType.INT, "i"),
        float: (AttributeType.FLOAT, "f"),
        str: (AttributeType.STRING, "s"),
    }
    several: dict[type, tuple[int, str]] = {
        bool: (AttributeType.BOOLEANS, "bools"),
        int: (AttributeType.INTS, "ints"),
        float: (AttributeType.FLOATS, "floats"),
        str: (AttributeType.STRINGS, "strings"),
    }
    if isinstance(value, list):
        kind, field = several.get(type(first), (AttributeType.INTS, "ints"))
        getattr(attribute, field).extend(value)
    else:
        kind, field = single[type(value)]
        setattr(attribute, field, value)
    attribute.type = int(kind)


def _make_program(
    operations: Sequence[tuple[str, Mapping[str, Sequence[str]], Mapping[str, Sequence[str]], Mapping[str, Any]]],
    variables: Mapping[str, tuple[Sequence[int], Any]],
    persistable: Sequence[str] = (),
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
) -> Program:
    """Write a program: operations as (type, inputs, outputs, attributes), variables as (sizes, dtype)."""
    desc = message("ProgramDesc")
    desc.version.version = 2006002
    block = desc.blocks.add(idx=0, parent_idx=-1)
    feeds = [("feed", {"X": ["feed"]}, {"Out": [name]}, {"col": col}) for col, name in enumerate(inputs)]
    fetches = [("fetch", {"X": [name]}, {"Out": ["fetch"]}, {"col": col}) for col, name in enumerate(outputs)]
    for type_, read, written, attributes in (*feeds, *operations, *fetches):
        op = block.ops.add(type=type_)
        for container, slots in ((op.inputs, read), (op.outputs, written)):
            for parameter, arguments in slots.items():
                container.add(parameter=parameter, arguments=list(arguments))
        for name, value in attributes.items():
            _set_attribute(op, name, value)
    for name, kind in (("feed", VarKind.FEED_MINIBATCH), ("fetch", VarKind.FETCH_LIST)):
        var = block.vars.add(name=name, persistable=True)
        var.type.type = int(kind)
    for name, (sizes, dtype) in variables.items():
        var = block.vars.add(name=name, persistable=name in persistable)
        var.type.type = int(VarKind.DENSE_TENSOR)
        var.type.lod_tensor.tensor.data_type = int(KINDS[np.dtype(dtype)])
        var.type.lod_tensor.tensor.dims.extend(sizes)
    return Program(desc)


@pytest.fixture(scope="session")
def make_program() -> Callable[..., Program]:
    """Return a function that writes a program; see there."""
    return _make_program


@pytest.fixture
def small() -> tuple[Program, dict[str, Array]]:
    """A detector in small: a convolution with bias, a batch norm, an activation; with its parameters."""
    random = np.random.default_rng(7)
    arrays = {
        "conv2d_0.w_0": random.normal(size=(1, 3, 3, 3)).astype(np.float32),
        "conv2d_0.b_0": np.array([0.5], np.float32),
    }
    program = _make_program(
        [
            (
                "conv2d",
                {"Input": ["x"], "Filter": ["conv2d_0.w_0"]},
                {"Output": ["conv2d_0.tmp_0"]},
                {"strides": [1, 1], "paddings": [1, 1], "dilations": [1, 1], "groups": 1, "data_format": "NCHW"},
            ),
            (
                "elementwise_add",
                {"X": ["conv2d_0.tmp_0"], "Y": ["conv2d_0.b_0"]},
                {"Out": ["conv2d_0.tmp_1"]},
                {"axis": 1},
            ),
            ("sigmoid", {"X": ["conv2d_0.tmp_1"]}, {"Out": ["y"]}, {}),
        ],
        {
            "x": ((-1, 3, -1, -1), np.float32),
            **{name: (array.shape, np.float32) for name, array in arrays.items()},
            **{name: ((-1, 1, -1, -1), np.float32) for name in ("conv2d_0.tmp_0", "conv2d_0.tmp_1", "y")},
        },
        tuple(arrays),
    )
    return program, arrays


@pytest.fixture
def save_small(small: tuple[Program, dict[str, Array]]) -> Callable[..., Path]:
    """Return a function that writes the small model into a folder, under the names that are wanted."""

    def save(folder: Path, program: str = "inference.pdmodel", parameters: str = "inference.pdiparams") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        write_program(small[0], folder / program)
        write_parameters(folder / parameters, small[1])
        return folder

    return save


@pytest.fixture
def small_pir(small: tuple[Program, dict[str, Array]]) -> bytes:
    """The small model as Paddle 3 writes it."""

    def type_(sizes: Sequence[int]) -> dict[str, Any]:
        return {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, list(sizes), "NCHW", [], 0]}

    def op(name: str, read: Sequence[int], made: int, sizes: Sequence[int], /, **given: Any) -> dict[str, Any]:
        attributes = [{"N": key, "AT": value} for key, value in given.items()]
        outputs = [{"%": made, "TT": type_(sizes)}]
        return {"#": name, "A": attributes, "I": [{"%": value} for value in read], "O": outputs, "OA": []}

    def numbers(kind: str, *values: int) -> dict[str, Any]:
        return {"#": "0.a_array", "D": [{"#": f"0.{kind}", "D": value} for value in values]}

    names = sorted(small[1])  # the bias is 1, the weight 2
    parameters = [
        {
            "#": "p",
            "A": [0, 1, 0, name],
            "DA": [],
            "O": {"%": value, "TT": type_(small[1][name].shape)},
            "OA": [1, 0, 1],
        }
        for value, name in enumerate(names, 1)
    ]
    text, open_map = "0.a_str", (-1, 1, -1, -1)
    operations = [
        *parameters,
        op("1.data", [], 3, (-1, 3, -1, -1), name={"#": text, "D": "x"}),
        op("1.conv2d", [3, 2], 4, open_map, strides=numbers("a_i32", 1, 1), paddings=numbers("a_i32", 1, 1)),
        op("1.full_int_array", [], 5, (4,), value=numbers("a_i64", 1, 1, 1, 1)),
        op("1.reshape", [1, 5], 6, (1, 1, 1, 1)),
        op("1.add", [4, 6], 7, open_map),
        op("1.sigmoid", [7], 8, open_map),
        op("1.fetch", [8], 9, open_map, name={"#": text, "D": "fetch_name_0"}),
    ]
    content = {
        "base_code": {"magic": "pir", "trainable": True, "version": 3},
        "program": {"regions": [{"#": "region_0", "blocks": [{"#": "block_0", "args": [], "ops": operations}]}]},
    }
    return json.dumps(content).encode()


@pytest.fixture(scope="session")
def paddle_zoo() -> Callable[[str], Path]:
    """Return a function from an official name to its folder in Paddle's format, fetched once into the cache."""
    from ocrslim.graph.importers.paddle.zoo import pull_paddle

    def folder(name: str) -> Path:
        try:
            return pull_paddle(name)
        except OcrslimError as error:
            pytest.skip(f"model {name} can't be fetched here: {error}")

    return folder
