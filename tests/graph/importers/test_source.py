from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import yaml

from ocrslim.errors import ModelError
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import MODELS

Build = Callable[..., ir.Model]

REC = "float[N,T,5]"
DET = "float[N,1,H,W]"


@pytest.fixture
def save(build: Build, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a model whose output has the given shape, with files beside it."""

    def write(
        name: str = "some/model.onnx",
        y: str = REC,
        character: str | None = None,
        yml: Any = None,
        dictionary: bytes | None = None,
    ) -> Path:
        axes = {"float[N,T,5]": "float[N,T,5]", "float[N,T,C]": "float[N,T,C]"}.get(y, "float[N,1,H,W]")
        model = build("y = Relu(x)", x=axes, y=y)
        if character is not None:
            model.metadata_props["character"] = character
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ir.save(model, path)
        if yml is not None:
            text = yml if isinstance(yml, str) else yaml.safe_dump(yml, allow_unicode=True)
            (path.parent / "inference.yml").write_text(text, encoding="utf-8")
        if dictionary is not None:
            (path.parent / "dictionary.txt").write_bytes(dictionary)
        return path

    return write


@pytest.mark.parametrize("name", ["inference.onnx", "model.onnx"])
def test_a_folder_means_the_model_in_it(save: Callable[..., Path], name: str) -> None:
    path = save(f"My_det/{name}", DET)
    source = open_model(path.parent)
    assert source.path == path
    assert source.name == "My_det"
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.licence is None
    assert source.inference_yml is None


def test_of_two_models_in_a_folder_the_float_one_of_paddleocr_is_meant(save: Callable[..., Path]) -> None:
    save("both/model.onnx", DET)
    assert open_model(save("both/inference.onnx", DET).parent).path.name == "inference.onnx"


def test_a_file_is_named_after_itself_or_by_its_inference_yml(save: Callable[..., Path]) -> None:
    assert open_model(str(save("a/ch_det_infer.onnx", DET))).name == "ch_det_infer"
    path = save("b/x.onnx", DET, yml={"Global": {"model_name": "PP-OCRv4_server_det"}})
    assert open_model(path).name == "PP-OCRv4_server_det"


def test_a_name_longer_than_any_file_has_is_one_clear_line() -> None:
    with pytest.raises(ModelError, match=r"^x{300}: can't be opened \(File name too long\); name a file or folder you"):
        open_model("x" * 300)


@pytest.mark.parametrize("name", ["closed", "closed/a.onnx"])
def test_a_folder_that_one_may_not_enter_is_one_clear_line(
    tmp_path: Path, name: str, no_entry: Callable[[str], None]
) -> None:
    (tmp_path / "closed").mkdir()
    no_entry("closed/")
    with pytest.raises(ModelError, match=rf"{name}: can't be opened \(Permission denied\)"):
        open_model(tmp_path / name)


def _external(build: Build, path: Path, value: float) -> Path:
    """Write a model of three files, whose ONNX file is the same whatever the value."""
    path.parent.mkdir(parents=True)
    constants = {"a": np.full((1, 1, 1000), value, np.float32), "b": np.full((1, 1, 1000), 2 * value, np.float32)}
    model = build("c = Mul(x, a) y = Add(c, b)", constants, x="float[N,T,1000]", y="float[N,T,1000]")
    ir.save(model, path, external_data="b.bin")
    proto = onnx.load(path, load_external_data=False)
    data = (path.parent / "b.bin").read_bytes()
    for tensor in proto.graph.initializer:  # the files' order is not that in which the model names them
        if tensor.name == "a":
            entries = {entry.key: entry for entry in tensor.external_data}
            start, length = int(entries["offset"].value), int(entries["length"].value)
            (path.parent / "a.bin").write_bytes(data[start : start + length])
            entries["location"].value, entries["offset"].value = "a.bin", "0"
    path.write_bytes(proto.SerializeToString())
    return path


def test_weights_beside_the_file_are_part_of_the_hash(build: Build, tmp_path: Path) -> None:
    one, two, other = (_external(build, tmp_path / name / "m_rec.onnx", 1.0 + (name == "c")) for name in "abc")
    assert one.read_bytes() == other.read_bytes()
    assert open_model(one).sha256 == open_model(two).sha256
    assert open_model(one).sha256 != open_model(other).sha256
    assert open_model(one).sha256 != hashlib.sha256(one.read_bytes()).hexdigest()
    (one.parent / "a.bin").write_bytes((other.parent / "a.bin").read_bytes())
    assert open_model(one).sha256 not in (open_model(two).sha256, open_model(other).sha256)


@pytest.mark.parametrize(("y", "task"), [(DET, "det"), (REC, "rec")])
def test_the_rank_of_the_output_tells_the_task(save: Callable[..., Path], y: str, task: str) -> None:
    assert open_model(save(y=y)).task == task


@pytest.mark.parametrize(
    ("name", "yml", "task"),
    [
        ("a/some.onnx", {"PostProcess": {"name": "CTCLabelDecode"}}, "rec"),
        ("a/some.onnx", {"PostProcess": {"name": "DBPostProcess"}}, "det"),
        ("a/en_PP-OCRv4_rec.onnx", None, "rec"),
        ("a/my-det-model.onnx", {"PostProcess": None}, "det"),
    ],
)
def test_without_a_rank_inference_yml_or_the_name_tells_it(
    save: Callable[..., Path], name: str, yml: Any, task: str
) -> None:
    assert open_model(save(name, "float[?]", yml=yml)).task == task


def test_an_unclear_task_is_told_with_the_way_out(save: Callable[..., Path]) -> None:
    for name in ("a/detector.onnx", "a/det_or_rec.onnx"):
        with pytest.raises(ModelError, match=r"detector or a recogniser\? .* PostProcess\.name"):
            open_model(save(name, "float[?]"))


class TestDictionary:
    def test_is_read_from_the_metadata_first(self, save: Callable[..., Path]) -> None:
        yml = {"PostProcess": {"character_dict": ["x", "y", "z"]}}
        assert open_model(save(character="a\nb\nc", yml=yml, dictionary=b"p\nq\nr\n")).characters == ("a", "b", "c")

    def test_then_from_inference_yml(self, save: Callable[..., Path]) -> None:
        yml = {"PostProcess": {"character_dict": ["x", "'", "1"]}}
        assert open_model(save(yml=yml, dictionary=b"p\nq\nr\n")).characters == ("x", "'", "1")

    @pytest.mark.parametrize("content", [b"p\nq\nr\n", b"p\nq\nr", b"p\r\nq\r\nr\r\n"])
    def test_then_from_the_file_beside(self, save: Callable[..., Path], content: bytes) -> None:
        assert open_model(save(dictionary=content)).characters == ("p", "q", "r")

    def test_is_split_at_newlines_alone_and_never_stripped(self, save: Callable[..., Path]) -> None:
        odd = ("　", "\x1c", "  ")
        assert open_model(save(character="\n".join(odd))).characters == odd
        assert open_model(save(character="\n".join(odd) + "\n")).characters == odd

    def test_may_be_missing(self, save: Callable[..., Path]) -> None:
        source = open_model(save())
        assert source.characters is None
        assert source.task == "rec"

    def test_is_none_of_a_detectors_business(self, save: Callable[..., Path]) -> None:
        assert open_model(save(y=DET, character="a\nb")).characters is None

    @pytest.mark.parametrize(("character", "space"), [("a\nb\nc", True), ("a\nb\nc\nd", False)])
    def test_tells_whether_a_space_is_added(self, save: Callable[..., Path], character: str, space: bool) -> None:
        assert open_model(save(character=character)).use_space is space

    @pytest.mark.parametrize("character", ["a\nb", "a\nb\nc\nd\ne"])
    def test_of_the_wrong_length_is_told(self, save: Callable[..., Path], character: str) -> None:
        with pytest.raises(ModelError, match=r"5 classes, but a dictionary of \d entries; it takes 3, or 4 without"):
            open_model(save(character=character))

    def test_of_any_length_will_do_where_the_classes_are_open(self, save: Callable[..., Path]) -> None:
        assert open_model(save(y="float[N,T,C]", character="a")).use_space is True

    def test_of_numbers_is_told(self, save: Callable[..., Path]) -> None:
        with pytest.raises(ModelError, match=r"inference\.yml: PostProcess\.character_dict must be a list of quoted"):
            open_model(save(yml="PostProcess:\n  character_dict: [1, 2, 3]\n"))

    def test_in_another_encoding_is_told(self, save: Callable[..., Path]) -> None:
        with pytest.raises(ModelError, match=r"dictionary\.txt: not in UTF-8"):
            open_model(save(dictionary="中\n文\n字\n".encode("gbk")))


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list\n", "plain", "\ta: b"])
def test_a_broken_inference_yml_is_told_in_one_line(save: Callable[..., Path], text: str) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(save(yml=text))
    assert "inference.yml" in str(caught.value)
    assert "mend it or take it away" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file, folder or model; `ocrslim models`"):
        open_model(tmp_path / "nothing")
    with pytest.raises(
        ModelError, match=r"neither inference\.onnx nor model\.onnx nor a Paddle model is in this folder"
    ):
        open_model(tmp_path)


class TestDictionaryBeside:
    """PaddleOCR's own dictionaries, and one that the caller names."""

    def beside(self, path: Path, **files: bytes) -> Path:
        for name, content in files.items():
            (path.parent / f"{name}.txt").write_bytes(content)
        return path

    @pytest.mark.parametrize("name", ["ppocr_keys_v1", "en_dict", "ppocrv5_dict"])
    def test_paddleocrs_names_are_known(self, save: Callable[..., Path], name: str) -> None:
        assert open_model(self.beside(save(), **{name: b"p\nq\nr\n"})).characters == ("p", "q", "r")

    def test_ours_goes_first(self, save: Callable[..., Path]) -> None:
        path = self.beside(save(dictionary=b"a\nb\nc\n"), en_dict=b"p\nq\nr\n")
        assert open_model(path).characters == ("a", "b", "c")

    def test_several_are_told(self, save: Callable[..., Path]) -> None:
        path = self.beside(save(), en_dict=b"p\nq\nr\n", de_dict=b"a\nb\nc\n")
        with pytest.raises(ModelError, match=r"several dictionaries \(de_dict\.txt, en_dict\.txt\); copy the model's"):
            open_model(path)

    def test_the_callers_goes_before_all(self, save: Callable[..., Path], tmp_path: Path) -> None:
        (tmp_path / "mine").write_bytes(b"x\ny\nz\n")
        path = save(character="a\nb\nc", dictionary=b"p\nq\nr\n")
        assert open_model(path, tmp_path / "mine").characters == ("x", "y", "z")

    @pytest.mark.parametrize(("content", "problem"), [(None, "can't be read"), (b"a\n", "5 classes, but a dictionary")])
    def test_the_callers_must_be_there_and_fit(
        self, save: Callable[..., Path], tmp_path: Path, content: bytes | None, problem: str
    ) -> None:
        if content is not None:
            (tmp_path / "mine").write_bytes(content)
        with pytest.raises(ModelError, match=problem):
            open_model(save(), tmp_path / "mine")

    def test_the_callers_is_none_of_a_detectors_business(self, save: Callable[..., Path], tmp_path: Path) -> None:
        assert open_model(save(y=DET), tmp_path / "nothing").characters is None


def test_a_zoo_name_and_a_copy_of_its_file_are_recognised(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    path = zoo("PP-OCRv6_tiny_rec")
    source = open_model("PP-OCRv6_tiny_rec")
    assert source.path == path
    assert source.licence == "Apache-2.0"
    assert source.characters is not None
    assert len(source.characters) == 6904
    assert source.inference_yml is not None
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(path.read_bytes())
    (tmp_path / "dictionary.txt").write_bytes((path.parent / "dictionary.txt").read_bytes())
    other = open_model(copy)
    assert (other.name, other.licence, other.sha256) == (source.name, "Apache-2.0", MODELS[source.name].sha256)
    assert other.characters == source.characters
    assert other.inference_yml is None


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in MODELS])
def test_each_of_the_ten_opens(name: str, zoo: Callable[[str], Path]) -> None:
    zoo(name)
    source = open_model(name)
    assert (source.name, source.task) == (name, MODELS[name].task)
    assert source.use_space
    assert source.inference_yml is not None
    assert source.inference_yml["Global"]["model_name"] in (name, name.replace("_mobile", ""))
    sizes = {"v3": 6623, "v4": 6623, "v5": 18383, "v6": 6904 if "tiny" in name else 18708}
    expected = sizes[MODELS[name].version] if source.task == "rec" else None
    assert (source.characters is None) == (expected is None)
    if source.characters is not None:
        assert len(source.characters) == expected
        assert len(set(source.characters)) == expected
        assert "" not in source.characters
        beside = (source.path.parent / "dictionary.txt").read_bytes().decode()
        assert beside == "".join(f"{entry}\n" for entry in source.characters)
