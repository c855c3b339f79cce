"""Paddle Lite: how it is looked for, and, where there is one, what it makes of the real models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrslim.errors import EngineError, InputError
from ocrslim.export.paddle import export_paddle
from ocrslim.export.paddle_lite import ENVIRONMENT, PaddleLiteSession, export_paddle_lite, find_paddle_lite

Array = np.ndarray[Any, np.dtype[Any]]

# The detector subtracts means of hundreds (its batch_norm_0): single precision loses four digits there, in any order.
NEAR = 1e-3

HOW = r"make an environment of CPython 3\.8, .*pip install paddlelite==2\.13rc0.*set OCRSLIM_PADDLE_LITE to its folder"


@pytest.fixture
def lite() -> Path:
    """Return Paddle Lite's interpreter; skip with the line that says how to get it."""
    try:
        return find_paddle_lite()
    except InputError as error:
        pytest.skip(str(error))


def fake(folder: Path, answer: str, code: int = 0) -> Path:
    """Write something that answers as an interpreter with another Paddle Lite would."""
    path = folder / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho {answer}\nexit {code}\n")
    path.chmod(0o755)
    return folder


def test_without_one_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(InputError, match=f"^Paddle Lite is not installed here; {HOW}$"):
        find_paddle_lite()


def test_an_environment_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, sys.executable)
    with pytest.raises(InputError, match=rf"^{ENVIRONMENT}=.* has no Paddle Lite; {HOW}$"):
        find_paddle_lite()


def test_a_path_that_is_no_environment_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    with pytest.raises(InputError, match=r"can't be run \(No such file or directory\); make an environment"):
        find_paddle_lite()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the interpreter")
@pytest.mark.parametrize(("answer", "good"), [("v2.13-rc", True), ("v2.12", False), ("v2.10", False)])
def test_other_versions_are_refused(answer: str, good: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(fake(tmp_path, answer)))
    if good:
        assert find_paddle_lite() == tmp_path / "bin" / "python"
    else:
        with pytest.raises(
            InputError, match=f"has Paddle Lite {answer[1:]}, which converts these models wrongly; make"
        ):
            find_paddle_lite()


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the interpreter")
def test_a_tool_that_writes_nothing_is_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(fake(tmp_path / "env", "v2.13")))
    with pytest.raises(EngineError, match="wrote no file for arm"):
        export_paddle_lite(tmp_path / "a.pdmodel", tmp_path / "a.pdiparams", tmp_path / "model.nb")
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_an_unknown_target_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--valid-targets mips: take one of arm, x86"):
        export_paddle_lite(tmp_path, tmp_path, tmp_path / "model.nb", "mips")


def test_a_broken_program_is_one_line(lite: Path, tmp_path: Path) -> None:
    program, parameters = tmp_path / "a.pdmodel", tmp_path / "a.pdiparams"
    program.write_bytes(b"nothing of the kind")
    parameters.write_bytes(b"")
    with pytest.raises(EngineError) as caught:
        export_paddle_lite(program, parameters, tmp_path / "model.nb")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.nb").exists()


@pytest.mark.parametrize("task", ["det", "rec"])
def test_float_models_compute_the_same(
    task: str, lite: Path, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    model = twin(task)
    files = export_paddle(model.canonical, model.files.program, model.files.parameters, tmp_path, quantized=False)
    session = PaddleLiteSession(export_paddle_lite(*files, tmp_path / "model.nb", "x86"))
    assert np.abs(session.run(model.x) - run(model.canonical, model.x)[0]).max() < NEAR


@pytest.mark.parametrize("task", ["det", "rec"])
def test_quantized_models_decide_the_same(
    task: str, lite: Path, twin: Callable[[str], Any], run: Callable[..., list[Array]], tmp_path: Path
) -> None:
    model = twin(task)
    files = export_paddle(model.quantized, model.files.program, model.files.parameters, tmp_path)
    session = PaddleLiteSession(export_paddle_lite(*files, tmp_path / "model.nb", "x86"))
    ours, theirs = run(model.quantized, model.x)[0], session.run(model.x)
    assert np.isfinite(theirs).all()
    if task == "rec":
        assert (ours.argmax(-1) == theirs.argmax(-1)).mean() >= 0.9
    else:
        masks = ours > 0.3, theirs > 0.3
        assert (masks[0] & masks[1]).sum() >= 0.9 * (masks[0] | masks[1]).sum() > 0


@pytest.mark.parametrize("task", ["det", "rec"])
def test_a_phones_file_is_much_smaller_than_the_float_one(
    task: str, lite: Path, twin: Callable[[str], Any], tmp_path: Path
) -> None:
    model = twin(task)
    sizes = []
    for name, graph in (("float", model.canonical), ("int8", model.quantized)):
        (tmp_path / name).mkdir()
        files = export_paddle(
            graph, model.files.program, model.files.parameters, tmp_path / name, quantized=name == "int8"
        )
        sizes.append(export_paddle_lite(*files, tmp_path / f"{name}.nb").stat().st_size)
    assert sizes[1] < 0.45 * sizes[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float", "float.nb", "int8", "int8.nb"]
