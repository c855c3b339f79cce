"""Paddle Inference: finding its files anywhere; running them where paddle is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrslim.engines.paddle import MODES, PaddleSession, find_model
from ocrslim.engines.session import PADDLE_ENGINES, open_session
from ocrslim.engines.timing import bench
from ocrslim.errors import EngineError, InputError, ModelError, OcrslimError
from ocrslim.export.paddle_quant import make_op, make_var, replace_ops
from ocrslim.graph.importers.paddle.framework import AttributeType, VarKind, message
from ocrslim.graph.importers.paddle.program import Program, read_program, write_parameters, write_program

Array = np.ndarray[Any, np.dtype[Any]]

every_mode = pytest.mark.parametrize("engine", PADDLE_ENGINES)


@pytest.fixture
def paddle() -> Any:
    return pytest.importorskip("paddle", reason="pip install 'ocrslim[paddle]'")


@pytest.fixture
def doubler(tmp_path: Path) -> Path:
    """Write a program of ``y = 2 * x`` for three channels of any size, and return its file."""
    desc = message("ProgramDesc")
    desc.version.version = 2006002
    block = desc.blocks.add(idx=0, parent_idx=-1)
    first = {"col": (AttributeType.INT, 0)}
    double = {"scale": (AttributeType.FLOAT, 2.0), "bias": (AttributeType.FLOAT, 0.0)}
    block.ops.append(make_op("feed", {"X": "feed"}, {"Out": "x"}, first))
    block.ops.append(make_op("scale", {"X": "x"}, {"Out": "s"}, double))
    block.ops.append(
        make_op("elementwise_add", {"X": "s", "Y": "zero"}, {"Out": "y"}, {"axis": (AttributeType.INT, 1)})
    )
    block.ops.append(make_op("fetch", {"X": "y"}, {"Out": "fetch"}, first))
    for name, kind in (("feed", VarKind.FEED_MINIBATCH), ("fetch", VarKind.FETCH_LIST)):
        block.vars.add(name=name, persistable=True).type.type = int(kind)
    block.vars.extend(make_var(name, VarKind.FP32, [-1, 3, -1, -1]) for name in ("x", "s", "y"))
    block.vars.append(make_var("zero", VarKind.FP32, [3], persistable=True))
    path = tmp_path / "inference.pdmodel"
    write_program(Program(desc), path)
    write_parameters(path.with_suffix(".pdiparams"), {"zero": np.zeros(3, np.float32)})
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("given", "program", "parameters"),
    [
        ("inference.pdmodel", "inference.pdmodel", "inference.pdiparams"),
        ("other.pdmodel", "other.pdmodel", "other.pdiparams"),
        ("inference.json", "inference.json", "inference.pdiparams"),
        ("__model__", "__model__", "__params__"),
        (".", "inference.pdmodel", "inference.pdiparams"),
        ("model.onnx", "inference.pdmodel", "inference.pdiparams"),
    ],
)
def test_a_path_means_a_program_and_its_parameters(given: str, program: str, parameters: str, tmp_path: Path) -> None:
    touch(tmp_path, "inference.pdmodel", "inference.pdiparams", "inference.json", "__model__", "__params__")
    touch(tmp_path, "other.pdmodel", "other.pdiparams", "model.onnx")
    assert find_model(tmp_path / given) == (tmp_path / program, tmp_path / parameters)


def test_an_onnx_file_alone_says_how_to_get_paddles(tmp_path: Path) -> None:
    touch(tmp_path, "model.onnx")
    with pytest.raises(ModelError, match=r"holds no Paddle model .*write it with `ocrslim export .* --to paddle`"):
        find_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("missing", ["inference.pdmodel", "inference.pdiparams"])
def test_half_a_model_names_the_other_half(missing: str, tmp_path: Path) -> None:
    touch(tmp_path, *{"inference.pdmodel", "inference.pdiparams"} - {missing})
    with pytest.raises(ModelError, match=rf"{missing}: there is no such file; a Paddle model is two files"):
        find_model(tmp_path / "inference.pdmodel")


@every_mode
def test_without_paddle_the_line_says_how_to_get_it(
    engine: str, doubler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    with pytest.raises(InputError, match=r"the engine paddle is not installed .*pip install 'ocrslim\[paddle\]'"):
        open_session(doubler, engine)


def test_the_names_of_the_modes_are_the_engines() -> None:
    assert tuple(sorted(MODES)) == tuple(sorted(PADDLE_ENGINES))
    assert [name for name, mode in MODES.items() if mode.int8 and not mode.onednn] == []


@every_mode
def test_every_mode_runs_any_size_in_any_order(engine: str, paddle: Any, doubler: Path) -> None:
    session = open_session(doubler, engine, threads=1)
    assert (session.engine, session.version, session.threads) == (engine, paddle.__version__, 1)
    assert (session.input_name, session.input_shape) == ("x", (None, 3, None, None))
    rng = np.random.default_rng(0)
    kept = []
    for shape in ((1, 3, 4, 6), (2, 3, 8, 2), (1, 3, 4, 6)):
        x = rng.normal(size=shape).astype(np.float32)
        kept.append((x, session.run(x)))
    for x, y in kept:  # an output is the caller's own: a later run has not written into it
        assert y == pytest.approx(2 * x, abs=1e-6)


def test_a_view_is_run_as_it_looks(paddle: Any, doubler: Path) -> None:
    x = np.random.default_rng(1).normal(size=(1, 6, 4, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    assert not x.flags.c_contiguous
    assert open_session(doubler, "paddle", 1).run(x) == pytest.approx(2 * x, abs=1e-6)


def test_without_optimising_the_answer_is_the_same(paddle: Any, doubler: Path) -> None:
    x = np.ones((1, 3, 2, 2), np.float32)
    assert open_session(doubler, "paddle", 1, optimize=False).run(x) == pytest.approx(2 * x)


def test_what_does_not_fit_is_refused_before_the_engine_sees_it(paddle: Any, doubler: Path) -> None:
    session = open_session(doubler, "paddle", 1)
    with pytest.raises(TypeError, match="float64; give float32"):
        session.run(np.ones((1, 3, 2, 2)))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"takes \?x3x\?x\?, not 1x1x2x2"):
        session.run(np.ones((1, 1, 2, 2), np.float32))


def test_a_program_of_an_unknown_operator_is_one_line(paddle: Any, doubler: Path) -> None:
    program = read_program(doubler)
    replace_ops(program, [*program.ops[:1], make_op("no_such_op", {"X": "x"}, {"Out": "y"}, {}), program.ops[-1]])
    write_program(program, doubler)
    with pytest.raises(OcrslimError) as caught:
        open_session(doubler, "paddle", 1)
    assert "\n" not in str(caught.value)
    assert str(doubler) in str(caught.value)


def test_a_new_program_needs_paddle_3(paddle: Any, doubler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = doubler.with_suffix(".json")
    new.write_text("{}")
    monkeypatch.setattr(paddle, "__version__", "2.6.2")
    with pytest.raises(EngineError, match=r"is of Paddle 3, paddle 2\.6\.2 runs \.pdmodel only"):
        PaddleSession(new, 1)


def test_the_int8_passes_are_silent(paddle: Any, doubler: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_session(doubler, "paddle-int8", 1)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "quantized" not in captured.err


def test_the_size_of_a_model_is_that_of_both_files(paddle: Any, doubler: Path) -> None:
    (row,) = bench([("doubler", doubler)], ["paddle"], threads=1, shape=(1, 3, 4, 4), min_runs=3, min_seconds=0)
    assert row.bytes == doubler.stat().st_size + doubler.with_suffix(".pdiparams").stat().st_size
    assert row.versions["paddlepaddle"] == paddle.__version__
