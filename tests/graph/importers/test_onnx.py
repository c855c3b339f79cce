from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ocrslim.errors import InputError, ModelError
from ocrslim.graph.importers.onnx import external_files, load_onnx

Build = Callable[..., ir.Model]


def one_line(error: BaseException) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_loads_weights_and_metadata(build: Build, tmp_path: Path) -> None:
    model = build("y = Mul(x, w)", {"w": np.float32([2, 3, 4]).reshape(3, 1, 1)})
    model.metadata_props["character"] = "a\nb"
    path = tmp_path / "model.onnx"
    ir.save(model, path)
    loaded = load_onnx(str(path))
    path.unlink()
    assert loaded.metadata_props == {"character": "a\nb"}
    assert loaded.graph.initializers["w"].const_value.numpy().ravel().tolist() == [2, 3, 4]


def test_external_data_beside_the_file_are_read_into_memory(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    values = np.arange(3000, dtype=np.float32).reshape(3, 1000, 1)
    ir.save(build("y = Mul(x, w)", {"w": values}), path, external_data="weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size >= values.nbytes
    loaded = load_onnx(path)
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(loaded.graph.initializers["w"].const_value.numpy(), values)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname"])
def test_external_data_elsewhere_are_refused(build: Build, tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.onnx"
    values = np.arange(3000, dtype=np.float32)
    ir.save(build("y = Mul(x, w)", {"w": values}, x="float[3000]"), path, external_data="weights.bin")
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    assert str(path) in one_line(caught.value)


def test_a_missing_file_is_told_with_the_way_to_name_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.onnx: no such file; .*`ocrslim models`"):
        load_onnx(tmp_path / "nothing.onnx")
    with pytest.raises(InputError):
        load_onnx(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 1000, b"\x08\x07\x12\x05paddle"])
def test_a_file_that_is_no_model_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    text = one_line(caught.value)
    assert "broken.onnx" in text
    assert "export or download it again" in text


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_half_a_download_is_told(zoo: Callable[[str], Path], tmp_path: Path, share: float) -> None:
    whole = zoo("PP-OCRv6_tiny_det").read_bytes()
    path = tmp_path / "half.onnx"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    assert "half.onnx" in one_line(caught.value)


def test_an_invalid_graph_is_told(tmp_path: Path, build: Build) -> None:
    proto = ir.to_proto(build("y = Relu(x)"))
    proto.graph.node[0].input[0] = "nowhere"
    path = tmp_path / "invalid.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    assert "invalid.onnx" in one_line(caught.value)


def _external(build: Build, tmp_path: Path, **changes: str) -> Path:
    """Save a model with its weights beside it, and change what it says of their place."""
    path = tmp_path / "model.onnx"
    values = np.arange(3000, dtype=np.float32)
    ir.save(build("y = Mul(x, w)", {"w": values}, x="float[3000]"), path, external_data="weights.bin")
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        entry.value = changes.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"length": "12001"},
        {"length": "11996"},
        {"length": "-1"},
        {"offset": "4"},
        {"offset": "-4"},
        {"offset": str(1 << 60)},
        {"length": str(1 << 60)},
        {"location": "."},
        {"location": "model.onnx/../../x"},
        {"location": "x\n\x1b[31m"},
    ],
)
def test_what_a_model_claims_of_the_file_beside_it_is_checked(
    build: Build, tmp_path: Path, changes: dict[str, str]
) -> None:
    load_onnx(_external(build, tmp_path))
    with pytest.raises(ModelError) as caught:
        load_onnx(_external(build, tmp_path, **changes))
    assert "model.onnx" in one_line(caught.value)


def test_a_link_out_of_the_folder_is_no_file_of_the_folder(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = _external(build, folder)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="not in a file of its folder"):
        load_onnx(path)


@pytest.mark.parametrize("dims", [[3000, 2], [1 << 40], [1 << 31, 1 << 31], [-1], [0, 5]])
def test_sizes_that_the_bytes_do_not_fill_are_told(build: Build, tmp_path: Path, dims: list[int]) -> None:
    proto = ir.to_proto(build("y = Mul(x, w)", {"w": np.ones(3000, np.float32)}, x="float[3000]"))
    proto.graph.initializer[0].dims[:] = dims
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load_onnx(path)
    assert "model.onnx" in one_line(caught.value)


def test_a_constant_without_a_value_is_told(build: Build, tmp_path: Path) -> None:
    proto = ir.to_proto(build("k = Constant<value_float=2.0>() y = Mul(x, k)"))
    proto.graph.node[0].ClearField("attribute")
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"not a readable ONNX model .the Constant 'Constant_0' has 0 values"):
        load_onnx(path)


def test_the_files_beside_a_model_are_named(build: Build, tmp_path: Path) -> None:
    assert external_files(_external(build, tmp_path)) == [tmp_path / "weights.bin"]
    ir.save(build("y = Relu(x)"), tmp_path / "plain.onnx")
    assert external_files(tmp_path / "plain.onnx") == []


def test_a_name_longer_than_any_file_has_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match=r"^x{300}: no such file"):
        load_onnx("x" * 300)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(ModelError, match=r"huge\.onnx: larger than 1 GiB"):
        load_onnx(tmp_path / "huge.onnx")
