"""Whole models: the small one in both formats, and the real ones beside their ONNX twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from ocrslim.errors import ModelError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.paddle.convert import to_onnx
from ocrslim.graph.importers.paddle.files import PaddleFiles, find
from ocrslim.graph.importers.paddle.importer import import_paddle, read_network
from ocrslim.graph.passes.canonical import canonicalize

SHAPES = {"det": [(1, 3, 64, 96), (2, 3, 96, 160)], "rec": [(1, 3, 48, 320), (2, 3, 48, 104)]}
NAMES = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")


def files_in(folder: Path) -> PaddleFiles:
    files = find(folder)
    assert files is not None
    return files


def session_of(model: ir.Model) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def in_double(model: ir.Model) -> torch.nn.Module:
    """Return a model that computes in double precision, where rounding hides nothing."""
    model = model.clone()
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    return GraphModule(model).double().eval()


@pytest.fixture(scope="module", params=NAMES)
def twins(request: pytest.FixtureRequest, paddle_zoo: Any, zoo: Any) -> tuple[str, ir.Model, ir.Model]:
    """A real model out of Paddle's files, and the ONNX file of the same weights made by paddle2onnx."""
    name = request.param
    return name[-3:], to_onnx(read_network(files_in(paddle_zoo(name)))), load_onnx(zoo(name))


def test_a_real_model_computes_what_its_twin_does(twins: Any, images: Any) -> None:
    # In single precision the twin itself moves by 1e-5 between ONNX Runtime's levels of optimization.
    task, ours, twin = twins
    for shape in SHAPES[task]:
        x = torch.from_numpy(images(task, shape)).double()
        with torch.no_grad():
            difference = (in_double(ours)(x) - in_double(twin)(x)).abs().max()
        assert difference < 1e-12


def test_its_canonical_form_is_the_twins_in_onnx_runtime(twins: Any, images: Any) -> None:
    task, ours, twin = twins
    sessions = [session_of(canonicalize(model)) for model in (ours, twin)]
    plain = [session_of(model) for model in (ours, twin)]
    for shape in SHAPES[task]:
        feed = {"x": images(task, shape)}
        first, second = (session.run(None, feed)[0] for session in sessions)
        np.testing.assert_allclose(first, second, rtol=0, atol=2e-6)
        first, second = (session.run(None, feed)[0] for session in plain)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-5 if task == "det" else 1e-4)


def test_names_are_paddles(twins: Any) -> None:
    task, ours, twin = twins
    network_names = {value.name for node in twin.graph for value in node.outputs}
    made = {value.name for node in ours.graph for value in node.outputs}
    assert ours.graph.outputs[0].name == twin.graph.outputs[0].name
    assert ours.graph.inputs[0].name == "x"
    assert [str(size) for size in ours.graph.inputs[0].shape] == [
        "N",
        "3",
        *(("H", "W") if task == "det" else ("48", "W")),
    ]
    weights = {
        name for name, value in ours.graph.initializers.items() if "/" not in name and value.const_value.size > 1
    }
    assert weights <= network_names  # paddle2onnx keeps them as outputs of Constant nodes
    assert len([name for name in weights if name.endswith(".w_0")]) > 50
    convs = {node.outputs[0].name for node in ours.graph if node.op_type == "Conv"}
    assert len(convs) > 30
    assert convs <= network_names
    assert all(node.name == node.outputs[0].name for node in ours.graph)
    assert len(made) == len({node.name for node in ours.graph})


class TestSmall:
    @pytest.fixture
    def pir(self, save_small: Any, small_pir: bytes, tmp_path: Path) -> Path:
        folder = save_small(tmp_path / "pir")
        (folder / "inference.pdmodel").unlink()
        (folder / "inference.json").write_bytes(small_pir)
        return folder

    @pytest.fixture
    def classic(self, save_small: Any, tmp_path: Path) -> Path:
        return save_small(tmp_path / "classic")

    def test_both_formats_are_one_model(self, classic: Path, pir: Path, run_onnx: Any, numbers: Any) -> None:
        x = numbers(2, 3, 6, 7)
        models = [to_onnx(read_network(files_in(folder))) for folder in (classic, pir)]
        first, second = (run_onnx(model, {"x": x})[0] for model in models)
        np.testing.assert_array_equal(first, second)
        assert [model.graph.outputs[0].name for model in models] == ["y", "fetch_name_0"]
        for model in models:
            named = sorted(name for name in model.graph.initializers if "/" not in name)
            assert [name for name in named if "full" not in name] == ["conv2d_0.b_0", "conv2d_0.w_0"]

    def test_it_computes_what_it_says(self, classic: Path, small: Any, run_onnx: Any, numbers: Any) -> None:
        x = numbers(1, 3, 5, 5)
        weight, bias = (torch.from_numpy(small[1][name]) for name in ("conv2d_0.w_0", "conv2d_0.b_0"))
        wanted = torch.sigmoid(torch.nn.functional.conv2d(torch.from_numpy(x), weight, bias, padding=1))
        found = run_onnx(to_onnx(read_network(files_in(classic))), {"x": x})[0]
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-6)

    def test_the_file_lies_under_the_hash_of_its_source(self, classic: Path, tmp_path: Path) -> None:
        files = files_in(classic)
        path = import_paddle(files, tmp_path / "cache")
        assert path == tmp_path / "cache" / files.sha256() / "inference.onnx"
        assert load_onnx(path).graph.outputs[0].name == "y"
        before = path.stat().st_mtime_ns
        assert import_paddle(files, tmp_path / "cache") == path
        assert path.stat().st_mtime_ns == before  # the same bytes are not written again

    def test_a_file_of_an_older_conversion_is_replaced(self, classic: Path, tmp_path: Path) -> None:
        path = import_paddle(files_in(classic), tmp_path / "cache")
        good = path.read_bytes()
        path.write_bytes(b"old")
        assert import_paddle(files_in(classic), tmp_path / "cache").read_bytes() == good

    def test_where_a_copy_lies_changes_nothing(self, save_small: Any, tmp_path: Path) -> None:
        one, other = (files_in(save_small(tmp_path / name)) for name in ("a", "b"))
        assert import_paddle(one, tmp_path / "c").read_bytes() == import_paddle(other, tmp_path / "d").read_bytes()

    def test_a_cache_that_cannot_be_written_is_told(self, classic: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ModelError, match=r"cannot be written .*; set OCRSLIM_CACHE"):
            import_paddle(files_in(classic), tmp_path / "file")

    def test_a_size_that_no_file_can_hold_is_told(self, pir: Path, tmp_path: Path) -> None:
        content = (pir / "inference.json").read_text("utf-8")
        (pir / "inference.json").write_text(content.replace("[-1, 3,", "[-1, 1e300,"), encoding="utf-8")
        assert content.count("[-1, 3,")
        with pytest.raises(ModelError, match=r"inference\.json: not a whole Paddle program") as caught:
            import_paddle(files_in(pir), tmp_path / "cache")
        assert "\n" not in str(caught.value)

    def test_an_unknown_operator_is_told_with_the_file(
        self, make_program: Callable[..., Any], save_small: Any, small: Any, tmp_path: Path
    ) -> None:
        small[0].ops[3].type = "yolo_box"
        folder = save_small(tmp_path / "odd")
        with pytest.raises(
            ModelError, match=r"inference\.pdmodel: operator yolo_box of node 'y': has no converter; convert the model"
        ) as caught:
            import_paddle(files_in(folder), tmp_path / "cache")
        assert "\n" not in str(caught.value)

    def test_parameters_of_another_model_are_told(self, classic: Path, paddle_zoo: Any, tmp_path: Path) -> None:
        other = (paddle_zoo(NAMES[0]) / "inference.pdiparams").read_bytes()
        (classic / "inference.pdiparams").write_bytes(other)
        with pytest.raises(ModelError, match="holds more than the 2 tensors of the program"):
            import_paddle(files_in(classic), tmp_path / "cache")
