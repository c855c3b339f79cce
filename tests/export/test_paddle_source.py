"""Which Paddle model an int8 one is written into, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ocrslim.errors import ModelError
from ocrslim.export.paddle_source import has_twin, is_writable, paddle_source
from ocrslim.graph.importers.paddle.files import PaddleFiles
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.importers.zoo import MODELS

ONNX = ModelSource(Path("model.onnx"), "mine_det", "det", None, None, "00", None)


def test_the_files_that_came_are_those_that_are_written_into() -> None:
    files = PaddleFiles(Path("a/inference.pdmodel"), Path("a/inference.pdiparams"))
    came = replace(ONNX, paddle=files)
    assert is_writable(came)
    assert paddle_source(came) is files


def test_the_zoo_has_the_twin_of_its_onnx_file(paddle_zoo: Callable[[str], Path]) -> None:
    folder = paddle_zoo("PP-OCRv4_mobile_det")
    source = replace(ONNX, name="PP-OCRv4_mobile_det", sha256=MODELS["PP-OCRv4_mobile_det"].sha256)
    assert is_writable(source)
    found = paddle_source(source)
    assert (found.program, found.parameters) == (folder / "inference.pdmodel", folder / "inference.pdiparams")


def test_an_onnx_file_of_ones_own_has_none() -> None:
    assert not is_writable(ONNX)
    with pytest.raises(ModelError) as caught:
        paddle_source(ONNX)
    said = str(caught.value)
    assert said.startswith("mine_det: came as ONNX")
    assert "give the folder with inference.pdmodel and inference.pdiparams" in said
    assert "--target openvino or onnxruntime" in said


def test_a_model_that_was_trained_further_has_no_twin_though_it_has_the_name() -> None:
    """``inference.yml`` keeps the name of what it was trained from; the zoo's weights are others."""
    tuned = replace(ONNX, name="PP-OCRv4_mobile_det", sha256="of other weights")
    assert not is_writable(tuned)
    with pytest.raises(ModelError, match="PP-OCRv4_mobile_det: came as ONNX"):
        paddle_source(tuned)
    for name, other in (("mine_det", "PP-OCRv4_mobile_det"), ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")):
        assert not has_twin(name, MODELS[other].sha256)
    assert not has_twin("PP-OCRv6_tiny_rec", MODELS["PP-OCRv6_tiny_rec"].sha256), "there is none in Paddle's format"
    assert not has_twin(None, None)


def test_a_program_of_paddle_3_is_not_written() -> None:
    files = PaddleFiles(Path("new/inference.json"), Path("new/inference.pdiparams"))
    came = replace(ONNX, name="PP-OCRv4_mobile_det", paddle=files)  # the name alone helps nothing
    assert not is_writable(came)
    with pytest.raises(ModelError, match=r"new/inference\.json: is a program of Paddle 3 .* give the \.pdmodel"):
        paddle_source(came)
