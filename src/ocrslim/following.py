"""How ``ocrslim compress --config_path`` follows a file of the PaddleSlim example.

The file says what becomes int8, how the first grids are found, which losses teach, by which labels, how long and how
fast; :mod:`ocrslim.slimming.example` says all that in this program's terms, and here it meets model, graph and log.
The ladder is then climbed as far as the file says: calibration, and training where it has a ``TrainConfig``. The best
weights are chosen by the labels of a part of ``Train`` held back; the labels of ``Eval`` have the last word and steer
nothing, unless ``target_metric`` asks to stop by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from torch import nn

from ocrslim.config.paddleslim import ExampleConfig
from ocrslim.config.profile import Profile
from ocrslim.errors import InputError
from ocrslim.example import open_teacher
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.learning import CHECKPOINTS, scales_and_biases
from ocrslim.ocr.ctc import Charset
from ocrslim.ocr.labels import DetSample, RecSample
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.example import (
    RATE_FACTOR,
    CalibrationPlan,
    ExampleData,
    calibration_plan,
    example_criterion,
    highest_rate,
    open_example_data,
    train_settings,
)
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.training.criterion import LabelledDistillation
from ocrslim.slimming.training.label_judge import LabelJudge
from ocrslim.slimming.training.prefetch import WHOLE, Shard
from ocrslim.slimming.training.task_losses import LabelledBatch, labelled_batches
from ocrslim.slimming.training.trainer import Trainer, TrainSettings

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = ["Following", "open_following"]

JUDGED = {"rec": 400, "det": 40}
"""Held-back images that torch reads at each look of the trainer; the engine reads all of them afterwards."""

Labelled = Sequence[DetSample | RecSample]


@dataclass(frozen=True)
class Following:
    """A file, and what the run needs of it.

    Args:
        config: the file.
        source: the model.
        data: of the file, opened.
        plan: how the first grids are found.
        training: how long and how fast; ``None`` only calibrates.
    """

    config: ExampleConfig
    source: ModelSource
    data: ExampleData
    plan: CalibrationPlan
    training: TrainSettings | None

    @property
    def charset(self) -> Charset | None:
        """Of a recogniser."""
        return Charset.from_source(self.source) if self.source.task == "rec" else None

    @property
    def words(self) -> str:
        """What the data to learn from is called."""
        return f"Train in {self.config.path}"

    @property
    def log_every(self) -> int:
        """Steps between two lines of the log."""
        return self.config.training.log_every if self.config.training else 1

    def notes(self) -> tuple[str, ...]:
        """Return what a user of the example has to be told about the training."""
        said = list(self.plan.warnings)
        if self.training is not None:
            rate, file = self.training.learning_rate, self.config.training
            times = f", {RATE_FACTOR:g} times the file's" if file is not None and rate == highest_rate(file) else ""
            said.append(
                f"TrainConfig.learning_rate: {rate:g}{times}, for scales and biases: the rounded weights stay as"
                " calibration made them, which loses less than moving them"
            )
            if self.training.weight_decay:
                said.append("TrainConfig.optimizer_builder.weight_decay: nothing decays, since no weights learn")
        return tuple(said)

    def criterion(
        self, graph: ir.Model, student: nn.Module, teacher: nn.Module
    ) -> tuple[LabelledDistillation, tuple[str, ...]]:
        """Return the losses of the file, and what had to be said about their nodes.

        Args:
            graph: canonical, of the student.
            student: to train.
            teacher: the float model, which another takes the place of where ``Distillation`` names one.

        Raises:
            ModelError: there is no such teacher.
            InputError: it has other classes.
        """
        names, logits = _names(graph), distillation_points(graph).logits
        taught = open_teacher(self.config, self.source)
        theirs = None
        if taught is not self.source:
            other = canonicalize(load_onnx(taught.path))
            _check_classes(self.config, graph, other)
            teacher, theirs = GraphModule(other).eval(), distillation_points(other).logits
            names = names & _names(other) | {logits}
        return example_criterion(self.config, student, teacher, names, logits, theirs)

    def judge(self, student: nn.Module, profile: Profile) -> LabelJudge:
        """Return what chooses the best weights: the labels of held-back images; those of ``Eval`` for a target.

        Args:
            student: to be judged.
            profile: pre- and post-processing.
        """
        samples: Labelled = self.data.training.held_samples[: JUDGED[self.source.task]]
        if self.stop_at is not None and self.data.eval:
            samples = self.data.eval
        metric, damaged = self.config.metric, self.data.training.damaged
        known = student, samples, profile, self.charset, metric.indicator, metric.ignore_space
        return LabelJudge(*known, damaged=damaged)

    def trainer(
        self,
        graph: ir.Model,
        quantization: Quantization,
        teacher: GraphModule,
        profile: Profile,
        settings: CompressSettings,
        log: RunLog,
        **kept: Any,
    ) -> Trainer:
        """Set up the training that the file says: its losses on its nodes, the labels' loss, its schedule and its end.

        Args:
            graph: canonical, of the student.
            quantization: of the student, calibrated.
            teacher: the float model.
            profile: pre- and post-processing.
            settings: of the run.
            log: of the run.
            kept: further arguments of the trainer.
        """
        assert self.training is not None  # otherwise nothing is trained
        student = quantization.module
        criterion, said = self.criterion(graph, student, teacher)
        for line in said:
            log.say(line)
        kept["precision"].put(criterion.teacher)  # perhaps one of its own
        judge, groups = self.judge(student, profile), scales_and_biases(quantization)
        training, folder = settings.compute.fit(self.training, log.say), settings.out / CHECKPOINTS
        return Trainer(student, groups, criterion, judge, training, folder=folder, stop_at=self.stop_at, **kept)

    @property
    def stop_at(self) -> float | None:
        """The metric that ends the training when it is reached."""
        return self.config.training.target_metric if self.config.training else None

    def batches(self, start: int, count: int, shard: Shard = WHOLE) -> Iterable[LabelledBatch]:
        """Return parts of batches, see :func:`ocrslim.slimming.training.task_losses.labelled_batches`.

        Args:
            start: first part of this process's.
            count: parts.
            shard: which batches are this process's.
        """
        return labelled_batches(shard.of(self.data.batches), start, count, self.data.workers, self.data.parts)

    def refused(self) -> dict[str, str]:
        """Return the samples that could not be learnt from: path -> reason."""
        return self.data.batches.refused

    def settings(self, settings: CompressSettings) -> CompressSettings:
        """Return the run's settings with the file's number of steps."""
        steps = self.training.steps if self.training is not None else 0
        return replace(settings, steps=steps, ptq_only=steps == 0)

    def eval_words(self) -> str:
        """Return by what the model is scored, in words."""
        assert self.config.eval is not None
        paths = self.config.eval.label_files or (self.config.eval.data_dir,)
        return f"the labels of {', '.join(map(str, paths))}"


def open_following(settings: CompressSettings, source: ModelSource) -> Following:
    """Open the data of a run's file and settle what it says; the settings' steps and learning rate go before.

    Args:
        settings: ``example`` is the file.
        source: the model.

    Raises:
        InputError: the file has no ``Train``, the data can't be used, or the model has no dictionary.
    """
    config = settings.example
    assert config is not None
    data = open_example_data(config, Charset.from_source(source) if source.task == "rec" else None, settings.seed)
    plan = calibration_plan(config, settings.observer)
    training = None
    if plan.train and config.training is not None and not settings.ptq_only:
        training = train_settings(
            config.training,
            -(-data.batches.steps_per_epoch // settings.compute.batches),
            data.parts,
            settings.steps,
            settings.learning_rate,
        )
        _check_teacher(config, source)
    return Following(config, source, data, plan, training)


def _check_teacher(config: ExampleConfig, source: ModelSource) -> None:
    """Open another teacher before anything is calibrated: a mistake there costs no minutes."""
    taught = open_teacher(config, source)
    if taught is not source:
        _check_classes(config, load_onnx(source.path), load_onnx(taught.path))


def _names(graph: ir.Model) -> set[str]:
    return {str(value.name) for node in graph.graph for value in node.outputs}


def _check_classes(config: ExampleConfig, student: ir.Model, teacher: ir.Model) -> None:
    """Refuse a teacher that knows other characters."""
    shapes = [model.graph.outputs[0].shape for model in (student, teacher)]
    ours, theirs = (shape[-1] if shape is not None and len(shape) == 3 else None for shape in shapes)
    if isinstance(ours, int) and isinstance(theirs, int) and ours != theirs:
        folder = config.distillation.teacher_dir if config.distillation else None
        raise InputError(
            f"{config.path}: Distillation.teacher_model_dir {folder}: has {theirs} classes, the model {ours}; a teacher"
            " needs the same dictionary"
        )
