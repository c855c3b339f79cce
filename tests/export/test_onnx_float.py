"""The rewritten float model: same answers in both engines, fewer nodes, one shape where one was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from ocrslim.engines.session import open_session
from ocrslim.engines.targets import get_target
from ocrslim.errors import InputError
from ocrslim.export.onnx_float import copy_model, export_float, with_shape
from ocrslim.graph.importers.onnx import load_onnx, model_bytes
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.passes.shuffle import UnshuffleUpsampling

SHAPES = {"det": (1, 3, 160, 224), "rec": (1, 3, 48, 320)}


@dataclass(frozen=True)
class Model:
    path: Path
    canonical: ir.Model
    x: NDArray[np.float32]


@pytest.fixture
def model(zoo: Callable[[str], Path], request: pytest.FixtureRequest) -> Model:
    path = open_model(zoo(f"PP-OCRv4_mobile_{request.param}")).path
    x = np.random.default_rng(0).standard_normal(SHAPES[request.param], np.float32)
    return Model(path, canonicalize(load_onnx(path)), x)


def kinds(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("model", ["det", "rec"], indirect=True)
def test_the_engine_answers_as_for_the_original(model: Model, target: str, tmp_path: Path) -> None:
    path = tmp_path / "rewritten.onnx"
    before = kinds(model.canonical)
    export_float(model.canonical, get_target(target), path)
    assert kinds(model.canonical) == before  # the graph that was given is as it was
    whole, rewritten = (open_session(file, target, 1).run(model.x) for file in (model.path, path))
    np.testing.assert_allclose(rewritten, whole, atol=1e-4)
    assert before.total() < kinds(load_onnx(model.path)).total()
    is_detector = whole.ndim == 4
    assert kinds(load_onnx(path))["DepthToSpace"] == (is_detector and target == "openvino")


@pytest.mark.parametrize("model", ["det", "rec"], indirect=True)
def test_one_shape_makes_what_is_computed_of_it_constant(model: Model, tmp_path: Path) -> None:
    fixed = with_shape(model.canonical, model.x.shape)
    assert not kinds(fixed)["Shape"]
    assert kinds(fixed).total() <= kinds(model.canonical).total()
    export_float(fixed, get_target("onnxruntime"), tmp_path / "fixed.onnx")
    session = open_session(tmp_path / "fixed.onnx", "onnxruntime", 1)
    assert session.input_shape == model.x.shape
    whole = open_session(model.path, "onnxruntime", 1).run(model.x)
    np.testing.assert_allclose(session.run(model.x), whole, atol=1e-4)


@pytest.mark.parametrize("model", ["rec"], indirect=True)
@pytest.mark.parametrize("shape", [(1, 4, 48, 320), (3, 48, 320)])
def test_a_shape_that_the_model_does_not_take_is_refused(model: Model, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"--shape: the model takes .* give another HxW"):
        with_shape(model.canonical, shape)


def test_a_copy_holds_its_weights_itself(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    """A model whose weights lie beside it would be given without them."""
    plain = open_model(zoo("PP-OCRv6_tiny_rec")).path
    (tmp_path / "in").mkdir()
    beside = tmp_path / "in" / "model.onnx"
    onnx.save_model(onnx.load(plain), beside, save_as_external_data=True, location="w.bin", size_threshold=64)
    assert model_bytes(plain) == plain.stat().st_size
    assert model_bytes(beside) == beside.stat().st_size + (tmp_path / "in" / "w.bin").stat().st_size
    copy_model(plain, tmp_path / "plain.onnx")
    assert (tmp_path / "plain.onnx").read_bytes() == plain.read_bytes()
    copy_model(beside, tmp_path / "whole.onnx")
    x = np.random.default_rng(0).standard_normal(SHAPES["rec"], np.float32)
    answers = [open_session(path, "onnxruntime", 1).run(x) for path in (plain, tmp_path / "whole.onnx")]
    assert np.array_equal(*answers)
    assert not (tmp_path / "w.bin").exists()


@pytest.mark.parametrize("model", ["det"], indirect=True)
def test_what_is_rewritten_has_its_old_names_again_when_undone(model: Model, tmp_path: Path) -> None:
    """By them a program's parameters are found when the model goes back to Paddle."""
    path = tmp_path / "rewritten.onnx"
    export_float(model.canonical, get_target("openvino"), path)
    rewritten = load_onnx(path)
    read = {value.name for node in rewritten.graph for value in node.inputs if value is not None}
    assert set(rewritten.graph.initializers) <= read  # and nothing lies in the file unused
    assert UnshuffleUpsampling()(rewritten).modified
    (old,), (again,) = (
        [node for node in graph.graph if node.name == "p2o.ConvTranspose.2"] for graph in (model.canonical, rewritten)
    )
    assert [value.name for value in again.inputs if value] == [value.name for value in old.inputs if value]
