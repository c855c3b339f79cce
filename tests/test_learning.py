"""What the recipes that train share: rates in proportion, what learns, the loop, and the proof of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from tests.slimming.quantization.conftest import network
from torch import Tensor, nn

from ocrslim.engines.session import open_session
from ocrslim.engines.targets import get_target
from ocrslim.errors import VerifyError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.learning import SMALLEST_RMS, proportional, run_trainer, scales_and_biases, verify_module
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.training.trainer import ParameterGroup, Score, Trainer, TrainSettings


def quiet_log(folder: Path) -> RunLog:
    from rich.console import Console

    folder.mkdir(exist_ok=True)
    return RunLog(folder, Console(quiet=True))


def test_rates_are_in_proportion_to_the_size_of_a_tensor() -> None:
    large, none = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.zeros(2))
    first, second = proportional([("large", large), ("none", none)])
    assert (first.name, first.factor) == ("large", pytest.approx(12.5**0.5))
    assert second.factor == SMALLEST_RMS
    assert proportional([("none", none)], least=0.5)[0].factor == 0.5


def test_scales_and_biases_learn_and_integers_stay() -> None:
    target = get_target("openvino")
    graph = network()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    batch = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    calibrate(quantization, [batch], observer="minmax")
    groups = scales_and_biases(quantization)
    assert not any(group.weight_decay for group in groups)
    learning = {parameter for group in groups for parameter in group.parameters}
    sites = quantization.placement.sites
    assert not learning & {quantization.module.parameter(site.weight_name) for site in sites}
    assert learning >= {bias for site in sites if (bias := quantization.bias(site)) is not None}
    assert learning >= {*quantization.weight_scales(), *quantization.activation_scales()}
    codes = [quantization.weights[site.weight_name].codes for site in sites]
    assert all(code is not None for code in codes)


def trainer_of(folder: Path) -> Trainer:
    torch.manual_seed(0)
    student = nn.Linear(2, 1)

    def criterion(images: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = student(images).square().mean()
        return loss, {"loss": loss.item()}

    groups = [ParameterGroup("all", tuple(student.parameters()))]
    settings = TrainSettings(steps=6, learning_rate=0.1, judge_every=2, checkpoint_every=2)
    return Trainer(student, groups, criterion, lambda: Score(-student.weight.norm().item()), settings, folder=folder)


def batches(start: int, count: int) -> Iterator[Tensor]:
    for index in range(start, start + count):
        yield torch.randn(4, 2, generator=torch.Generator().manual_seed(index))


def test_an_interrupted_loop_is_saved_and_goes_on_to_the_same_end(tmp_path: Path) -> None:
    def interrupted(start: int, count: int) -> Iterator[Tensor]:
        yield from batches(start, 3)
        raise KeyboardInterrupt

    whole = trainer_of(tmp_path / "whole")
    run_trainer(whole, batches, quiet_log(tmp_path / "a"))
    broken = trainer_of(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run_trainer(broken, interrupted, quiet_log(tmp_path / "b"))
    again = trainer_of(tmp_path / "broken")
    result = run_trainer(again, batches, quiet_log(tmp_path / "b"), log_every=2)
    assert result.steps == 6
    assert torch.equal(again.student.weight, whole.student.weight)  # type: ignore[arg-type]
    said = (tmp_path / "b" / "log.txt").read_text(encoding="utf-8")
    assert "going on from step 3" in said
    assert "step 4: loss" in said
    assert "step 5: loss" not in said


def test_a_file_is_held_against_the_module_that_it_was_made_from(tmp_path: Path) -> None:
    """A map that the file answers otherwise than the module is no pass."""
    graph = one_map()
    ir.save(graph, tmp_path / "m.onnx")
    session = open_session(tmp_path / "m.onnx", "onnxruntime", 1)
    images = [torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))]
    verify_module("det", GraphModule(graph).eval(), session, images).check()

    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1.0 - x[:, :1]

    with pytest.raises(VerifyError):
        verify_module("det", Other(), session, images).check()


def one_map() -> ir.Model:
    """Return a detector that answers with the first channel."""
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="only", kernel_shape=[1, 1])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, "h", "w"])
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]))
    model.ir_version = 10
    return ir.from_proto(model)
