"""The folder for RapidOCR, in the format of the model's engine. The real one reads it in
tests/benchmarks/test_dropin.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from ocrslim.errors import InputError
from ocrslim.export.bundle import open_deployable
from ocrslim.export.deploy import rendered_batches
from ocrslim.export.openvino import read_characters
from ocrslim.export.rapidocr import export_rapidocr

Folder = Callable[..., Path]


def code_of(folder: Path) -> str:
    text = (folder / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("\n```")[0]
    compile(code, "README.md", "exec")
    assert len(code.splitlines()) == 3
    return code


@pytest.mark.parametrize("task", ["det", "rec"])
def test_for_onnxruntime_it_is_the_onnx_file(task: str, compressed: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    deployable = open_deployable(compressed(task, "onnxruntime"))
    written, verification = export_rapidocr(deployable, out, ())
    names = ["model.onnx", *(["dictionary.txt"] if task == "rec" else []), "README.md", "MODEL_CARD.md"]
    assert [path.name for path in written] == names
    assert verification is None, "the same file needs no comparison"
    section = {"det": "Det", "rec": "Rec"}[task]
    assert f'"{section}.model_path": "out/model.onnx", "{section}.engine_type": EngineType.ONNXRUNTIME' in code_of(out)
    if task == "rec":
        # As RapidOCR's session does.
        metadata = {item.key: item.value for item in onnx.load(out / "model.onnx").metadata_props}
        assert tuple(metadata["character"].splitlines()) == deployable.source.characters


def test_for_openvino_it_is_openvinos_format(compressed: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    deployable = open_deployable(compressed("rec", "openvino"))
    written, verification = export_rapidocr(deployable, out, rendered_batches(deployable.source)[:4])
    assert [path.name for path in written[:2]] == ["model.xml", "model.bin"]
    assert verification is not None
    assert verification.passed
    assert read_characters(out / "model.xml") == deployable.source.characters
    assert '"Rec.engine_type": EngineType.OPENVINO' in code_of(out)


def test_a_float_model_runs_in_the_default_engine(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    export_rapidocr(open_deployable(zoo("PP-OCRv6_tiny_rec")), tmp_path, ())
    assert "EngineType.ONNXRUNTIME" in code_of(tmp_path)
    assert "the model is float" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["tensorrt", "paddle"])
def test_a_model_for_another_engine_is_refused(target: str, compressed: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"was compressed for {target}; RapidOCR runs it in onnxruntime or openvino"):
        export_rapidocr(open_deployable(compressed("rec", target)), tmp_path, ())
