from __future__ import annotations

from pathlib import Path

import yaml

from ocrslim.export.bundle import write_sidecars
from ocrslim.graph.importers.source import open_model


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


def test_a_folder_with_its_files_opens_as_the_same_model(tmp_path: Path, zoo) -> None:  # type: ignore[no-untyped-def]
    original = open_model(zoo("PP-OCRv6_tiny_rec"))
    (tmp_path / "model.onnx").write_bytes(original.path.read_bytes())
    write_sidecars(tmp_path, original.inference_yml, original.characters)
    again = open_model(tmp_path)
    assert again.characters == original.characters
    assert again.task == "rec"
    assert again.inference_yml == original.inference_yml
    assert again.sha256 == original.sha256
