"""The climb: calibrate, train, keep single sites float, until the loss holds the budget on the target's engine.

Read it from top to bottom: :func:`climb` is the whole ladder, each function below it one rung. What a rung makes is a
:class:`Candidate`, exported, compared with the model that it was made from, and judged in the engine on the held-back
part of the data. Which rungs are tried depends on figures and the seed, never on the clock, so that a second run makes
the same file; ``max_minutes`` alone may cut a climb short.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import Tensor

from ocrslim.config.profile import Profile, Task
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.engines.targets import Target
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.export.verify import Verification, verify_det, verify_rec
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.points import distillation_points
from ocrslim.report.result import loss_in_words
from ocrslim.report.run_log import RunLog
from ocrslim.scoring import Judged
from ocrslim.sensitivity import measure_site_gains, measure_sites
from ocrslim.slimming.quantization.placement import Placement, place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare, transfer
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR, choose_ranges
from ocrslim.slimming.quantization.rounding import round_weights
from ocrslim.slimming.quantization.samples import collect_samples
from ocrslim.slimming.training.data import TrainingData
from ocrslim.slimming.training.distillation import compare
from ocrslim.slimming.training.trainer import TrainingResult

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = ["EFFORTS", "FLOAT_REASON", "Candidate", "Climb", "Effort", "Scene", "climb", "images_needed"]

NEARER = {"labels": 0.9, "float": 0.7}
"""Share of the divergence that a better candidate may have. Against the float model's own answers every change counts
as a loss, so that only what is much nearer is worth its time."""

TINY = 1e-7  # probability; its logarithm is finite


@dataclass(frozen=True)
class Effort:
    """How far to climb.

    Args:
        observers: ways to choose ranges that are tried; the first is the one that usually wins.
        steps: training steps, as a multiple of the task's usual number; 0 does not train.
        turns: how often further sites are made float, two of them at a time after the first.
        most_float: share of the sites' multiplications that may become float so.
    """

    observers: tuple[str, ...]
    steps: float
    turns: int
    most_float: float


EFFORTS: Mapping[str, Effort] = {
    "quick": Effort((OUTPUT_ERROR,), 0.0, 2, 0.15),
    "normal": Effort((OUTPUT_ERROR, "percentile"), 1.0, 4, 0.3),
    "max": Effort((OUTPUT_ERROR, "percentile", "mse"), 4.0, 8, 0.5),
}


@dataclass(frozen=True)
class Scene:
    """What every rung works with.

    Args:
        source: the float model.
        graph: its canonical form.
        teacher: that as a module.
        target: what for.
        data: images; only the rungs that train read ``data.train``.
        profile: pre- and post-processing.
        settings: of the run.
        calibration: batches of training images.
        validation: batches of held-back images.
        watched: a batch of training images whose values sensitivity stores.
        folder: for the candidates' files.
        log: of the run.
        judge: scores a session of a candidate against the float model.
        train: trains a quantization in place.
        began: when, by the monotonic clock, seconds.
    """

    source: ModelSource
    graph: ir.Model
    teacher: GraphModule
    target: Target
    data: TrainingData
    profile: Profile
    settings: CompressSettings
    calibration: list[Tensor]
    validation: list[Tensor]
    watched: Tensor
    folder: Path
    log: RunLog
    judge: Callable[[InferenceSession], Judged]
    train: Callable[[Quantization], TrainingResult]
    began: float = field(default_factory=time.monotonic)

    @property
    def effort(self) -> Effort:
        """What the settings allow."""
        return EFFORTS[self.settings.effort]

    @property
    def logits(self) -> str:
        """Name of the value that is compared."""
        return distillation_points(self.graph).logits


@dataclass
class Candidate:
    """What a rung made.

    Args:
        rung: in words.
        quantization: frozen or not; its module computes what ``path`` holds.
        path: the exported file.
        verified: that file in the engine against the module.
        divergence: of that file in the engine from the float model, on the validation images.
        judged: on the held-back part; ``None`` where another candidate of the rung was nearer to float.
        training: what training did, where there was one.
    """

    rung: str
    quantization: Quantization
    path: Path
    verified: Verification
    divergence: float
    judged: Judged | None = None
    training: TrainingResult | None = None

    @property
    def points(self) -> float:
        """The loss as judged, in points."""
        return math.inf if self.judged is None else float(self.judged.drop["points"])


@dataclass
class Climb:
    """How it went.

    Args:
        best: the candidate with the least loss, or the first that surely holds the budget.
        tried: every candidate, in order.
        sensitivity: rows of the sites, worst first; empty where the climb ended before.
    """

    best: Candidate
    tried: list[Candidate]
    sensitivity: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self, max_drop: float) -> dict[str, Any]:
        """Return what ``result.json`` says of the budget."""
        judged = self.best.judged
        assert judged is not None  # the best is among those that were judged
        return {
            "max_drop": max_drop,
            "kept": self.best.points <= max_drop,
            "sure": judged.drop["high"] <= max_drop,
            "judged_by": judged.judged_by,
            "drop": judged.drop,
            "images_to_tell": images_needed(judged.drop, max_drop),
            "rungs": [
                {
                    "rung": item.rung,
                    "divergence": item.divergence,
                    "drop": item.judged.drop if item.judged else None,
                    "float_sites": sum(
                        reason == FLOAT_REASON for reason in item.quantization.placement.float_nodes.values()
                    ),
                    "agrees": item.verified.value,
                }
                for item in self.tried
            ],
        }


FLOAT_REASON = "sensitive: quantized, it costs more accuracy than its time is worth"


def climb(scene: Scene) -> Climb:
    """Climb until the budget holds or the effort is spent.

    Raises:
        VerifyError: no candidate computes in the engine what it was made to compute.
    """
    best = _judged(scene, _calibrated(scene))
    result = Climb(best, [best])
    if _is_enough(scene, best) and not _must_train(scene):
        return result
    if _may_train(scene) and _has_time(scene):
        _add(scene, result, _trained(scene, result.best))
        if _is_enough(scene, result.best):
            return result
    if scene.settings.steps is None:  # whoever names the steps wants them and no more
        for candidate in _with_float_sites(scene, result):
            _add(scene, result, candidate)
            if _is_enough(scene, result.best) or not _has_time(scene):
                break
    return result


def images_needed(drop: Mapping[str, Any], max_drop: float) -> int | None:
    """Return how many images would tell a loss of ``max_drop`` points from none: the interval shrinks with the root."""
    half = (drop["high"] - drop["low"]) / 2.0
    return None if max_drop <= 0 or half <= 0 else math.ceil(drop["n"] * (half / max_drop) ** 2)


def _calibrated(scene: Scene) -> Candidate:
    """Rung 1: find ranges in several ways and round the weights; keep what is nearest to float in the engine."""
    settings = scene.settings
    observers = scene.effort.observers if settings.observer == OUTPUT_ERROR else (settings.observer,)
    samples: dict[str, Tensor] | None = None
    found = []
    for observer in observers:
        with scene.log.stage(f"calibrate ({observer})"):
            quantization = _prepared(scene, place(scene.graph, scene.target))
            by_output = observer == OUTPUT_ERROR
            calibrate(quantization, scene.calibration, observer="percentile" if by_output else observer)
            if samples is None:
                samples = collect_samples(quantization, scene.calibration, seed=settings.seed)
            if by_output:
                choose_ranges(quantization, scene.calibration, samples)
            round_weights(quantization, samples)
            found.append(_exported(scene, f"calibrated ({observer})", quantization))
    best = min(found, key=lambda item: (not item.verified.passed, item.divergence))
    best.verified.check()
    return best


def _trained(scene: Scene, best: Candidate) -> Candidate:
    """Rung 2: train the sites to answer as the float model does."""
    with scene.log.stage("train"):
        quantization = _copied(scene, best.quantization, best.quantization.placement)
        training = scene.train(quantization)
        candidate = _exported(scene, f"trained {training.best_step} steps", quantization)
    candidate.training = training
    return candidate


def _with_float_sites(scene: Scene, result: Climb) -> Iterator[Candidate]:
    """Rung 3: make the sites float whose error is largest for the time that int8 saves there."""
    with scene.log.stage("sensitivity"):
        rows = measure_sites(scene.source.task, result.best.quantization, scene.teacher, scene.watched, scene.logits)
    result.sensitivity = rows
    gains = {row["node"]: row["gain_if_float"] for row in rows}
    work = {row["node"]: row["work"] for row in rows}
    kept: list[str] = []
    for turn in range(scene.effort.turns):
        room = scene.effort.most_float - sum(work[node] for node in kept)
        worth = {node: gain / (work[node] + 0.02) for node, gain in gains.items() if gain > 0 and work[node] <= room}
        chosen = sorted(worth, key=lambda node: -worth[node])[: 1 if turn == 0 else 2]
        if not chosen:
            return
        kept += chosen
        with scene.log.stage(f"float sites ({len(kept)})"):
            placement = _place_without(scene, kept)
            quantization = _copied(scene, result.best.quantization, placement)
            yield _exported(scene, f"{len(kept)} sites float: {', '.join(kept)}", quantization)
            gains = measure_site_gains(scene.source.task, quantization, scene.teacher, scene.watched, scene.logits)


def _place_without(scene: Scene, nodes: Collection[str]) -> Placement:
    placement = place(scene.graph, scene.target, nodes)
    reasons = {node: FLOAT_REASON if node in nodes else said for node, said in placement.float_nodes.items()}
    return replace(placement, float_nodes=reasons)


def _prepared(scene: Scene, placement: Placement) -> Quantization:
    return prepare(GraphModule(scene.graph).eval(), placement, scene.target)


def _copied(scene: Scene, quantization: Quantization, placement: Placement) -> Quantization:
    """Return a copy with another placement; a site that is no longer one gets the float model's weights back."""
    copy = _prepared(scene, placement)
    transfer(quantization, copy)
    return copy


def _exported(scene: Scene, rung: str, quantization: Quantization) -> Candidate:
    """Export a candidate and see in the engine how near it is to its module and to the float model."""
    quantization.module.eval()
    quantization.freeze()
    path = scene.folder / f"candidate-{sum(1 for _ in scene.folder.glob('candidate-*.onnx'))}.onnx"
    export_qdq(quantization, path)
    session = open_session(path, scene.target.engine, scene.settings.threads)
    verified = _verify(scene, quantization.module, session)
    candidate = Candidate(rung, quantization, path, verified, _divergence(scene, session))
    scene.log.say(f"{rung}: divergence {candidate.divergence:.5f}, {verified.kind} {verified.value:.4f}")
    return candidate


def _verify(scene: Scene, module: GraphModule, session: InferenceSession) -> Verification:
    def forward(images: Any) -> Any:
        with torch.no_grad():
            output = module(torch.from_numpy(images))
        assert isinstance(output, Tensor)
        return output.numpy()

    verify = verify_rec if scene.source.task == "rec" else verify_det
    return verify(forward, session, [batch.numpy() for batch in scene.validation])


def _divergence(scene: Scene, session: InferenceSession) -> float:
    """Return how far the engine's answers are from the float model's."""
    with torch.no_grad():
        targets = (scene.teacher(batch, fetch=(scene.logits,))[scene.logits] for batch in scene.validation)
        answers = (_logits(scene.source.task, session.run(batch.numpy())) for batch in scene.validation)
        return compare(scene.source.task, answers, targets)[0]


def _logits(task: Task, output: Any) -> Tensor:
    """Undo the last Softmax, up to a constant, or the last Sigmoid."""
    probability = torch.from_numpy(output).clamp(TINY, 1.0 - TINY)
    return probability.log() if task == "rec" else torch.logit(probability)


def _judged(scene: Scene, candidate: Candidate) -> Candidate:
    with scene.log.stage(f"judge ({candidate.rung.partition(':')[0]})"):
        candidate.judged = scene.judge(open_session(candidate.path, scene.target.engine, scene.settings.threads))
    drop = candidate.judged.drop
    scene.log.say(
        f"{candidate.rung}: {loss_in_words(drop)} ({drop['low']:+.2f} to"
        f" {drop['high']:+.2f}, {drop['n']} held-back images), at most {scene.settings.max_drop} asked"
    )
    return candidate


def _add(scene: Scene, result: Climb, candidate: Candidate) -> None:
    """Judge a candidate; it is the best if it agrees with its module, loses less and is plainly nearer to float.

    A few images more or less are luck; what is no nearer to the float model is no better for it.
    """
    result.tried.append(candidate)
    if not candidate.verified.passed:
        scene.log.say(f"{candidate.rung}: not used, the engine computes something else")
        return
    judged = _judged(scene, candidate).judged
    assert judged is not None
    nearer = NEARER[judged.drop["against"]]
    if candidate.points < result.best.points and candidate.divergence < nearer * result.best.divergence:
        result.best = candidate


def _is_enough(scene: Scene, candidate: Candidate) -> bool:
    """Tell whether the budget holds with half a standard error to spare: a lucky draw should not end the climb."""
    assert candidate.judged is not None
    drop = candidate.judged.drop
    error = (drop["high"] - drop["low"]) / (2 * 1.96)
    return bool(candidate.points + 0.5 * error <= scene.settings.max_drop)


def _must_train(scene: Scene) -> bool:
    return bool(scene.settings.steps) and not scene.settings.ptq_only


def _may_train(scene: Scene) -> bool:
    return not scene.settings.ptq_only and (bool(scene.settings.steps) or scene.effort.steps > 0)


def _has_time(scene: Scene) -> bool:
    limit = scene.settings.max_minutes
    return limit is None or time.monotonic() - scene.began < 60 * limit
