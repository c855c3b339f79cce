"""A PaddleSlim file's settings in this program's own terms: target, float nodes, schedule, losses, data.

:func:`ocrslim.config.paddleslim.load_config` reads the file; what is here needs the graph, the target or the data too,
and adds its warnings to those of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn

from ocrslim.config.paddleslim import ExampleConfig
from ocrslim.config.paddleslim_data import Dataset
from ocrslim.config.paddleslim_optimizer import LearningRate
from ocrslim.config.paddleslim_training import ExampleDistillation, ExampleQuantization, ExampleTraining
from ocrslim.config.profile import Task
from ocrslim.config.transforms import EastRandomCropData, RecResizeImg
from ocrslim.engines.targets import Target
from ocrslim.errors import DataError, InputError
from ocrslim.graph.passes.base import attribute
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import DetSample, RecSample, Skipped
from ocrslim.ocr.pipeline import Pipeline
from ocrslim.ocr.sequences import pick
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR
from ocrslim.slimming.training.criterion import LabelledDistillation, NamedTerm
from ocrslim.slimming.training.data import FEWEST, HELD_MOST, HELD_SHARE, TrainingData
from ocrslim.slimming.training.label_judge import INDICATORS
from ocrslim.slimming.training.labelled_loader import LabelledBatches, open_labelled
from ocrslim.slimming.training.schedule import Schedule
from ocrslim.slimming.training.task_losses import task_loss
from ocrslim.slimming.training.trainer import TrainSettings

__all__ = [
    "RATE_FACTOR",
    "CalibrationPlan",
    "ExampleData",
    "calibration_plan",
    "example_criterion",
    "fit_target",
    "highest_rate",
    "kept_float",
    "named_terms",
    "open_example_data",
    "origin_warning",
    "train_settings",
]

TASK_RATIO: dict[Task, float] = {"rec": 0.1, "det": 0.5}
"""Weight of the loss against labels beside distillation: the teacher knows more of a line than its label says, but
labels are right where the teacher is wrong."""
RATE_FACTOR = 10.0
"""The file's rate is meant for weights. Only scales and biases learn here, which need and bear more."""
PIXELS_AT_ONCE = 1 << 20
"""Of the images that are learnt from at once; training PP-OCRv3 mobile det takes some 3 GB for so many."""
ORIGIN_TOLERANCE = 0.05  # between origin_metric and what is measured; PaddleSlim's
MATMULS = frozenset({"mul", "matmul", "matmul_v2"})


@dataclass(frozen=True)
class CalibrationPlan:
    """How the first grids are found.

    Args:
        quantization: what becomes int8.
        observer: of activations.
        images: to calibrate on; ``None`` leaves the number to us.
        train: whether training follows.
        warnings: what happens instead of what the file says.
    """

    quantization: ExampleQuantization
    observer: str
    images: int | None
    train: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ExampleData:
    """The file's data, opened.

    Args:
        training: what calibration, the judge and the report need; ``train`` is what ``batches`` are made of.
        batches: labelled, augmented batches to learn from.
        workers: threads that make them.
        parts: that a batch is learnt in, one after the other, to bound the memory.
        eval: the labelled samples of ``Eval``, to score on.
        eval_skipped: what reading them left out.
    """

    training: TrainingData
    batches: LabelledBatches
    workers: int
    parts: int
    eval: Sequence[DetSample | RecSample]
    eval_skipped: tuple[Skipped, ...]


def open_example_data(config: ExampleConfig, charset: Charset | None, seed: int) -> ExampleData:
    """Read the labels of ``Train`` and ``Eval``, and hold back a part of ``Train`` to choose the best weights by.

    Args:
        config: the file.
        charset: of a recogniser.
        seed: of all that is random.

    Raises:
        InputError: the file has no ``Train``.
        DataError: data is missing, of the other task, or too little.
    """
    if config.train is None:
        raise InputError(f"{config.path}: has no Train section; it says which images to learn from")
    task = config.model.task
    found = open_labelled(config.train, task, seed)
    scored = open_labelled(config.eval, task, seed) if config.eval is not None else None
    if len(found.samples) < FEWEST:
        raise DataError(f"{config.train.where}: {len(found.samples)} usable samples, at least {FEWEST} are needed")
    order = np.random.default_rng([seed, len(found.samples)]).permutation(len(found.samples))
    held_count = max(1, min(HELD_MOST[task], round(len(order) * HELD_SHARE[task])))
    held = tuple(pick(found.samples, order[:held_count]))
    train = pick(found.samples, np.sort(order[held_count:]))
    transforms = config.train.transforms
    pipeline = Pipeline(transforms, charset, config.model.max_text_length, config.train.partner_transforms)
    data = config.train
    batches = LabelledBatches(train, pipeline, data.batch, seed, data.shuffle, data.drop_last)
    training = TrainingData(
        task,
        pick(train, _shuffled(len(train), seed), _page_or_line),
        tuple(sample.image for sample in held),
        held,
        rendered=False,
        labelled=True,
        skipped=found.skipped,
        train_samples=pick(train, _shuffled(len(train), seed)),
    )
    return ExampleData(
        training,
        batches,
        data.workers,
        _parts(data),
        scored.samples if scored else (),
        scored.skipped if scored else (),
    )


def _page_or_line(sample: DetSample | RecSample) -> DetSample | Path:
    """Return a page with its boxes, or the image of a line."""
    return sample if isinstance(sample, DetSample) else sample.image


def _parts(data: Dataset) -> int:
    """Return in how many parts a batch is learnt: each of at most :data:`PIXELS_AT_ONCE`, of one image at least."""
    pixels = 0
    for transform in data.transforms:
        if isinstance(transform, EastRandomCropData):
            pixels = transform.size[0] * transform.size[1]
        elif isinstance(transform, RecResizeImg):
            pixels = transform.image_shape[1] * transform.image_shape[2]
    at_once = max(1, PIXELS_AT_ONCE // max(1, pixels))
    return -(-data.batch // at_once)


def calibration_plan(config: ExampleConfig, observer: str = OUTPUT_ERROR) -> CalibrationPlan:
    """Return what ``QuantAware`` or ``QuantPost`` says; the model is trained where the file has a ``TrainConfig``.

    Args:
        config: the file.
        observer: that the run uses, where that is known; nothing is said about another one in the file if the user
            named this.
    """
    post, aware = config.post_quantization, config.quantization
    train = config.training is not None and config.train is not None
    if aware is not None or post is None:
        said = () if aware is not None else (f"{config.path}: has no QuantAware; int8 with PaddleSlim's defaults",)
        found = aware or ExampleQuantization()
        if found.observer is not None and observer == OUTPUT_ERROR:
            said = (
                f"{config.path}: QuantAware.activation_quantize_type: ranges are chosen by the error at the outputs,"
                f" which loses less; --observer {found.observer} is what the file says",
            )
        return CalibrationPlan(found, OUTPUT_ERROR, None, train, said)
    images = None if post.batches is None else post.batches * post.batch
    said = (
        () if post.bias_correction else ("QuantPost.bias_correction: biases take up in any case what rounding shifts",)
    )
    return CalibrationPlan(post.quantization, post.observer, images, train, said)


def example_criterion(
    config: ExampleConfig,
    student: nn.Module,
    teacher: nn.Module,
    names: Collection[str],
    logits: str,
    taught_logits: str | None = None,
) -> tuple[LabelledDistillation, tuple[str, ...]]:
    """Return the criterion of the file, the labels' loss in it, and what had to be said about its nodes.

    Args:
        config: the file.
        student: to train.
        teacher: see :func:`ocrslim.example.open_teacher`.
        names: of the values of the canonical graph that both have.
        logits: see :func:`named_terms`.
        taught_logits: the same in the teacher's graph; ``None`` where it has the same name there.
    """
    terms, said = named_terms(config.distillation, names, logits)
    task = config.model.task
    ratio, labels = TASK_RATIO[task], task_loss(task)
    return LabelledDistillation(student, teacher, terms, logits, labels, ratio, taught_logits), said


def origin_warning(config: ExampleConfig, measured: Mapping[str, float]) -> str | None:
    """Say so where the float model does not score what ``origin_metric`` says, as PaddleSlim checks before it trains.

    Args:
        config: the file.
        measured: the float model's figures, by our names.
    """
    said = config.training.origin_metric if config.training else None
    found = measured.get(INDICATORS.get(config.metric.indicator, config.metric.indicator))
    if said is None or found is None or abs(found - said) <= ORIGIN_TOLERANCE * max(said, 1e-9):
        return None
    return f"TrainConfig.origin_metric {said:g}: the float model scores {found:.4f}; are model and data those meant?"


def _shuffled(count: int, seed: int) -> NDArray[np.int64]:
    """Return an order of the training samples: calibration takes the first ones, which must not be of one set only."""
    return np.random.default_rng([seed, count, 1]).permutation(count)


def fit_target(target: Target, quantization: ExampleQuantization) -> tuple[Target, tuple[str, ...]]:
    """Return the target with the file's bits, as far as its engine can have them, and what could not be had.

    Args:
        target: that will run the model.
        quantization: of the file.
    """
    warnings = []
    weight = min(target.weight.bits, quantization.weight_bits)
    activation = min(target.activation.bits, quantization.activation_bits)
    if weight < quantization.weight_bits:
        warnings.append(f"QuantAware.weight_bits {quantization.weight_bits}: {weight} are used ({target.notes[0]})")
    if not quantization.per_channel:
        warnings.append("QuantAware.weight_quantize_type abs_max: weights have a scale for each channel all the same")
    fitted = replace(
        target, weight=replace(target.weight, bits=weight), activation=replace(target.activation, bits=activation)
    )
    return fitted, tuple(warnings)


def kept_float(model: ir.Model, quantization: ExampleQuantization) -> frozenset[str]:
    """Return the names of the nodes that the file wants float, ``keep_float`` of ``placement.place``.

    1. Nodes of a kind that ``quantize_op_types`` does not name.
    2. Nodes whose name, or whose output's, holds one of ``not_quant_pattern``.

    Args:
        model: the canonical graph.
        quantization: of the file.
    """
    names = set()
    for node in model.graph:
        kinds = _kinds(node)
        if not kinds or node.name is None:
            continue
        called = (node.name, *(str(output.name) for output in node.outputs))
        matched = any(pattern in name for pattern in quantization.keep_float for name in called)
        if matched or not kinds.intersection(quantization.operators):
            names.add(node.name)
    return frozenset(names)


def _kinds(node: ir.Node) -> frozenset[str]:
    """Return what Paddle calls such a node; nothing for one without weights."""
    if node.op_type in ("MatMul", "Gemm"):
        return MATMULS
    if node.op_type == "ConvTranspose":
        return frozenset({"conv2d_transpose"})
    if node.op_type != "Conv":
        return frozenset()
    return frozenset({"depthwise_conv2d" if attribute(node, "group", 1) != 1 else "conv2d"})


def named_terms(
    distillation: ExampleDistillation | None, names: Collection[str], logits: str
) -> tuple[tuple[NamedTerm, ...], tuple[str, ...]]:
    """Find the values that the file's nodes name, and say which are not there.

    A value that the graph does not have is one of another export, or one that was folded into its neighbour; the
    logits take its place, which is what PaddleSlim compares where no node is named.

    Args:
        distillation: of the file; ``None`` distils the logits by their squared difference, as PaddleSlim does.
        names: of the values of the canonical graph.
        logits: the one before the final Softmax or Sigmoid.

    Returns:
        tuple: the terms; the warnings.
    """
    if distillation is None:
        return (NamedTerm("l2", 1.0, (logits,)),), ()
    terms: list[NamedTerm] = []
    warnings: dict[str, None] = {}
    for term in distillation.terms:
        values: dict[str, None] = {}
        for node in term.nodes or (logits,):
            if node not in names:
                said = (
                    f"{term.where}: Distillation.node {node}: the graph has no value of that name (another export has"
                )
                warnings[f"{said} other names); the logits, {logits}, take its place"] = None
            values[node if node in names else logits] = None
        terms.append(NamedTerm(term.loss, term.alpha, tuple(values), term.where))
    return tuple(terms), tuple(warnings)


def train_settings(
    training: ExampleTraining,
    steps_per_epoch: int,
    parts: int = 1,
    steps: int | None = None,
    learning_rate: float | None = None,
) -> TrainSettings:
    """Return how long and how fast to train.

    Args:
        training: of the file.
        steps_per_epoch: batches that the data makes.
        parts: see :class:`ExampleData`.
        steps: in place of the file's.
        learning_rate: in place of the file's highest.
    """
    if steps is None:
        steps = training.steps if training.steps is not None else training.epochs * steps_per_epoch
    usual = TrainSettings(steps)
    optimizer = training.optimizer
    return TrainSettings(
        steps,
        highest_rate(training) if learning_rate is None else learning_rate,
        optimizer.kind,
        optimizer.weight_decay,
        _schedule(training.learning_rate, steps),
        accumulate=parts,
        clip_norm=usual.clip_norm if optimizer.clip_norm is None else optimizer.clip_norm,
        judge_every=min(training.judge_every, max(1, steps)),
        checkpoint_every=min(training.judge_every, max(1, steps)),
    )


def highest_rate(training: ExampleTraining) -> float:
    """Return the learning rate that takes the place of the file's.

    Args:
        training: of the file.
    """
    return RATE_FACTOR * training.learning_rate.value


def _schedule(rate: LearningRate, steps: int) -> Schedule:
    if rate.kind == "constant":
        return Schedule("constant", warmup=rate.warmup)
    if rate.kind == "cosine":
        return Schedule("cosine", warmup=rate.warmup, floor=rate.floor, length=rate.steps or 0)
    if rate.every is None:
        return Schedule("piecewise", warmup=rate.warmup, boundaries=rate.boundaries, values=rate.values)
    boundaries = tuple(range(rate.warmup + rate.every, steps, rate.every))
    values = tuple(rate.gamma**index for index in range(len(boundaries) + 1))
    return Schedule("piecewise", warmup=rate.warmup, boundaries=boundaries, values=values)
