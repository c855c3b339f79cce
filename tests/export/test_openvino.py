"""OpenVINO's IR of a real quantized model: it answers as the ONNX file does, and knows its dictionary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino
import pytest

from ocrslim.engines.session import open_session
from ocrslim.errors import InputError, VerifyError
from ocrslim.export import openvino as subject
from ocrslim.export.bundle import open_deployable
from ocrslim.export.deploy import rendered_batches
from ocrslim.export.openvino import export_openvino, read_characters, write_ir

Folder = Callable[..., Path]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_the_folder_of_a_recogniser(compressed: Folder, out: Path) -> None:
    folder = compressed("rec", "openvino")
    deployable = open_deployable(folder)
    batches = rendered_batches(deployable.source)[:4]
    written, verification = export_openvino(deployable, out, batches)
    names = ["model.xml", "model.bin", "inference.yml", "dictionary.txt", "README.md", "MODEL_CARD.md"]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in out.iterdir()) == sorted(names), "nothing temporary is left"
    assert verification.passed
    assert verification.images == 4
    # Our own comparison, by the engine that users take.
    # In f32: where a CPU has bfloat16 OpenVINO takes that by default, and float parts answer otherwise.
    compiled = openvino.Core().compile_model(out / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    onnx = open_session(folder / "model.onnx", "openvino", 1)
    for batch in batches:
        assert (compiled(batch)[0].argmax(-1) == onnx.run(batch).argmax(-1)).mean() > 0.99


def test_the_dictionary_is_where_users_look(compressed: Folder, out: Path) -> None:
    deployable = open_deployable(compressed("rec", "openvino"))
    write_ir(deployable, out, rendered_batches(deployable.source)[:1])
    assert read_characters(out / "model.xml") == deployable.source.characters
    # RapidOCR's way: rt_info as a mapping, a value object, lines.
    info = openvino.Core().read_model(out / "model.xml").get_rt_info()["framework"]["character"].value
    assert tuple(info.splitlines()) == deployable.source.characters
    assert "\u3000" in info


def test_int8_stays_int8_and_float_stays_float(compressed: Folder, out: Path) -> None:
    folder = compressed("rec", "openvino")
    deployable = open_deployable(folder)
    write_ir(deployable, out, rendered_batches(deployable.source)[:1])
    assert (out / "model.bin").stat().st_size < 1.05 * (folder / "model.onnx").stat().st_size
    model = openvino.Core().read_model(out / "model.xml")
    kinds = {str(op.get_element_type()) for op in model.get_ops() if op.get_type_name() == "Constant"}
    assert any("int8" in kind for kind in kinds), kinds
    assert not any("float16" in kind for kind in kinds), kinds


def test_a_detector_has_no_dictionary(zoo: Callable[[str], Path], out: Path) -> None:
    deployable = open_deployable(zoo("PP-OCRv6_tiny_det"))
    page = rendered_batches(deployable.source)[0][:, :, :320, :320]
    written, verification = export_openvino(deployable, out, [np.ascontiguousarray(page)])
    assert [path.name for path in written] == ["model.xml", "model.bin", "inference.yml", "README.md"]
    assert verification.kind == "mask_iou"
    assert read_characters(out / "model.xml") is None
    assert "dictionary" not in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_a_model_for_another_engine_is_refused(target: str, compressed: Folder, out: Path) -> None:
    with pytest.raises(InputError, match=f"was compressed for {target}; OpenVINO runs it in openvino"):
        export_openvino(open_deployable(compressed("rec", target)), out, ())
    assert not list(out.iterdir())


def test_nothing_is_left_of_what_computes_something_else(
    compressed: Folder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployable = open_deployable(compressed("rec", "openvino"))
    batch = rendered_batches(deployable.source)[0]
    real = subject.open_session

    class Wrong:
        """The IR, a class off."""

        def __init__(self, path: Path) -> None:
            self.session = real(path, "openvino", 1)

        def run(self, x: np.ndarray) -> np.ndarray:
            return np.roll(self.session.run(x), 1, axis=-1)

    monkeypatch.setattr(
        subject, "open_session", lambda path, *rest: Wrong(path) if path.suffix == ".xml" else real(path, *rest)
    )
    with pytest.raises(VerifyError, match="disagrees"):
        write_ir(deployable, out, [batch])
    assert not list(out.iterdir())


def test_another_dictionary_in_the_file_is_noticed(
    compressed: Folder, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployable = open_deployable(compressed("rec", "openvino"))
    monkeypatch.setattr(subject, "read_characters", lambda _: ("a",))
    with pytest.raises(VerifyError, match="does not keep its dictionary"):
        write_ir(deployable, out, rendered_batches(deployable.source)[:1])
    assert not list(out.iterdir())


def test_the_readme_shows_how_in_three_lines(zoo: Callable[[str], Path], out: Path) -> None:
    deployable = open_deployable(zoo("PP-OCRv6_tiny_rec"))
    batches = rendered_batches(deployable.source)[:1]
    export_openvino(deployable, out, batches)
    text = (out / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("\n```")[0].replace('"out/', f'"{out}/')
    assert len(code.splitlines()) == 3
    names: dict[str, object] = {"batch": batches[0]}
    exec(compile(code, "README.md", "exec"), names)  # a reader would run it, too
    answer = names["answer"]
    assert isinstance(answer, np.ndarray)
    assert answer.shape[2] == len(deployable.source.characters or ()) + 2
