"""The example's settings in our own terms, on the real graphs and the real images, under the paths that it names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from ocrslim.config.paddleslim import ExampleConfig, load_config
from ocrslim.config.paddleslim_optimizer import LearningRate, Optimizer
from ocrslim.config.paddleslim_training import (
    ExampleDistillation,
    ExampleQuantization,
    ExampleTraining,
    PostQuantization,
    Term,
)
from ocrslim.engines.targets import get_target
from ocrslim.errors import DataError, InputError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.ocr.ctc import Charset
from ocrslim.slimming.example import (
    calibration_plan,
    example_criterion,
    fit_target,
    kept_float,
    named_terms,
    open_example_data,
    origin_warning,
    train_settings,
)
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.training.task_losses import labelled_batches

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ZOO = {"det": "PP-OCRv3_mobile_det", "rec": "PP-OCRv3_mobile_rec"}


@pytest.fixture
def linked(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ExampleConfig]:
    """Return a function that links the real data to the paths that a task's unchanged file names, and reads that."""

    def link(task: str) -> ExampleConfig:
        folder = tmp_path / task / "train_data/icdar2015/text_localization"
        folder.mkdir(parents=True)
        (folder / task).symlink_to(real_data / task)
        for ours, theirs in (("train", "train"), ("val", "test")):
            (folder / f"{theirs}_icdar2015_label.txt").symlink_to(real_data / task / f"labels/{ours}.txt")
        monkeypatch.chdir(tmp_path / task)
        return load_config(CONFIGS / f"ppocrv3_{task}_qat_dist.yaml")

    return link


@pytest.fixture(scope="module")
def graphs(zoo: Callable[[str], Path]) -> dict[str, ir.Model]:
    return {task: canonicalize(load_onnx(zoo(name))) for task, name in ZOO.items()}


def names_of(graph: ir.Model) -> set[str]:
    return {str(value.name) for node in graph.graph for value in node.outputs}


def smaller(config: ExampleConfig, batch: int) -> ExampleConfig:
    assert config.train is not None
    return replace(config, train=replace(config.train, batch=batch))


def test_the_detectors_file_builds_a_pipeline_on_real_data(linked: Callable[[str], ExampleConfig]) -> None:
    config = smaller(linked("det"), 2)
    data = open_example_data(config, None, 0)
    held = len(data.training.held)
    assert held == 150
    assert len(data.batches) == len(data.training.train) == 378 - held
    assert (len(data.eval), data.workers) == (177, 4)
    assert data.parts == 2  # 960 x 960 pixels each
    batch = next(labelled_batches(data.batches, 0, 1, data.workers))
    assert batch.images.shape == (2, 3, 960, 960)
    assert set(batch.targets) == {"threshold_map", "threshold_mask", "shrink_map", "shrink_mask"}
    text, mask = batch.targets["shrink_map"], batch.targets["threshold_mask"]
    assert 0 < text.mean() < mask.mean() < 1
    assert not data.batches.refused


def test_the_recognisers_file_builds_a_pipeline_on_real_data(
    linked: Callable[[str], ExampleConfig], zoo: Callable[[str], Path]
) -> None:
    config = smaller(linked("rec"), 16)
    charset = Charset.from_source(open_model(zoo(ZOO["rec"])))
    data = open_example_data(config, charset, 0)
    assert (len(data.training.held), len(data.eval)) == (2000, 1601)
    assert data.batches.steps_per_epoch == (5437 - 2000) // 16
    assert data.parts == 1
    batch = next(labelled_batches(data.batches, 0, 1))
    assert batch.images.shape == (16, 3, 48, 320)
    assert batch.targets["label_ctc"].shape == (16, 25)
    assert int(batch.targets["label_ctc"].max()) < len(charset)
    assert (batch.targets["length"] >= 1).all()


def test_nothing_held_back_or_scored_is_learnt_from(linked: Callable[[str], ExampleConfig]) -> None:
    data = open_example_data(linked("det"), None, 3)
    learnt = {sample.image for sample in data.training.train if hasattr(sample, "image")}
    assert len(learnt) == len(data.training.train)
    assert not learnt & set(data.training.held)
    assert [sample.image for sample in data.training.held_samples] == list(data.training.held)
    scored = {sample.image for sample in data.eval}
    assert not scored & learnt


def test_files_without_train_and_with_too_little(linked: Callable[[str], ExampleConfig], tmp_path: Path) -> None:
    config = linked("det")
    with pytest.raises(InputError, match="no Train section"):
        open_example_data(replace(config, train=None), None, 0)
    assert config.train is not None
    short = tmp_path / "short.txt"
    short.write_text("\n".join(config.train.label_files[0].read_text("utf-8").splitlines()[:3]), "utf-8")
    few = replace(config, train=replace(config.train, label_files=(short,)))
    with pytest.raises(DataError, match="3 usable samples, at least 4"):
        open_example_data(few, None, 0)


# ---- quantization


def test_bits_are_those_of_the_file_within_the_targets() -> None:
    target = get_target("openvino", ["avx2"])  # 7 bits of weights, 8 of activations
    fitted, said = fit_target(target, ExampleQuantization())
    assert (fitted.weight.bits, fitted.activation.bits) == (7, 8)
    assert "weight_bits 8: 7 are used" in said[0]
    fitted, said = fit_target(target, ExampleQuantization(weight_bits=4, activation_bits=6))
    assert (fitted.weight.bits, fitted.activation.bits) == (4, 6)
    assert said == ()
    _, said = fit_target(get_target("openvino", ["avx512_vnni"]), ExampleQuantization(per_channel=False))
    assert "scale for each channel" in said[0]


@pytest.mark.parametrize("task", ["det", "rec"])
def test_only_the_operators_named_become_int8(graphs: dict[str, ir.Model], task: str) -> None:
    graph, target = graphs[task], get_target("openvino")
    every = place(graph, target)
    files = place(graph, target, kept_float(graph, ExampleQuantization(("conv2d", "depthwise_conv2d"))))
    kinds = {site.kind for site in files.sites}
    assert kinds == {"conv"}
    convolutions = [site.node for site in every.sites if site.kind == "conv"]
    assert [site.node for site in files.sites] == convolutions
    none = place(graph, target, kept_float(graph, ExampleQuantization(())))
    assert none.sites == ()
    products = place(graph, target, kept_float(graph, ExampleQuantization(("matmul_v2",))))
    assert {site.kind for site in products.sites} <= {"matmul", "gemm"}
    assert bool(products.sites) == (task == "rec")


def test_patterns_keep_nodes_float(graphs: dict[str, ir.Model]) -> None:
    graph, target = graphs["rec"], get_target("openvino")
    sites = place(graph, target).sites
    one = sites[3]
    kept = kept_float(graph, ExampleQuantization(keep_float=(one.raw_output,)))
    assert one.node in kept
    assert one.node not in {site.node for site in place(graph, target, kept).sites}
    assert kept_float(graph, ExampleQuantization()) == frozenset()


def test_calibration_follows_the_section_that_is_there(linked: Callable[[str], ExampleConfig]) -> None:
    config = linked("det")
    plan = calibration_plan(config)
    assert (plan.observer, plan.images, plan.train) == ("output", None, True)
    assert "--observer moving_average is what the file says" in plan.warnings[0]
    post = PostQuantization("percentile", 4, 32, False, ExampleQuantization(weight_bits=6))
    plan = calibration_plan(replace(config, quantization=None, post_quantization=post, training=None))
    assert (plan.observer, plan.images, plan.train) == ("percentile", 4 * 32, False)
    assert "bias_correction" in plan.warnings[0]  # which was not asked for, and is done all the same
    assert plan.quantization.weight_bits == 6
    plan = calibration_plan(replace(config, quantization=None))
    assert "has no QuantAware" in plan.warnings[0]


# ---- training


def training(**changes: Any) -> ExampleTraining:
    usual = ExampleTraining(3, None, 200, 10, LearningRate(5e-5, "cosine"), Optimizer("adam", 5e-5), None, None, False)
    return replace(usual, **changes)


def test_epochs_are_steps_of_the_data_unless_the_file_counts_them() -> None:
    settings = train_settings(training(), 45)
    assert (settings.steps, settings.learning_rate, settings.optimizer) == (135, 5e-4, "adam")
    assert (settings.weight_decay, settings.judge_every, settings.clip_norm) == (5e-5, 135, 1.0)
    assert train_settings(training(steps=1000), 45).steps == 1000
    assert train_settings(training(steps=1000), 45).judge_every == 200
    assert [train_settings(training(), 45, parts).accumulate for parts in (1, 8)] == [1, 8]
    told = train_settings(training(steps=1000), 45, steps=30, learning_rate=1e-3)  # by the command line
    assert (told.steps, told.learning_rate, told.judge_every) == (30, 1e-3, 30)
    clipped = train_settings(training(optimizer=Optimizer("sgd", 0.0, 7.0)), 45)
    assert (clipped.optimizer, clipped.clip_norm) == ("sgd", 7.0)


@pytest.mark.parametrize(
    ("rate", "factors"),
    [
        (LearningRate(1e-3), {0: 1.0, 50: 1.0, 99: 1.0}),
        (LearningRate(1e-3, "cosine", floor=0.1), {0: 1.0, 50: 0.55, 100: 0.1}),
        (LearningRate(1e-3, "cosine", steps=50), {0: 1.0, 25: 0.5, 50: 0.0, 100: 0.0}),
        (LearningRate(1e-3, "piecewise", boundaries=(10, 60), values=(1.0, 0.5, 0.1)), {9: 1.0, 10: 0.5, 60: 0.1}),
        (LearningRate(1e-3, "piecewise", every=40, gamma=0.1), {39: 1.0, 40: 0.1, 79: 0.1, 80: 0.01}),
        (LearningRate(1e-3, warmup=3), {0: 0.25, 1: 0.5, 3: 1.0}),
        # LinearWarmup(CosineAnnealingDecay(T_max=50), warmup_steps=20): half of the wave is over at 20 + 25.
        (LearningRate(1e-3, "cosine", steps=70, warmup=20), {20: 1.0, 45: 0.5, 70: 0.0, 99: 0.0}),
        (LearningRate(1e-3, "piecewise", every=40, gamma=0.1, warmup=20), {20: 1.0, 59: 1.0, 60: 0.1, 99: 0.1}),
    ],
)
def test_learning_rates_over_a_hundred_steps(rate: LearningRate, factors: dict[int, float]) -> None:
    settings = train_settings(training(steps=100, learning_rate=rate), 1)
    assert {step: settings.schedule.factor(step, 100) for step in factors} == pytest.approx(factors)


def test_a_warm_up_of_a_file_as_paddle_counts_it(tmp_path: Path) -> None:
    """LinearWarmup(CosineAnnealingDecay(0.001, T_max=100), 100, 0, 0.001): at 100 + k 0.0005 (1 + cos(pi k / 100)).

    Counted from step 0 instead, the half wave would be over where the warm-up ends, and nothing would be learnt.
    """
    text = (CONFIGS / "ppocrv3_det_qat_dist.yaml").read_text(encoding="utf-8")
    cosine = "type: CosineAnnealingDecay\n    learning_rate: 0.00005"
    assert cosine in text
    held = "{type: CosineAnnealingDecay, learning_rate: 0.001, T_max: 100}"
    warm = f"type: LinearWarmup\n    learning_rate: {held}\n    warmup_steps: 100\n    start_lr: 0\n    end_lr: 0.001"
    (tmp_path / "x.yaml").write_text(text.replace(cosine, warm), encoding="utf-8")
    config = load_config(tmp_path / "x.yaml")
    assert config.training is not None
    schedule = train_settings(config.training, 1, steps=300).schedule
    rates = {100: 0.001, 125: 0.000853553, 150: 0.0005, 175: 0.000146447, 200: 0.0}
    assert {step: 0.001 * schedule.factor(step, 300) for step in rates} == pytest.approx(rates, abs=1e-9)
    rising = [schedule.factor(step, 300) for step in range(100)]
    assert rising == sorted(rising)
    assert rising[50] == pytest.approx(0.5, abs=0.01)


def test_nodes_of_the_file_are_found_in_the_graph(
    linked: Callable[[str], ExampleConfig], graphs: dict[str, ir.Model]
) -> None:
    config = linked("rec")
    points = distillation_points(graphs["rec"])
    terms, said = named_terms(config.distillation, names_of(graphs["rec"]), points.logits)
    assert [(term.loss, term.weight, term.values) for term in terms] == [
        ("skd", 1.0, ("linear_43.tmp_1",)),
        ("l2", 1.0, ("linear_43.tmp_1",)),
    ]
    assert said == ()


def test_nodes_that_are_not_there_are_explained() -> None:
    distillation = ExampleDistillation((Term("l2", 2.0, ("a", "gone"), "x.yaml:7"), Term("skd", 1.0, (), "x.yaml:7")))
    terms, said = named_terms(distillation, {"a", "logits"}, "logits")
    assert [(term.values, term.where) for term in terms] == [(("a", "logits"), "x.yaml:7"), (("logits",), "x.yaml:7")]
    assert len(said) == 1
    assert said[0].startswith("x.yaml:7: Distillation.node gone: the graph has no value of that name")
    assert "logits" in said[0]
    assert named_terms(None, {"logits"}, "logits")[0][0].values == ("logits",)


@pytest.mark.parametrize("task", ["det", "rec"])
def test_a_step_on_the_real_model_with_the_files_losses(
    linked: Callable[[str], ExampleConfig], graphs: dict[str, ir.Model], zoo: Callable[[str], Path], task: str
) -> None:
    config = linked(task)
    assert config.train is not None
    if task == "det":
        crop = [
            replace(item, size=(320, 320)) if hasattr(item, "max_tries") else item for item in config.train.transforms
        ]
        config = replace(config, train=replace(config.train, batch=1, transforms=tuple(crop)))
    else:
        config = smaller(config, 4)
    charset = Charset.from_source(open_model(zoo(ZOO[task]))) if task == "rec" else None
    data = open_example_data(config, charset, 0)
    graph = graphs[task]
    student, teacher = GraphModule(graph), GraphModule(graph).eval()
    logits = distillation_points(graph).logits
    criterion, said = example_criterion(config, student, teacher, names_of(graph), logits)
    assert said == ()
    batch = next(labelled_batches(data.batches, 0, 1))
    loss, parts = criterion(batch)
    assert parts["l2"] == pytest.approx(0, abs=1e-4)  # the student is the teacher
    assert parts["labels"] > 0
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in student.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(np.any(gradient.numpy() != 0) for gradient in gradients)
    assert all(p.grad is None for p in teacher.parameters())


def test_the_origin_metric_is_compared(linked: Callable[[str], ExampleConfig]) -> None:
    config = linked("det")
    assert config.training is not None
    assert origin_warning(config, {"hmean": 0.5}) is None
    said = replace(config, training=replace(config.training, origin_metric=0.845))
    assert origin_warning(said, {"hmean": 0.85}) is None
    assert "origin_metric 0.845: the float model scores 0.6000" in (origin_warning(said, {"hmean": 0.6}) or "")
    assert origin_warning(said, {}) is None
