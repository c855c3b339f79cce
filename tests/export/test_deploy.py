"""``ocrslim export`` for Paddle and Paddle Lite: from a result's folder to their files, and lines for what it lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from ocrslim.arguments import EXPORTS
from ocrslim.cli import main
from ocrslim.engines.session import open_session
from ocrslim.errors import EngineError, InputError, ModelError
from ocrslim.export.bundle import write_sidecars
from ocrslim.export.deploy import FORMATS, export_folder, rendered_batches
from ocrslim.export.paddle import PARAMETERS, PROGRAM
from ocrslim.export.paddle_lite import ENVIRONMENT, find_paddle_lite
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import MODELS

Folder = Callable[..., Path]


@pytest.fixture
def result(twin: Callable[[str], Any], tmp_path: Path) -> Folder:
    """Return a function that writes a folder as ``ocrslim compress`` does."""

    def make(task: str = "det", **model: Any) -> Path:
        made, folder = twin(task), tmp_path / "result"
        folder.mkdir(exist_ok=True)
        ir.save(made.quantized, folder / "model.onnx")
        source = open_model(made.files.program.parent)
        write_sidecars(folder, source.inference_yml, source.characters)
        facts = {"name": source.name, "task": task, "paddle": str(made.files.program)} | model
        (folder / "result.json").write_text(json.dumps({"model": facts}), encoding="utf-8")
        return folder

    return make


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_files_land_beside_the_onnx_model(result: Folder) -> None:
    folder = result()
    done = export_folder(folder, "paddle")
    assert {folder / PROGRAM, folder / PARAMETERS} <= set(done.files)
    assert names(folder) == {"model.onnx", "result.json", "inference.yml", PROGRAM, PARAMETERS}
    assert done.verification is None


def test_another_folder_gets_all_that_an_engine_needs(result: Folder, tmp_path: Path) -> None:
    done = export_folder(result("rec"), "paddle", out=tmp_path / "deep" / "out")
    assert names(tmp_path / "deep" / "out") == {PROGRAM, PARAMETERS, "inference.yml", "dictionary.txt"}
    assert all(path.is_file() for path in done.files)


def test_the_float_model_has_a_folder_of_its_own(result: Folder) -> None:
    folder = result()
    export_folder(folder, "paddle")
    small = (folder / PARAMETERS).stat().st_size
    export_folder(folder, "paddle", quantized=False)
    assert (folder / PARAMETERS).stat().st_size == small
    assert (folder / "paddle_float" / PARAMETERS).stat().st_size > 2 * small


def test_a_source_on_the_command_line_wins(result: Folder, twin: Callable[[str], Any]) -> None:
    folder = result(paddle="/nowhere/inference.pdmodel")
    with pytest.raises(ModelError, match=r"/nowhere/inference.pdmodel: holds no Paddle model .*--source DIR"):
        export_folder(folder, "paddle")
    export_folder(folder, "paddle", source=twin("det").files.program.parent)


def test_a_zoo_model_finds_its_twin(result: Folder) -> None:
    name = "PP-OCRv4_mobile_det"
    export_folder(result(paddle=None, name=name, sha256=MODELS[name].sha256), "paddle")


@pytest.mark.parametrize("more", [{"sha256": "00"}, {}])
def test_a_model_that_kept_a_zoo_models_name_is_not_written_into_its_files(
    more: dict[str, str], result: Folder
) -> None:
    with pytest.raises(ModelError, match="was compressed from an ONNX file; name the Paddle model of the same weights"):
        export_folder(result(paddle=None, name="PP-OCRv4_mobile_det", **more), "paddle")


@pytest.mark.parametrize("missing", [False, True])
def test_a_result_of_an_onnx_file_asks_for_the_twin(missing: bool, result: Folder) -> None:
    folder = result(paddle=None, name="mine")
    if missing:
        (folder / "result.json").unlink()
    with pytest.raises(ModelError, match="was compressed from an ONNX file; name the Paddle model of the same weights"):
        export_folder(folder, "paddle")


@pytest.mark.parametrize("text", ["{", "[]", '{"model": 3}', "{}"])
def test_a_result_of_something_else_is_told_of(text: str, result: Folder) -> None:
    folder = result()
    (folder / "result.json").write_text(text)
    with pytest.raises(ModelError, match=r"result.json: is not what `ocrslim compress` writes"):
        export_folder(folder, "paddle")


def test_a_program_of_paddle_3_is_told_of(result: Folder, tmp_path: Path) -> None:
    new = tmp_path / "pir"
    new.mkdir()
    (new / "inference.json").write_text("{}")
    (new / "inference.pdiparams").write_bytes(b"")
    with pytest.raises(ModelError, match=r"is a program of Paddle 3, which runs quantized models as .pdmodel only"):
        export_folder(result(), "paddle", source=new)


def test_a_folder_without_a_model_and_an_unknown_format_are_told_of(result: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model.onnx; name a folder that `ocrslim compress` wrote"):
        export_folder(tmp_path, "paddle")
    with pytest.raises(InputError, match="--to tflite: there is no such format; take one of paddle, paddle-lite"):
        export_folder(result(), "tflite")


def test_the_command_line_knows_every_format() -> None:
    assert EXPORTS == FORMATS


def test_without_paddle_lite_nothing_is_written(result: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    folder = result()
    before = names(folder)
    with pytest.raises(InputError, match="Paddle Lite is not installed here; make an environment"):
        export_folder(folder, "paddle-lite")
    assert names(folder) == before


def test_the_command_line_prints_what_it_wrote(result: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder = result()
    assert main(["export", str(folder), "--to", "paddle"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [str(folder / PROGRAM), str(folder / PARAMETERS)]
    shutil.rmtree(folder)
    assert main(["export", str(folder), "--to", "paddle"]) == 2
    assert capsys.readouterr().err.startswith(f"ocrslim: {folder}: holds no model.onnx")


@pytest.mark.parametrize("task", ["det", "rec"])
def test_rendered_text_is_always_the_same(task: str, twin: Callable[[str], Any]) -> None:
    source = open_model(twin(task).files.program.parent)
    first, again = rendered_batches(source), rendered_batches(source)
    assert len(first) == (16 if task == "rec" else 4)
    for one, other in zip(first, again, strict=True):
        assert (one == other).all()
        assert one.dtype.name == "float32"
        assert one.shape[:3] == (1, 3, 48 if task == "rec" else 640)


def test_paddle_lite_for_x86_is_run_and_compared(
    result: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        find_paddle_lite()
    except InputError as error:
        pytest.skip(str(error))
    # One page is calibrated on, so that the grids are coarse: what is tested is that it is run and judged.
    monkeypatch.setattr("ocrslim.export.deploy.REQUIRED", {"det": 0.5, "rec": 0.5})
    done = export_folder(result(), "paddle-lite", valid_targets="x86")
    assert done.files[0].name == "model_x86.nb"
    assert done.verification is not None
    assert 0.5 < done.verification.value <= 1
    monkeypatch.setattr("ocrslim.export.deploy.REQUIRED", {"det": 1.01, "rec": 1.01})
    code = main(["export", str(done.files[0].parent), "--to", "paddle-lite", "--valid-targets", "x86"])
    assert code == 1
    assert "disagrees" in capsys.readouterr().err


def test_the_float_model_for_x86_is_compared_with_itself(
    result: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``model.onnx`` is int8: what the float ``.nb`` must agree with is the float program that it was made from."""
    compared: list[Path] = []

    class Lite:
        agrees = True

        def __init__(self, path: Path, input_shape: tuple[int | None, ...]) -> None:
            assert path.name == "model_x86.nb"
            self.input_shape = input_shape

        def run(self, x: Any) -> Any:
            session = open_session(compared[0], "onnxruntime", 1)
            return session.run(x) if self.agrees else 1 - session.run(x)

    def opened(path: Path, engine: str, threads: int) -> Any:
        compared.append(path)
        return open_session(path, engine, threads)

    def convert(program: Path, parameters: Path, path: Path, valid_target: str) -> Path:
        path.write_bytes(program.read_bytes()[:8])
        return path

    monkeypatch.setattr("ocrslim.export.deploy.find_paddle_lite", lambda: Path("python"))
    monkeypatch.setattr("ocrslim.export.deploy.export_paddle_lite", convert)
    monkeypatch.setattr("ocrslim.export.deploy.PaddleLiteSession", Lite)
    monkeypatch.setattr("ocrslim.export.deploy.open_session", opened)
    monkeypatch.setattr("ocrslim.export.deploy.PAGES", 1)
    monkeypatch.setattr("ocrslim.export.deploy.PAGE_SIDE", 320)
    folder = result()
    order = ["export", str(folder), "--to", "paddle-lite", "--valid-targets", "x86", "--float"]
    assert main(order) == 0
    said = capsys.readouterr()
    program = folder / "paddle_float" / PROGRAM
    assert said.err == (f"ocrslim: model_x86.nb agrees with the float {program} in ONNX Runtime: mask_iou 1.0000\n")
    assert "agrees with model.onnx" not in said.out
    assert folder / "model.onnx" not in compared
    compared.clear()
    Lite.agrees = False
    assert main(order) == 1
    assert "disagrees" in capsys.readouterr().err


def test_paddle_lite_runs_the_float_model_for_x86(result: Folder) -> None:
    try:
        find_paddle_lite()
    except InputError as error:
        pytest.skip(str(error))
    done = export_folder(result(), "paddle-lite", valid_targets="x86", quantized=False)
    assert done.verification is None
    (note,) = done.notes
    assert float(note.rsplit(" ", 1)[1]) > 0.99


def test_a_failing_tool_is_an_error_of_the_engine(
    result: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "env" / "bin" / "python"
    tool.parent.mkdir(parents=True)
    tool.write_text('#!/bin/sh\ncase "$2" in *version*) echo v2.13;; *) echo no such op >&2; exit 3;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "env"))
    with pytest.raises(EngineError, match="Paddle Lite cannot do it: no such op"):
        export_folder(result(), "paddle-lite")
