"""What a quantized student has in common with its teacher is computed once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ocrslim import learning as learned
from ocrslim.config.profile import Task
from ocrslim.engines.targets import get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import DistillationPoints, distillation_points
from ocrslim.learning import scales_and_biases, supervise, supervise_quantized
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare
from ocrslim.slimming.quantization.shared import find_float_part
from ocrslim.slimming.shared import Shared
from ocrslim.slimming.training.distillation import DistillationSettings

Zoo = Callable[[str], Path]


def quantized(path: Path, target: str, images: Tensor) -> Quantization:
    graph, wanted = canonicalize(load_onnx(path)), get_target(target)
    quantization = prepare(GraphModule(graph).eval(), place(graph, wanted), wanted)
    calibrate(quantization, [images], "minmax")
    return quantization


def pages() -> Tensor:
    return torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.mark.parametrize("target", ["openvino", "onnxruntime"])
def test_all_before_the_first_site_is_shared(zoo: Zoo, target: str) -> None:
    quantization = quantized(zoo("PP-OCRv4_mobile_det"), target, pages())
    teacher = GraphModule(canonicalize(load_onnx(zoo("PP-OCRv4_mobile_det")))).eval()
    shared = find_float_part(quantization, teacher)
    first = quantization.placement.sites[0]
    assert first.input_value in shared.values
    assert first.raw_output not in shared.inside
    assert len(shared.inside) >= 20


def test_a_weight_that_is_another_ends_it(zoo: Zoo) -> None:
    quantization = quantized(zoo("PP-OCRv4_mobile_det"), "openvino", pages())
    teacher = GraphModule(canonicalize(load_onnx(zoo("PP-OCRv4_mobile_det")))).eval()
    stem = next(node for node in quantization.module.model.graph if node.op_type == "Conv")
    with torch.no_grad():
        quantization.module.parameter(str(stem.inputs[1].name)).mul_(1.001)
    assert find_float_part(quantization, teacher) == Shared()


@pytest.mark.parametrize("name", ["PP-OCRv4_mobile_det", "PP-OCRv6_tiny_rec"])
def test_going_on_from_the_teacher_changes_neither_loss_nor_gradients(
    zoo: Zoo, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feature in the part that both have in common is one of those that the loss is the mean of."""
    task: Task = "rec" if name.endswith("rec") else "det"
    images = torch.rand(2, 3, 48, 96) if task == "rec" else pages()
    quantization = quantized(zoo(name), "openvino", images)
    graph = canonicalize(load_onnx(zoo(name)))
    teacher = GraphModule(graph).eval()
    learning = [parameter for group in scales_and_biases(quantization) for parameter in group.parameters]
    points, shared = distillation_points(graph), find_float_part(quantization, teacher)
    stem = shared.values[0]
    features = (*points.features, stem)
    monkeypatch.setattr(learned, "distillation_points", lambda graph: DistillationPoints(points.logits, features))
    settings = DistillationSettings()
    whole, _ = supervise(quantization.module, teacher, graph, task, settings, [], features)
    short, _ = supervise_quantized(quantization, teacher, graph, task, settings, [])
    assert whole.features == features
    assert short.features == tuple(name for name in points.features if name not in shared.inside)
    assert short.features
    assert short.shared
    found = []
    for criterion in (whole, short):
        for parameter in learning:
            parameter.grad = None
        loss, _ = criterion(images)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append([loss.detach(), *(p.grad.clone() for p in learning if p.grad is not None)])
    assert len(found[0]) > 20
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5 * float(a.abs().max())) for a, b in zip(*found, strict=True))
