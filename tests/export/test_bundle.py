"""What all folders have in common: which model goes where, and the files beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import yaml

from ocrslim.errors import InputError, ModelError
from ocrslim.export.bundle import (
    CARD,
    Deployable,
    open_deployable,
    require_open_shape,
    require_target,
    write_model,
    write_readme,
    write_sidecars,
    write_yml,
)
from ocrslim.graph.importers.source import open_model

Folder = Callable[..., Path]


def test_files_say_what_the_model_said(tmp_path: Path) -> None:
    config = {"Global": {"model_name": "PP-OCRv6_small_rec"}, "PostProcess": {"character_dict": ["\u3000", "'", "一"]}}
    characters = ("\u3000", "'", "一", "#")
    written = write_sidecars(tmp_path, config, characters)
    assert [path.name for path in written] == ["inference.yml", "dictionary.txt"]
    assert yaml.safe_load((tmp_path / "inference.yml").read_text(encoding="utf-8")) == config
    assert (tmp_path / "dictionary.txt").read_bytes() == "\u3000\n'\n一\n#\n".encode()


def test_a_detector_without_configuration_has_none(tmp_path: Path) -> None:
    assert write_sidecars(tmp_path, None, None) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_its_files_opens_as_the_same_model(tmp_path: Path, zoo: Callable[[str], Path]) -> None:
    original = open_model(zoo("PP-OCRv6_tiny_rec"))
    (tmp_path / "model.onnx").write_bytes(original.path.read_bytes())
    write_sidecars(tmp_path, original.inference_yml, original.characters)
    again = open_model(tmp_path)
    assert again.characters == original.characters
    assert again.task == "rec"
    assert again.inference_yml == original.inference_yml
    assert again.sha256 == original.sha256


@pytest.mark.parametrize("name", ["PP-OCRv4_mobile_rec", "PP-OCRv6_small_rec"])
def test_a_dictionary_survives_yaml(tmp_path: Path, zoo: Callable[[str], Path], name: str) -> None:
    # Entries that look like numbers, null, true, comments and white space.
    characters = [*(open_model(zoo(name)).characters or ()), "null", "true", "1.5", "#", "~", "- a"]
    path = write_yml(tmp_path / "a.yml", {"PostProcess": {"character_dict": characters}})
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["PostProcess"]["character_dict"] == characters


def test_a_compressed_folder_says_what_it_is(compressed: Folder) -> None:
    deployable = open_deployable(compressed("rec", "openvino"))
    assert (deployable.name, deployable.target) == ("PP-OCRv4_mobile_rec", "openvino")
    assert deployable.title == "PP-OCRv4_mobile_rec, int8 for openvino"
    assert deployable.card is not None
    assert deployable.card.name == CARD


def test_a_float_model_has_no_target(zoo: Callable[[str], Path]) -> None:
    deployable = open_deployable(zoo("PP-OCRv6_tiny_det"))
    assert (deployable.name, deployable.target, deployable.card) == ("PP-OCRv6_tiny_det", None, None)
    assert deployable.title == "PP-OCRv6_tiny_det, float"


def test_a_pruned_model_is_called_so(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "pruned"
    shutil.copytree(zoo("PP-OCRv6_tiny_det").parent, folder)
    result = {"model": {"name": "PP-OCRv6_tiny_det"}, "target": "openvino", "delivered": "pruned"}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    deployable = open_deployable(folder)
    assert deployable.target is None  # it is float: every engine may run it
    assert deployable.title == "PP-OCRv6_tiny_det, float, pruned"


def test_int8_of_a_pruned_model_keeps_its_name_and_says_so(compressed: Folder) -> None:
    folder = compressed("rec", "openvino")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    result["settings"] = {"reference": "float.onnx"}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    found = open_deployable(folder)
    assert (found.name, found.title) == ("PP-OCRv4_mobile_rec", "PP-OCRv4_mobile_rec, pruned, int8 for openvino")


def test_a_quantized_file_alone_does_not_say_for_which_engine(compressed: Folder) -> None:
    folder = compressed("rec", "openvino")
    (folder / "result.json").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: is quantized, and there is no result\.json beside it"):
        open_deployable(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": {"name": "a"}}'])
def test_a_broken_result_is_told_of(text: str, compressed: Folder) -> None:
    folder = compressed("rec", "openvino")
    (folder / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"result\.json: is not what `ocrslim` writes"):
        open_deployable(folder)


@pytest.mark.parametrize(
    ("target", "allowed", "fits"),
    [("openvino", ("openvino",), True), ("openvino", ("onnxruntime",), False), ("onnxruntime", ("tensorrt",), False)],
)
def test_another_engine_is_refused(target: str, allowed: tuple[str, ...], fits: bool, compressed: Folder) -> None:
    deployable = open_deployable(compressed("rec", target))
    if fits:
        require_target(deployable, allowed, "Somebody")
        return
    with pytest.raises(InputError, match=f"was compressed for {target}; Somebody runs it in {allowed[0]}") as caught:
        require_target(deployable, allowed, "Somebody")
    assert f"compress again with --target {allowed[0]}" in str(caught.value)


def test_a_float_model_goes_everywhere(zoo: Callable[[str], Path]) -> None:
    require_target(open_deployable(zoo("PP-OCRv6_tiny_rec")), ("tensorrt",), "Somebody")


@pytest.mark.parametrize(("name", "shape"), [("PP-OCRv6_tiny_det", (320, 320)), ("PP-OCRv6_tiny_rec", (48, 320))])
def test_a_model_for_one_size_is_refused_where_others_come(
    name: str, shape: tuple[int, int], zoo: Callable[[str], Path], tmp_path: Path
) -> None:
    path = zoo(name)
    require_open_shape(open_deployable(name), "RapidOCR")
    fixed = tmp_path / "fixed" / "inference.onnx"
    shutil.copytree(path.parent, fixed.parent)
    model = onnx.load(path)
    for dimension, side in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], shape, strict=True):
        dimension.dim_value = side
    onnx.save(model, fixed)
    with pytest.raises(InputError, match=r"takes images of one size alone \(.*320\), and RapidOCR gives it others"):
        require_open_shape(open_deployable(fixed.parent), "RapidOCR")


def test_the_model_carries_its_dictionary(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    # PP-OCRv6 comes without it in its metadata.
    deployable = open_deployable(zoo("PP-OCRv6_tiny_rec"))
    path = write_model(deployable, tmp_path / "m.onnx")
    metadata = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert tuple(metadata["character"].splitlines()) == deployable.source.characters  # as RapidOCR reads it
    assert "character" not in deployable.model.metadata_props, "the caller's model is as it was"
    assert [item.name for item in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("entry", ["", "\u2028", "\x0c"])
def test_an_entry_that_separates_lines_is_refused(entry: str, zoo: Callable[[str], Path], tmp_path: Path) -> None:
    found = open_deployable(zoo("PP-OCRv6_tiny_rec"))
    characters = ("a", entry)
    source = type(found.source)(**{**vars(found.source), "characters": characters})
    with pytest.raises(ModelError, match="would count its entries wrong"):
        write_model(Deployable(source, found.model, found.name, None, None), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_the_readme_has_the_code_the_notes_and_the_card(compressed: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    deployable = open_deployable(compressed("rec", "openvino"))
    written = write_readme(out, deployable, "Somebody", ("import a", "a.run()"), ("Mind this.",))
    assert [path.name for path in written] == ["README.md", CARD]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert text.startswith("# PP-OCRv4_mobile_rec, int8 for openvino: a folder for Somebody\n")
    assert "```python\nimport a\na.run()\n```" in text
    assert "Mind this." in text
    assert CARD in text
    assert deployable.card is not None
    told = (out / CARD).read_text(encoding="utf-8")
    assert told.startswith(deployable.card.read_text(encoding="utf-8").rstrip())
    assert told.endswith("in another file.\n")  # the hashes in the card are not this folder's


def test_without_a_card_none_is_promised(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    written = write_readme(tmp_path, open_deployable(zoo("PP-OCRv6_tiny_det")), "Somebody", ("import a",), ())
    assert [path.name for path in written] == ["README.md"]
    assert CARD not in written[0].read_text(encoding="utf-8")


def test_result_json_is_read_as_it_is_written(compressed: Folder) -> None:
    folder = compressed("det", "onnxruntime")
    facts = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    facts["model"]["name"] = "of result.json"
    (folder / "result.json").write_text(json.dumps(facts), encoding="utf-8")
    assert open_deployable(folder).name == "of result.json"
