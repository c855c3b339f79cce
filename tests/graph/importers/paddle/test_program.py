from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ocrslim.errors import ModelError
from ocrslim.graph.importers.paddle.framework import message
from ocrslim.graph.importers.paddle.program import (
    DTYPES,
    Array,
    Program,
    read_parameters,
    read_program,
    write_parameters,
    write_program,
)

REAL = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")
dtypes = st.sampled_from([dtype for dtype in DTYPES.values() if dtype != ml_dtypes.bfloat16])
tensors = dtypes.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)))


@pytest.mark.parametrize("name", REAL)
def test_an_untouched_real_model_comes_out_byte_for_byte(
    name: str, paddle_zoo: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = paddle_zoo(name)
    program = read_program(folder / "inference.pdmodel")
    write_program(program, tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == (folder / "inference.pdmodel").read_bytes()
    parameters = read_parameters(folder / "inference.pdiparams", program.persistable_names)
    assert len(parameters) == 234
    write_parameters(tmp_path / "w", parameters)
    assert (tmp_path / "w").read_bytes() == (folder / "inference.pdiparams").read_bytes()


def test_the_shapes_are_those_that_the_program_declares(paddle_zoo: Callable[[str], Path]) -> None:
    folder = paddle_zoo("PP-OCRv4_mobile_det")
    program = read_program(folder / "inference.pdmodel")
    for name, array in read_parameters(folder / "inference.pdiparams", program.persistable_names).items():
        tensor = program.vars[name].type.lod_tensor.tensor
        assert (tuple(tensor.dims), DTYPES[tensor.data_type]) == (array.shape, array.dtype)


@given(st.dictionaries(st.text("abw_.0123", min_size=1, max_size=8), tensors, max_size=4))
def test_any_arrays_come_back(tmp_path_factory: pytest.TempPathFactory, given_arrays: dict[str, Array]) -> None:
    path = tmp_path_factory.mktemp("p") / "w"
    write_parameters(path, given_arrays)
    found = read_parameters(path, list(given_arrays)[::-1])
    assert list(found) == sorted(given_arrays)
    for name, array in found.items():
        assert array.dtype == given_arrays[name].dtype
        np.testing.assert_array_equal(array, given_arrays[name])


def test_a_tensor_lies_in_the_file_as_the_format_says(tmp_path: Path) -> None:
    write_parameters(tmp_path / "w", {"b": np.array([[1, -2]], np.int8), "a": np.array([True])})
    head = struct.pack("<IQI", 0, 0, 0)
    a = head + struct.pack("<i", 4) + b"\x08\x00\x10\x01" + b"\x01"
    b = head + struct.pack("<i", 6) + b"\x08\x15\x10\x01\x10\x02" + b"\x01\xfe"
    assert (tmp_path / "w").read_bytes() == a + b


def test_half_precision_of_the_brain_kind_is_read(tmp_path: Path) -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    write_parameters(tmp_path / "w", {"a": array})
    assert read_parameters(tmp_path / "w", ["a"])["a"].dtype == ml_dtypes.bfloat16


def test_a_type_that_paddle_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a: Paddle has no element type uint16"):
        write_parameters(tmp_path / "w", {"a": np.zeros(2, np.uint16)})
    assert not list(tmp_path.iterdir())


def test_only_parameters_are_persistable(small: tuple[Program, dict[str, Array]]) -> None:
    assert small[0].persistable_names == ["conv2d_0.b_0", "conv2d_0.w_0"]  # and not feed and fetch


def test_a_clone_goes_its_own_way(small: tuple[Program, dict[str, Array]]) -> None:
    clone = small[0].clone()
    clone.ops[1].type = "relu"
    assert small[0].ops[1].type == "conv2d"
    assert clone.path == small[0].path


class TestFaults:
    """Every fault is one line that names the file, what was expected and the way out."""

    @pytest.fixture
    def folder(self, save_small: Callable[..., Path], tmp_path: Path) -> Path:
        return save_small(tmp_path)

    def check(self, path: Path, match: str) -> None:
        names = ["conv2d_0.b_0", "conv2d_0.w_0"]
        with pytest.raises(ModelError, match=match) as caught:
            read_program(path) if path.suffix == ".pdmodel" else read_parameters(path, names)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        self.check(tmp_path / "none.pdmodel", r"can't be read \(No such file or directory\); a Paddle model is two")
        self.check(tmp_path / "none.pdiparams", "can't be read")

    def test_swapped(self, folder: Path) -> None:
        program, parameters = folder / "inference.pdmodel", folder / "inference.pdiparams"
        contents = program.read_bytes(), parameters.read_bytes()
        program.write_bytes(contents[1])
        parameters.write_bytes(contents[0])
        self.check(program, r"expected a Paddle program .* seems to be parameters .* swapped; download or export")
        self.check(parameters, r"expected Paddle parameters .* seems to be a program .* swapped")

    @pytest.mark.parametrize("keep", [1, 19, 25, -1, -40])
    def test_parameters_cut_off(self, folder: Path, keep: int) -> None:
        path = folder / "inference.pdiparams"
        path.write_bytes(path.read_bytes()[:keep])
        self.check(path, r"cut off within tensor|expected Paddle parameters|ends after")

    def test_parameters_cut_off_between_two(self, folder: Path) -> None:
        path = folder / "inference.pdiparams"
        path.write_bytes(path.read_bytes()[: 20 + 4 + 4])  # head, description and data of the bias
        self.check(path, "ends after 1 of 2 tensors; is it of another model")

    def test_parameters_of_another_model(self, folder: Path) -> None:
        path = folder / "inference.pdiparams"
        path.write_bytes(path.read_bytes() * 2)
        self.check(path, "holds more than the 2 tensors of the program")

    def test_program_cut_off(self, folder: Path) -> None:
        path = folder / "inference.pdmodel"
        path.write_bytes(path.read_bytes()[:-9])
        self.check(path, "expected a Paddle program .* cut off")

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"", "an empty file"),
            (b"PK\x03\x04 and so on", "a zip archive"),
            (b"\x1f\x8b and so on", "a gzip file"),
            (b'{"base_code": {}}', "JSON: give the .json file"),
            (b"version https://git-lfs.github.com/spec/v1", "a git-lfs pointer"),
            (b"\xff" * 40, "something else"),
        ],
    )
    def test_foreign(self, folder: Path, content: bytes, found: str) -> None:
        for name in ("inference.pdmodel", "inference.pdiparams"):
            (folder / name).write_bytes(content)
            self.check(folder / name, rf"expected .* found {found}")

    @pytest.mark.parametrize("dims", [[-1], [1 << 40, 1 << 40]])
    def test_impossible_sizes(self, tmp_path: Path, dims: list[int]) -> None:
        desc = message("TensorDesc")
        desc.data_type = 5
        desc.dims.extend(dims)
        described = desc.SerializeToString()
        path = tmp_path / "w.pdiparams"
        path.write_bytes(struct.pack("<IQIi", 0, 0, 0, len(described)) + described + bytes(8))
        self.check(path, "expected Paddle parameters|cut off within tensor 1 of 2")

    @given(st.binary(max_size=200))
    def test_noise_is_never_a_traceback(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        path = tmp_path_factory.mktemp("p") / "w.pdiparams"
        path.write_bytes(content)
        with pytest.raises(ModelError):
            read_parameters(path, ["a"])
        with pytest.raises(ModelError):
            read_program(path)
