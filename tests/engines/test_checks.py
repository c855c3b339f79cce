"""The words and rules that both engines share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocrslim.engines.checks import check_batch, fits, one_line, only, shape_text
from ocrslim.errors import EngineError, ModelError

REC = (None, 3, 48, None)


@pytest.mark.parametrize(
    ("declared", "shape", "answer"),
    [
        (REC, (1, 3, 48, 320), True),
        (REC, (6, 3, 48, 1), True),
        (REC, (1, 3, 32, 320), False),
        (REC, (3, 48, 320), False),
        (REC, (1, 1, 3, 48, 320), False),
        ((1, 3, 640, 640), (1, 3, 640, 640), True),
        ((1, 3, 640, 640), (2, 3, 640, 640), False),
        ((), (), True),
    ],
)
def test_fits(declared: tuple[int | None, ...], shape: tuple[int, ...], answer: bool) -> None:
    assert fits(declared, shape) is answer


def test_check_batch_lets_through_what_fits() -> None:
    check_batch(Path("m.onnx"), REC, np.zeros((2, 3, 48, 9), np.float32))


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.float16])
def test_check_batch_wants_float32(dtype: type) -> None:
    with pytest.raises(TypeError, match=np.dtype(dtype).name):
        check_batch(Path("m.onnx"), REC, np.zeros((2, 3, 48, 9), dtype))


def test_check_batch_names_model_and_shapes() -> None:
    with pytest.raises(EngineError, match=r"^m\.onnx: takes \?x3x48x\?, not 2x3x47x9$"):
        check_batch(Path("m.onnx"), REC, np.zeros((2, 3, 47, 9), np.float32))


@pytest.mark.parametrize(
    ("names", "message"), [([], "no graph with an input"), (["a", "b", "c"], r"3 inputs \(a, b, c\)")]
)
def test_only_refuses_none_and_several(names: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        only(Path("m.onnx"), names, "input")


def test_only_returns_the_one() -> None:
    assert only(Path("m.onnx"), iter(["x"]), "input") == "x"


@pytest.mark.parametrize(
    ("text", "noise", "line"),
    [
        ("plain", (), "plain"),
        ("  two\n\n lines \n", (), "two lines"),
        ("Exception from a.cpp:1:\nreal reason\n", ("Exception from",), "real reason"),
        ("", (), "RuntimeError"),
        ("Exception from a.cpp:1:\n", ("Exception from",), "RuntimeError"),
    ],
)
def test_one_line(text: str, noise: tuple[str, ...], line: str) -> None:
    assert one_line(RuntimeError(text), noise) == line


def test_one_line_is_cut_where_an_engine_goes_on_and_on() -> None:
    line = one_line(RuntimeError("abc " * 1000))
    assert len(line) == 200
    assert line.endswith("...")


def test_shape_text() -> None:
    assert shape_text((1, 3, 48, 320)) == "1x3x48x320"
    assert shape_text((None, 3, None, None)) == "?x3x?x?"
