"""A pruned official model goes back into its Paddle program: every attribute that counts channels follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ocrslim.engines.targets import get_target
from ocrslim.export.onnx_float import export_float
from ocrslim.export.paddle import PARAMETERS, PROGRAM, export_paddle
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.paddle.files import PaddleFiles, find
from ocrslim.graph.importers.paddle.importer import import_paddle
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.passes.shuffle import UnshuffleUpsampling
from ocrslim.slimming.pruning.cut import cut
from ocrslim.slimming.pruning.groups import Channels

SHAPES = {"det": (1, 3, 96, 128), "rec": (1, 3, 48, 320)}


@pytest.mark.parametrize("task", ["det", "rec"])
def test_every_group_that_can_be_cut_is_cut_and_the_program_answers_as_the_graph(
    paddle_zoo: Callable[[str], Path], tmp_path: Path, task: str
) -> None:
    files = find(paddle_zoo(f"PP-OCRv4_mobile_{task}"))
    assert files is not None
    channels = Channels(canonicalize(load_onnx(import_paddle(files, tmp_path))), SHAPES[task])
    removed = [unit for group in channels.groups if not group.reason for unit in group.units[: len(group.units) // 4]]
    assert removed
    smaller = cut(channels, removed)
    export_float(smaller, get_target("openvino"), tmp_path / "model.onnx")
    written = load_onnx(tmp_path / "model.onnx")
    UnshuffleUpsampling()(written)
    out = tmp_path / "out"
    out.mkdir()
    export_paddle(written, files.program, files.parameters, out, quantized=False)
    again = canonicalize(load_onnx(import_paddle(PaddleFiles(out / PROGRAM, out / PARAMETERS), out)))
    image = torch.randn(SHAPES[task], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = (GraphModule(model).eval()(image) for model in (smaller, again))
    assert torch.allclose(found, wanted, atol=1e-4)
