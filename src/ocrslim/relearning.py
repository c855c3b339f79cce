"""What a pruned model learns: to answer as the whole one does, and from labels where there are any."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch

from ocrslim.config.profile import Profile
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.points import distillation_points, layer_points
from ocrslim.learning import CHECKPOINTS, RECIPE, proportional, run_trainer, supervise
from ocrslim.outcome import plain
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.pruning.plan import PruningResult
from ocrslim.slimming.pruning.teacher import SameChannels
from ocrslim.slimming.training.data import (
    TrainingData,
    training_batches,
    validation_batches,
)
from ocrslim.slimming.training.precision import Precision
from ocrslim.slimming.training.trainer import Trainer, TrainingResult, TrainSettings
from ocrslim.teaching import Lesson, Taught, teach

if TYPE_CHECKING:
    from ocrslim.pruned import PruneSettings

__all__ = ["STEPS", "distil", "fingerprint", "teach_pruned"]

# Ten times that never led a detector back to where the cut had left it (PP-OCRv4 mobile, --speedup 1.3, 800 steps).
LEARNING_RATES = {"rec": 1e-3, "det": 5e-5}
# Times the usual weight of the features. PP-OCRv4 mobile rec, .196 from the teacher as it was cut, came in 150 steps to
# .157 with the usual ones, .146 with ten times their weight, .143 with those of all layers; at half the rate to .155.
FEATURES = {"rec": 10.0, "det": 1.0}
STEPS = {"rec": 1500, "det": 800}  # 20 and 10 minutes on two cores


def distil(
    source: ModelSource,
    graph: ir.Model,
    pruning: PruningResult,
    data: TrainingData,
    data_sha256: str | None,
    profile: Profile,
    settings: PruneSettings,
    precision: Precision,
    log: RunLog,
) -> tuple[GraphModule, TrainingResult]:
    """Train the smaller model to answer as the whole one does.

    Labels have no part in it: all weights learn, and a few hundred labelled pages taught PP-OCRv4 mobile det to find
    less text.

    Args:
        source: the model.
        graph: canonical, of the whole model.
        pruning: what was cut.
        data: of the run.
        data_sha256: its hash.
        profile: pre- and post-processing.
        settings: of the run.
        precision: on what device, and in what type.
        log: of the run.

    Returns:
        tuple: the smaller model, trained, and how that went.
    """
    student = GraphModule(pruning.model)
    features = layer_points(graph) if source.task == "rec" else distillation_points(graph).features
    kept = {
        name: {
            axis: torch.from_numpy(np.flatnonzero(stays))
            for axis, stays in pruning.channels.kept(name, pruning.removed).items()
            if not stays.all()
        }
        for name in features
    }
    teacher, compute = SameChannels(GraphModule(graph).eval(), kept), settings.compute
    steps = compute.steps(STEPS[source.task]) if settings.steps is None else settings.steps
    steps = steps if pruning.removed else 0
    rate = settings.learning_rate or LEARNING_RATES[source.task]
    losses = settings.distillation
    losses = replace(losses, feature_ratio=losses.feature_ratio * FEATURES[source.task])
    validation = [precision.place(batch) for batch in validation_batches(data, profile, settings.seed)]
    batches = functools.partial(training_batches, data, profile, settings.seed, shard=compute.shard(0))
    with precision.placed(student, teacher):
        distilled, judge = supervise(student, teacher, graph, source.task, losses, validation, features)
        trainer = Trainer(
            student,
            proportional(student.named_initializers()),
            distilled,
            judge,
            compute.fit(TrainSettings(steps=steps, learning_rate=rate), log.say),
            folder=settings.out / CHECKPOINTS,
            fingerprint=fingerprint(source, settings, data_sha256, pruning.removed),
            precision=precision,
        )
        return student, run_trainer(trainer, batches, log)


def teach_pruned(
    student: GraphModule,
    source: ModelSource,
    data: TrainingData,
    profile: Profile,
    settings: PruneSettings,
    log: RunLog,
) -> tuple[GraphModule, Taught | None]:
    """Let labels teach a recogniser's last layer, on the features that are left.

    Args:
        student: the smaller model, trained.
        source: the whole one.
        data: of the run.
        profile: pre- and post-processing.
        settings: of the run.
        log: of the run.

    Returns:
        tuple: the model, and what was taught; ``None`` where nothing was.
    """
    if source.task != "rec" or not data.labelled or not settings.distillation.label_ratio or settings.steps == 0:
        return student, None
    with tempfile.TemporaryDirectory() as folder:
        ratio = settings.distillation.label_ratio
        lesson = Lesson(source, data, profile.rec, Path(folder), log, settings.threads, settings.seed, ratio)
        found = teach(student.to_ir(), lesson)
    return (student, None) if found is None else (GraphModule(found[0]).eval(), found[1])


def fingerprint(source: ModelSource, settings: PruneSettings, data_sha256: str | None, gone: Any) -> str:
    """Return what the training depends on, as JSON: the model, the data, the settings, which channels are gone.

    Args:
        source: the whole model.
        settings: of the run.
        data_sha256: hash of its data.
        gone: the units that were cut.
    """
    about = plain(settings) | dict.fromkeys(("out", "eval")) | {"model": source.sha256, "recipe": RECIPE}
    return json.dumps(about | {"gone": gone, "data_sha256": data_sha256}, sort_keys=True)
