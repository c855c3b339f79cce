from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.network import Network
from ocrslim.graph.importers.paddle.pir import VERSIONS, parameter_names, read_pir, read_pir_file


def pir_type(sizes: Sequence[int], element: str = "f32") -> dict[str, Any]:
    return {"#": "0.t_dtensor", "D": [{"#": f"0.t_{element}"}, list(sizes), "NCHW", [], 0]}


def pir_value(value: Any) -> dict[str, Any]:
    """Write a Python value as PIR writes an attribute."""
    if isinstance(value, list):
        return {"#": "0.a_array", "D": [pir_value(item) for item in value]}
    if isinstance(value, np.dtype):
        return {"#": "1.a_dtype", "D": value.name}
    for type_, kind in ((bool, "a_bool"), (int, "a_i32"), (float, "a_f32"), (str, "a_str")):
        if isinstance(value, type_):
            return {"#": f"0.{kind}", "D": value}
    raise TypeError(value)


def pir_op(
    name: str, inputs: Sequence[int], outputs: Sequence[tuple[int, Any]], /, **attributes: Any
) -> dict[str, Any]:
    """Write an operation: inputs by id, outputs as (id, type)."""
    return {
        "#": name,
        "A": [{"N": key, "AT": pir_value(value)} for key, value in attributes.items()],
        "I": [{"%": value} for value in inputs],
        "O": [{"%": value, "TT": type_} for value, type_ in outputs],
        "OA": [],
    }


def pir_parameter(value: int, name: str, sizes: Sequence[int], persistable: int = 1) -> dict[str, Any]:
    return {
        "#": "p",
        "A": [0, 1, 0, name],
        "DA": [],
        "O": {"%": value, "TT": pir_type(sizes)},
        "OA": [persistable, 0, 1],
    }


def pir_file(operations: Sequence[Any], version: int = 3) -> bytes:
    block = {"#": "block_0", "args": [], "ops": list(operations)}
    content = {
        "base_code": {"magic": "pir", "trainable": True, "version": version},
        "program": {"regions": [{"#": "region_0", "blocks": [block]}]},
    }
    return json.dumps(content).encode()


PATH = Path("inference.json")
Run = Callable[..., Any]
MAP = pir_type((-1, 4, -1, -1))
X = pir_op("1.data", [], [(1, MAP)], name="x", shape=[-1, 4, -1, -1])


def fetch(value: int, type_: Any = MAP, name: str = "fetch_name_0") -> Any:
    return pir_op("1.fetch", [value], [(99, type_)], name=name, col=0)


def full(value: int, number: float, dtype: Any = np.int32) -> Any:
    """``full`` of one element, as scalars are given."""
    kind = {"int32": "i32", "int64": "i64", "float32": "f32"}[np.dtype(dtype).name]
    op = pir_op("1.full", [], [(value, pir_type((1,), kind))], value=float(number), dtype=np.dtype(dtype))
    op["A"].append({"N": "shape", "AT": {"#": "1.a_intarray", "D": [1]}})
    return op


def integers(value: int, *numbers: int) -> Any:
    return pir_op("1.full_int_array", [], [(value, pir_type((len(numbers),), "i64"))], value=list(numbers))


def network(operations: Sequence[Any], parameters: dict[str, Any] | None = None) -> Network:
    return read_pir(PATH, operations, parameters or {})


@pytest.fixture
def run(run_onnx: Run) -> Run:
    """Return a function that runs operations on an input."""
    return lambda operations, x: run_onnx(to_onnx(network(operations)), {"x": x})[0]


@pytest.fixture
def x(numbers: Any) -> Any:
    return numbers(2, 4, 6, 8)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_the_file_is_read(version: int, tmp_path: Path) -> None:
    path = tmp_path / "inference.json"
    operations = [pir_parameter(2, "w", (4,)), X, pir_op("1.relu", [1], [(3, MAP)]), fetch(3)]
    path.write_bytes(pir_file(operations, version))
    found = read_pir_file(path)
    assert found == operations
    assert parameter_names(found) == ["w"]


def test_names_are_the_operators_and_the_ids(run_onnx: Run, x: Any) -> None:
    found = network([X, pir_op("1.relu", [1], [(3, MAP)]), fetch(3)])
    assert (found.inputs, found.outputs) == (("x",), ("fetch_name_0",))
    assert [operation.name for operation in found.operations] == ["relu_3", "fetch_name_0"]
    assert found.variables["relu_3"].shape == (-1, 4, -1, -1)
    model = to_onnx(found)
    assert [value.name for value in model.graph.outputs] == ["fetch_name_0"]
    np.testing.assert_array_equal(run_onnx(model, {"x": x})[0], np.maximum(x, 0))


@pytest.mark.parametrize("kind", ["1.feed", "1.data", "pd_op.feed", "pd_op.data"])
def test_inputs_come_in_two_kinds_and_two_spellings(kind: str) -> None:
    operations = [pir_op(kind, [], [(1, MAP)], name="x"), pir_op("pd_op.relu", [1], [(3, MAP)]), fetch(3)]
    assert network(operations).inputs == ("x",)


def test_states_that_are_not_persistable_are_not_in_the_file() -> None:
    operations = [pir_parameter(1, "a", (2,)), pir_parameter(2, "dropout_state", (), persistable=0)]
    assert parameter_names(operations) == ["a"]


def test_a_parameter_may_be_spelt_in_full() -> None:
    spelt = pir_op("0.parameter", [], [], parameter_name="w") | {"O": {"%": 2, "TT": pir_type((4,))}}
    assert parameter_names([spelt]) == ["w"]


def test_variants_in_place_are_the_operator_itself(run: Run, x: Any) -> None:
    np.testing.assert_array_equal(run([X, pir_op("1.relu_", [1], [(3, MAP)]), fetch(3)], x), np.maximum(x, 0))


def test_constants_go_back_into_attributes(run: Run, x: Any) -> None:
    operations = [
        X,
        integers(2, 0, 2, 2, -1),
        pir_op("1.reshape", [1, 2], [(3, pir_type((-1, 2, 2, -1)))]),
        full(4, 0.5, np.float32),
        pir_op("1.scale", [3, 4], [(5, pir_type((-1, 2, 2, -1)))], bias=1.0, bias_after_scale=True),
        fetch(5),
    ]
    found = {operation.type: operation for operation in network(operations).operations}
    assert found["reshape2"].attributes["shape"] == [0, 2, 2, -1]
    assert set(found["reshape2"].inputs) == {"X"}
    assert found["scale"].attributes["scale"] == 0.5
    np.testing.assert_allclose(run(operations, x), x.reshape(2, 2, 2, -1) * 0.5 + 1, rtol=1e-6)


def test_what_is_no_constant_stays_a_tensor(run: Run, x: Any) -> None:
    # reshape(x, combine(shape(x)[0:1], 4, -1)): PP-OCRv4's recogniser does so.
    one = pir_type((1,), "i32")
    operations = [
        X,
        pir_op("1.shape", [1], [(2, pir_type((4,), "i32"))]),
        integers(3, 0),
        integers(4, 1),
        pir_op("1.slice", [2, 3, 4], [(5, one)], axes=[0], infer_flags=[1], decrease_axis=[0]),
        full(6, 4),
        full(7, -1),
        pir_op("0.combine", [5, 6, 7], [(8, {"#": "0.t_vec", "D": [one, one, one]})]),
        pir_op("1.reshape", [1, 8], [(9, pir_type((-1, 4, -1)))]),
        fetch(9, pir_type((-1, 4, -1))),
    ]
    reshape = next(operation for operation in network(operations).operations if operation.type == "reshape2")
    assert reshape.inputs["ShapeTensor"] == ("slice_5", "full_6", "full_7")
    np.testing.assert_array_equal(run(operations, x), x.reshape(2, 4, -1))


def test_lists_of_tensors_are_taken_apart_and_put_together(run: Run, x: Any) -> None:
    half = pir_type((-1, 2, -1, -1))
    both = {"#": "0.t_vec", "D": [half, half]}
    operations = [
        X,
        full(2, 1),
        pir_op("1.split_with_num", [1, 2], [(3, both)], num=2),
        pir_op("0.split", [3], [(4, half), (5, half)]),
        pir_op("0.combine", [5, 4], [(6, both)]),
        pir_op("1.concat", [6, 2], [(7, MAP)]),
        fetch(7),
    ]
    np.testing.assert_array_equal(run(operations, x), np.concatenate([x[:, 2:], x[:, :2]], 1))


def test_one_of_a_list_is_taken(run: Run, x: Any) -> None:
    half = pir_type((-1, 2, -1, -1))
    operations = [
        X,
        full(2, 1),
        pir_op("1.split_with_num", [1, 2], [(3, {"#": "0.t_vec", "D": [half, half]})], num=2),
        pir_op("0.slice", [3], [(4, half)], index=1),
        fetch(4, half),
    ]
    np.testing.assert_array_equal(run(operations, x), x[:, 2:])


def test_omitted_inputs_are_zero(run: Run, x: Any) -> None:
    operations = [
        X,
        pir_op(
            "1.nearest_interp",
            [1, 0, 0, 0],
            [(2, MAP)],
            data_format="NCHW",
            out_h=-1,
            out_w=-1,
            scale=[2.0, 2.0],
            align_corners=False,
            align_mode=1,
        ),
        fetch(2),
    ]
    np.testing.assert_array_equal(run(operations, x), x.repeat(2, 2).repeat(2, 3))


@pytest.mark.parametrize(("number", "text"), [(float("inf"), "inf"), (float("-inf"), "-inf")])
def test_numbers_that_json_has_not_are_read(number: float, text: str, x: Any) -> None:
    operations = [X, full(2, 0.0, np.float32), full(3, 0.0, np.float32), pir_op("1.clip", [1, 2, 3], [(4, MAP)])]
    operations[2]["A"][0] = {"N": "value", "AT": {"#": "0.a_f64", "VD": text}}
    assert network([*operations, fetch(4)]).operations[2].attributes["max"] == number


@pytest.mark.parametrize("element", ["Undefined(ALL_DTYPE)", "float32", "bfloat16", "bool"])
def test_element_types_are_read(element: str) -> None:
    op = pir_op("1.sum", [1], [(2, MAP)], keepdim=True)
    op["A"].append({"N": "dtype", "AT": {"#": "1.a_dtype", "D": element}})
    found = network([X, op, fetch(2)]).operations[0].attributes["dtype"]
    assert found is None if element.startswith("Un") else found.name == element


def test_an_operator_without_counterpart_is_told() -> None:
    with pytest.raises(ModelError, match=r"operator pd_op\.fft_c2c of node 'fft_c2c_2': has no converter; convert"):
        to_onnx(network([X, pir_op("1.fft_c2c", [1], [(2, MAP)]), fetch(2)]))
    with pytest.raises(ModelError, match=r"operator custom_op\.mine of node 'mine_2'"):
        to_onnx(network([X, pir_op("3.mine", [1], [(2, MAP)]), fetch(2)]))


class TestFaults:
    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"{}", b'{"base_code": {"magic": "pir"}}', b"\xff\xfe", b'{"model": "hf config"}', b"null"],
    )
    def test_foreign_or_cut_off(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "inference.json"
        path.write_bytes(content)
        with pytest.raises(
            ModelError, match=r"inference\.json: expected a PIR program of Paddle 3 .* export"
        ) as caught:
            read_pir_file(path)
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="can't be read"):
            read_pir_file(tmp_path / "inference.json")

    @pytest.mark.parametrize("version", [0, 5])
    def test_another_version(self, tmp_path: Path, version: int) -> None:
        path = tmp_path / "inference.json"
        path.write_bytes(pir_file([X, fetch(1)], version))
        with pytest.raises(ModelError, match=rf"format version {version}, known are 1, 2, 3, 4"):
            read_pir_file(path)

    def test_another_magic(self, tmp_path: Path) -> None:
        path = tmp_path / "inference.json"
        path.write_bytes(pir_file([X, fetch(1)]).replace(b'"pir"', b'"cinn"'))
        with pytest.raises(ModelError, match="expected a PIR program"):
            read_pir_file(path)

    def test_control_flow(self, tmp_path: Path) -> None:
        path = tmp_path / "inference.json"
        path.write_bytes(pir_file([X, pir_op("2.if", [1], [(2, MAP)]) | {"regions": [{"blocks": []}]}, fetch(2)]))
        with pytest.raises(ModelError, match="has control flow"):
            read_pir_file(path)

    @pytest.mark.parametrize("operations", [[X], [pir_op("1.relu", [0], [(2, MAP)])]])
    def test_neither_input_nor_output(self, operations: list[Any]) -> None:
        with pytest.raises(ModelError, match="has no input or no output"):
            network(operations)

    def test_a_value_that_nothing_makes(self) -> None:
        with pytest.raises(ModelError, match="is not as expected"):
            network([X, pir_op("1.relu", [77], [(2, MAP)]), fetch(2)])

    @given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
    def test_operations_of_any_form_are_never_a_traceback(self, operation: Any) -> None:
        with pytest.raises(ModelError):
            network([operation])

    @given(st.data())
    def test_a_file_with_a_part_missing_is_never_a_traceback(self, data: st.DataObject) -> None:
        operations = json.loads(json.dumps([X, full(2, 1), pir_op("1.concat", [1, 2], [(3, MAP)]), fetch(3)]))
        victim = data.draw(st.sampled_from(operations))
        victim.pop(data.draw(st.sampled_from(sorted(victim))))
        with contextlib.suppress(ModelError):
            to_onnx(network(operations))
