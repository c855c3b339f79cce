"""``ocrslim export`` for other software: what lies in the folder, what is refused, and whose files stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrslim.cli import main
from ocrslim.errors import InputError
from ocrslim.export.deploy import BUNDLES, export_bundle, export_folder, rendered_batches
from ocrslim.graph.importers.source import open_model

Folder = Callable[..., Path]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("to", "target", "files"),
    [
        ("paddleocr", "onnxruntime", {"inference.onnx", "inference.yml"}),
        ("rapidocr", "onnxruntime", {"model.onnx"}),
        ("onnx", "openvino", {"model.onnx", "inference.yml"}),
        ("onnx", "tensorrt", {"model.onnx", "inference.yml"}),
    ],
)
def test_a_folder_for_other_software(
    to: str, target: str, files: set[str], compressed: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = compressed("det", target)
    before = names(folder)
    assert main(["export", str(folder), "--to", to]) == 0
    said = capsys.readouterr()
    assert names(folder / to) == files | {"README.md", "MODEL_CARD.md"}
    assert {Path(line).name for line in said.out.splitlines()} == names(folder / to)
    assert not said.err
    assert names(folder) == before | {to}


def test_the_plain_folder_says_which_engine(compressed: Folder, tmp_path: Path) -> None:
    export_bundle(compressed("rec", "openvino"), "onnx", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "Run it in openvino: it was quantized for that, and may read garbage elsewhere." in text
    code = text.split("```python\n")[1].split("\n```")[0]
    assert len(code.splitlines()) == 3
    batch = rendered_batches(open_model(tmp_path / "out"))[0]
    variables: dict[str, Any] = {"batch": batch}
    exec(compile(code.replace('"out/', f'"{tmp_path}/out/'), "README.md", "exec"), variables)  # as a reader would
    assert variables["answer"].shape[2] == 6625


def test_what_is_written_twice_is_the_same(compressed: Folder) -> None:
    folder = compressed("rec", "onnxruntime")
    for to in ("paddleocr", "rapidocr", "onnx"):
        first = {path: path.read_bytes() for path in export_bundle(folder, to).files}
        again = {path: path.read_bytes() for path in export_bundle(folder, to).files}
        assert first == again


@pytest.mark.parametrize("to", [name for name in BUNDLES if name != "onnx"])
def test_a_refusal_leaves_no_folder(to: str, compressed: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = compressed("rec", "paddle")
    assert main(["export", str(folder), "--to", to]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"ocrslim: {folder}: was compressed for paddle; ")
    assert said.err.count("\n") == 1
    assert not said.out
    assert not (folder / to).exists()


def test_the_export_for_tensorrt_says_what_was_not_done(
    compressed: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ocrslim.export.deploy.PAGES", 1)
    monkeypatch.setattr("ocrslim.export.deploy.PAGE_SIDE", 320)
    assert main(["export", str(compressed("det", "tensorrt")), "--to", "tensorrt"]) == 0
    said = capsys.readouterr()
    assert "agrees with model.onnx: mask_iou" in said.out
    assert said.err == (
        "ocrslim: It was not run in TensorRT: there was no such GPU where it was made. Build it and compare on yours.\n"
    )


def test_a_float_model_by_its_name(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    zoo("PP-OCRv6_tiny_det")
    with pytest.raises(InputError, match="PP-OCRv6_tiny_det: name the folder to write with --out DIR"):
        export_bundle("PP-OCRv6_tiny_det", "paddleocr")
    done = export_bundle("PP-OCRv6_tiny_det", "paddleocr", tmp_path / "out")
    assert names(tmp_path / "out") == {path.name for path in done.files}
    assert "float: a folder for PaddleOCR" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("to", ["onnx", "rapidocr", "paddleocr"])
def test_files_of_the_users_are_not_replaced(
    to: str, compressed: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "README.md").write_text("# My project: a folder for me\n", encoding="utf-8")
    assert main(["export", str(compressed("rec", "onnxruntime")), "--to", to, "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"ocrslim: --out {out}: holds README.md, which the export would replace")
    assert said.err.count("\n") == 1
    assert names(out) == {"README.md"}
    assert (out / "README.md").read_text(encoding="utf-8").startswith("# My project")


def test_an_earlier_bundle_is_replaced_by_one_of_its_kind_alone(compressed: Folder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = compressed("rec", "onnxruntime")
    export_bundle(folder, "onnx", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "model.onnx").write_bytes(b"")
    (out / "note.txt").write_text("mine", encoding="utf-8")
    export_bundle(folder, "onnx", out)
    with pytest.raises(InputError, match=r"holds MODEL_CARD.md, README.md, inference.yml, which"):
        export_bundle(folder, "paddleocr", out)
    (out / "note.txt").unlink()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_the_models_own_folder_is_not_written_into(compressed: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = compressed("det", "onnxruntime")
    (folder / "model.onnx").rename(folder / "inference.onnx")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    for out in (folder, Path()):
        with pytest.raises(InputError, match=rf"--out {out}: is the model's own folder, whose files would be replaced"):
            export_bundle(folder, "paddleocr", out)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_fails_half_way_leaves_nothing(
    compressed: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ocrslim.export.deploy.write_readme", full)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("", encoding="utf-8")
    folder = compressed("det", "onnxruntime")
    for out in (tmp_path / "mine", tmp_path / "new"):
        with pytest.raises(OSError, match="No space left"):
            export_bundle(folder, "onnx", out)
    assert names(tmp_path / "mine") == {"note.txt"}
    assert not (tmp_path / "new").exists()


def test_the_current_folder_has_a_name_in_the_readme(
    compressed: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, here = compressed("det", "onnxruntime"), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for to, said in (("onnx", '"here/model.onnx"'), ("paddleocr", 'model_dir="here"')):
        assert main(["export", str(folder), "--to", to, "--out", "."]) == 0
        assert said in (here / "README.md").read_text(encoding="utf-8")
        assert "README.md" in capsys.readouterr().out.splitlines()
        for path in here.iterdir():
            path.unlink()


def test_a_compressed_file_lands_beside_itself(compressed: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = compressed("det", "onnxruntime")
    assert main(["export", str(folder / "model.onnx"), "--to", "rapidocr"]) == 0
    assert (folder / "rapidocr" / "model.onnx").is_file()
    (folder / "onnx").write_text("", encoding="utf-8")
    assert main(["export", str(folder), "--to", "onnx"]) == 2
    assert capsys.readouterr().err.startswith(f"ocrslim: {folder / 'onnx'}: cannot be written (File exists); name")


def test_options_of_paddle_do_not_fit_the_others(compressed: Folder, tmp_path: Path) -> None:
    folder = compressed("det", "onnxruntime")
    for options in ({"source": tmp_path}, {"quantized": False}):
        with pytest.raises(InputError, match="--to rapidocr: --source and --float are for paddle"):
            export_folder(folder, "rapidocr", **options)  # type: ignore[arg-type]


def test_a_place_that_cannot_be_written(compressed: Folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"--out .*file: cannot be written"):
        export_bundle(compressed("det", "onnxruntime"), "onnx", tmp_path / "file")
