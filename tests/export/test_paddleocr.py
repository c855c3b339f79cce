"""The folder for PaddleOCR: its ``inference.yml`` says all that PaddleX asks for.

That the real PaddleOCR reads it is tried by hand, with ``benchmarks/dropin.py``: no test installs it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from ocrslim.errors import InputError
from ocrslim.export.bundle import open_deployable
from ocrslim.export.paddleocr import export_paddleocr, inference_yml
from ocrslim.graph.importers.source import open_model

Folder = Callable[..., Path]
# What PaddleX 3.7 knows how to do, for either task.
KNOWN = {
    "det": {"DecodeImage", "DetLabelEncode", "DetResizeForTest", "NormalizeImage", "ToCHWImage", "KeepKeys"},
    "rec": {"DecodeImage", "MultiLabelEncode", "RecResizeImg", "KeepKeys"},
}


def operators(config: dict[str, Any]) -> list[str]:
    return [next(iter(item)) for item in config["PreProcess"]["transform_ops"]]


@pytest.mark.parametrize("task", ["det", "rec"])
def test_the_folder(task: str, compressed: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    deployable = open_deployable(compressed(task, "onnxruntime"))
    written = export_paddleocr(deployable, out)
    assert [path.name for path in written] == ["inference.onnx", "inference.yml", "README.md", "MODEL_CARD.md"]
    config = yaml.safe_load((out / "inference.yml").read_text(encoding="utf-8"))
    assert config["Global"]["model_name"] == f"PP-OCRv4_mobile_{task}"
    assert set(operators(config)) <= KNOWN[task]
    if task == "rec":
        assert tuple(config["PostProcess"]["character_dict"]) == deployable.source.characters
        assert config["PostProcess"]["name"] == "CTCLabelDecode"
    else:
        assert {"name", "thresh", "box_thresh", "unclip_ratio", "max_candidates"} <= config["PostProcess"].keys()
    assert open_model(out).characters == deployable.source.characters
    assert onnx.load(out / "inference.onnx").graph.node[0].name


@pytest.mark.parametrize("task", ["det", "rec"])
def test_the_readme_shows_how_in_three_lines(task: str, compressed: Folder, tmp_path: Path) -> None:
    out = tmp_path / "my model"
    out.mkdir()
    export_paddleocr(open_deployable(compressed(task, "onnxruntime")), out)
    text = (out / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("\n```")[0]
    assert len(code.splitlines()) == 3
    compile(code, "README.md", "exec")
    kind = {"det": "text_detection", "rec": "text_recognition"}[task]
    assert f'{kind}_model_name="PP-OCRv4_mobile_{task}"' in code
    assert f'{kind}_model_dir="my model"' in code
    assert 'engine="onnxruntime"' in code


@pytest.mark.parametrize("target", ["openvino", "tensorrt", "paddle"])
def test_a_model_for_another_engine_is_refused(target: str, compressed: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"was compressed for {target}; PaddleOCR runs it in onnxruntime"):
        export_paddleocr(open_deployable(compressed("rec", target)), tmp_path)


def test_a_name_that_paddleocr_does_not_know_is_refused(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    onnx_file = onnx.load(zoo("PP-OCRv6_tiny_det"))
    onnx_file.doc_string = "mine"  # another hash, so that the zoo does not know it
    onnx.save(onnx_file, folder / "model.onnx")
    with pytest.raises(InputError, match="PaddleOCR takes official names only, and 'mine' is none"):
        export_paddleocr(open_deployable(folder), tmp_path)
    (folder / "inference.yml").write_text("Global: {model_name: PP-OCRv6_tiny_det}\n", encoding="utf-8")
    assert export_paddleocr(open_deployable(folder), tmp_path)


@pytest.mark.parametrize("name", ["PP-OCRv6_tiny_det", "PP-OCRv4_mobile_rec"])
def test_a_model_without_configuration_gets_one(name: str, zoo: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copyfile(zoo(name), folder / "inference.onnx")
    deployable = open_deployable(folder)
    assert deployable.source.inference_yml is None
    config = inference_yml(deployable)
    task = deployable.source.task
    assert set(operators(config)) <= KNOWN[task]
    assert config["Global"] == {"model_name": name}
    if task == "det":
        # Without a file the example's parameters are what was calibrated with.
        assert config["PostProcess"] == {
            **{"name": "DBPostProcess", "thresh": 0.3, "box_thresh": 0.6},
            **{"max_candidates": 1000, "unclip_ratio": 1.5},
        }
        assert {"DetResizeForTest": {"limit_side_len": 736, "limit_type": "min"}} in config["PreProcess"][
            "transform_ops"
        ]
    else:
        assert {"RecResizeImg": {"image_shape": [3, 48, 320]}} in config["PreProcess"]["transform_ops"]
        assert len(config["PostProcess"]["character_dict"]) == 6623


def test_what_the_model_came_with_stays(zoo: Callable[[str], Path]) -> None:
    deployable = open_deployable(zoo("PP-OCRv6_tiny_det").parent)
    config = inference_yml(deployable)
    came = deployable.source.inference_yml
    assert came is not None
    assert config["PreProcess"] == came["PreProcess"]
    assert came["PostProcess"].items() <= config["PostProcess"].items()
