"""What a pruned model learns: to answer as the whole one does, and a recogniser to read as labels say."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.config.profile import Profile
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.points import distillation_points, layer_points
from ocrslim.learning import CHECKPOINTS, RECIPE, proportional, run_trainer, supervise
from ocrslim.ocr.labels import RecSample
from ocrslim.outcome import plain
from ocrslim.report.run_log import RunLog
from ocrslim.slimming.pruning.plan import PruningResult
from ocrslim.slimming.pruning.shared import find_shared
from ocrslim.slimming.pruning.teacher import SameChannels
from ocrslim.slimming.shared import Shared
from ocrslim.slimming.training.data import (
    Spell,
    TrainingData,
    training_batches,
    validation_batches,
)
from ocrslim.slimming.training.precision import Precision
from ocrslim.slimming.training.task_losses import RobustCtcLoss
from ocrslim.slimming.training.trainer import JUDGE_EVERY, Trainer, TrainingResult, TrainSettings
from ocrslim.teaching import FEWEST, Lesson, Taught, fitting_charset, speller, teach

if TYPE_CHECKING:
    from ocrslim.pruned import PruneSettings

__all__ = ["STEPS", "distil", "fingerprint", "teach_pruned"]

# Ten times that never led a detector back to where the cut had left it (PP-OCRv4 mobile, --speedup 1.3, 800 steps).
LEARNING_RATES = {"rec": 1e-3, "det": 5e-5}
# Times the usual weight of the features. PP-OCRv4 mobile rec, .196 from the teacher as it was cut, came in 150 steps to
# .157 with the usual ones, .146 with ten times their weight, .143 with those of all layers; at half the rate to .155.
FEATURES = {"rec": 10.0, "det": 1.0}
# Small batches and many steps: PP-OCRv4 mobile rec, .182 from the teacher as it was cut, came in 255 seconds to .124
# with 8 lines cut to at most 320 to 640 pixels, to .120 with 4 of these, to .114 with 4 lines cut to 320.
LINES = 4
STEPS = {"rec": 5000, "det": 800}  # 25 and 10 minutes on two cores
# Times the usual weight of the labels, of whole lines. In the 255 seconds above PP-OCRv4 mobile rec lost .8 points of
# 800 other lines with them, 4.5 with case, spaces and full-width signs folded; 3.9 and 6.0 without.
LABELS = 0.6
JUDGEMENTS = 40  # at most, of a training: each looks at 128 lines


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
    """Train the smaller model to answer as the whole one does, and a recogniser to read as labels say too.

    A detector learns from the whole model alone: a few hundred labelled pages taught PP-OCRv4 mobile det to find less
    text.

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
    student, lines = GraphModule(pruning.model), source.task == "rec"
    features = layer_points(graph) if lines else distillation_points(graph).features
    shared = find_shared(graph, pruning.model) if lines and pruning.removed else Shared()
    features = tuple(name for name in features if name not in shared.inside)
    teacher, compute = SameChannels(GraphModule(graph).eval(), _kept(pruning, features)), settings.compute
    steps = _steps(source, settings) if pruning.removed else 0
    rate = settings.learning_rate or LEARNING_RATES[source.task]
    losses = settings.distillation
    losses = replace(
        losses,
        feature_ratio=losses.feature_ratio * FEATURES[source.task],
        label_ratio=losses.label_ratio * LABELS,
    )
    validation = [precision.place(batch) for batch in validation_batches(data, profile, settings.seed)]
    spell = _speller(source, graph, data, validation[0], settings) if lines else None
    labels = None if spell is None else RobustCtcLoss()
    batches = _stream(source, data, profile, settings, spell)
    with precision.placed(student, teacher):
        distilled, judge = supervise(
            student, teacher, graph, source.task, losses, validation, features, shared.values, labels
        )
        trainer = Trainer(
            student,
            proportional(named for named in student.named_initializers() if named[0] not in shared.weights),
            distilled,
            judge,
            compute.fit(TrainSettings(steps, rate, judge_every=max(JUDGE_EVERY, steps // JUDGEMENTS)), log.say),
            folder=settings.out / CHECKPOINTS,
            fingerprint=fingerprint(source, settings, data_sha256, pruning.removed),
            precision=precision,
        )
        return student, run_trainer(trainer, batches, log)


def _kept(pruning: PruningResult, features: Sequence[str]) -> dict[str, dict[int, Tensor]]:
    """Return value -> axis -> indices that stay, of the values that lose any."""
    return {
        name: {
            axis: torch.from_numpy(np.flatnonzero(stays))
            for axis, stays in pruning.channels.kept(name, pruning.removed).items()
            if not stays.all()
        }
        for name in features
    }


def _stream(
    source: ModelSource, data: TrainingData, profile: Profile, settings: PruneSettings, spell: Spell | None
) -> Callable[[int, int], Iterator[Any]]:
    """Return (first batch, number of batches) -> batches, with labels where ``spell`` tells them."""
    form: dict[str, Any] = {"shard": settings.compute.shard(0)}
    if source.task == "rec":
        form |= {"batch": LINES, "widest": profile.rec.width, "spell": spell}
    return functools.partial(training_batches, data, profile, settings.seed, **form)


def _speller(
    source: ModelSource, graph: ir.Model, data: TrainingData, images: Tensor, settings: PruneSettings
) -> Spell | None:
    """Return what tells texts in the model's classes; ``None`` where too few labels can teach, or are to.

    Raises:
        ModelError: the dictionary has another number of entries than the model has classes.
    """
    if not data.labelled or settings.distillation.label_ratio <= 0:
        return None
    with torch.no_grad():
        classes = GraphModule(graph).eval()(images[:1].float().cpu()).shape[-1]
    spell = speller(fitting_charset(source, classes))
    texts = (cast("RecSample", sample).text or "" for sample in data.train_samples)
    spelled = (True for text in texts if spell(text) is not None)
    return spell if sum(itertools.islice(spelled, FEWEST)) == FEWEST else None


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
    about |= {"gone": gone, "data_sha256": data_sha256, "steps": _steps(source, settings)}
    return json.dumps(about, sort_keys=True)


def _steps(source: ModelSource, settings: PruneSettings) -> int:
    return settings.compute.steps(STEPS[source.task]) if settings.steps is None else settings.steps
