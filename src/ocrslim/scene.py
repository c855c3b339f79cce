"""What a climb works with, and what it makes: the nouns of :mod:`ocrslim.ladder`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from torch import Tensor

from ocrslim.config.profile import Profile
from ocrslim.engines.session import InferenceSession
from ocrslim.engines.targets import Target
from ocrslim.export.verify import Verification
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.points import distillation_points
from ocrslim.report.front import pareto_front
from ocrslim.report.run_log import RunLog
from ocrslim.scoring import Judged
from ocrslim.slimming.quantization.measured import Measured
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR
from ocrslim.slimming.training.data import TrainingData
from ocrslim.slimming.training.trainer import TrainingResult
from ocrslim.teaching import Lesson, Taught

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = ["EFFORTS", "FLOAT_REASON", "Candidate", "Climb", "Effort", "Scene", "images_needed"]

Samples = Mapping[str, Tensor]  # see ocrslim.slimming.quantization.samples
Calibrate = Callable[[Quantization, str, Samples | None], Samples]
FLOAT_REASON = "sensitive: quantized, it costs more accuracy than its time is worth"


@dataclass(frozen=True)
class Effort:
    """How far to climb.

    Args:
        observers: ways to choose ranges that are tried; the first is the one that usually wins.
        steps: training steps, as a multiple of the task's usual number; 0 does not train.
        turns: how often further sites are made float, two of them at a time after the first.
        most_float: share of the sites' multiplications that may become float so, or of twice their weights.
        watched: batches of training images on which sites are measured.
        equalize: whether the first of the observers is also tried on equalised channels, and one of them without a
            scale for each channel.
        taught: labelled lines at most that teach a recogniser's last layer.
        judged: held-back images at most that judge a candidate.
        relieve: whether single sites that cost much and save little time are made float before anything is trained.
        measure: whether the clock is asked where int8 pays; see :mod:`ocrslim.placing`.
    """

    observers: tuple[str, ...]
    steps: float
    turns: int
    most_float: float
    watched: int = 4
    equalize: bool = True
    relieve: bool = True
    taught: int = 6000
    judged: int = 2000
    measure: bool = True


EFFORTS: Mapping[str, Effort] = {
    "quick": Effort(
        (OUTPUT_ERROR,), 0.0, 1, 0.15, watched=1, equalize=False, relieve=False, taught=800, judged=600, measure=False
    ),
    "normal": Effort((OUTPUT_ERROR, "percentile"), 1.0, 6, 0.3),
    "max": Effort((OUTPUT_ERROR, "percentile", "mse"), 4.0, 8, 0.5, taught=20000),
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
        validation: batches of held-back images, that torch looks at.
        compared: the same and more, that the engine looks at.
        original: the float model in the engine.
        watched: batches of training images whose values sensitivity stores, one at a time.
        folder: for the candidates' files.
        log: of the run.
        judge: scores a session of a candidate against the float model.
        train: trains a quantization of a graph in place; an equalised graph has other values inside.
        calibrate: calibrates a quantization in place with an observer, and samples if there are some; see
            :func:`ocrslim.slimming.quantization.calibration.calibrate_fully`.
        open: loads an exported file in the engine.
        required: agreement of an exported file with its module; ``None`` is the usual one.
        keep_float: names of nodes that were asked to stay float.
        small: names of sites that stay float since only the largest were asked for; see
            :func:`ocrslim.placing.small_sites`.
        pact: see :func:`ocrslim.slimming.quantization.prepare.prepare`.
        by_labels: training learns from labels too, so that an answer unlike the float model's may be the better one.
        lesson: what labels teach the last layer with before the climb; ``None`` where they don't.
        measured: where the clock wants int8.
        fast: the optional nodes that it wants in int8 are, too.
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
    compared: list[Tensor]
    original: InferenceSession
    watched: list[Tensor]
    folder: Path
    log: RunLog
    judge: Callable[[InferenceSession], Judged]
    train: Callable[[ir.Model, Quantization], TrainingResult]
    calibrate: Calibrate
    open: Callable[[Path], InferenceSession]
    required: float | None = None
    keep_float: Collection[str] = ()
    small: Collection[str] = ()
    pact: bool = False
    by_labels: bool = False
    lesson: Lesson | None = None
    measured: Measured = field(default_factory=Measured)
    fast: bool = False
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
        divergence: of that file in the engine from the float model there, the mean of
            :func:`ocrslim.slimming.training.distillation.distances` on the compared images.
        judged: on the held-back part; ``None`` where another candidate of the rung was nearer to float.
        training: what training did, to it or to the candidate that it was made of.
        time: of a run, to that of the float model in the same engine; ``None`` where it was not timed.
    """

    rung: str
    quantization: Quantization
    path: Path
    verified: Verification
    divergence: float
    judged: Judged | None = None
    training: TrainingResult | None = None
    time: float | None = None

    @property
    def points(self) -> float:
        """The loss as judged, in points."""
        return math.inf if self.judged is None else float(self.judged.worse_drop["points"])


@dataclass
class Climb:
    """How it went.

    Args:
        best: the candidate with the least loss, or the first that surely holds the budget.
        tried: every candidate, in order.
        graph: the canonical float graph that was made int8: the scene's, or with the last layer that labels taught.
        sensitivity: rows of the sites, worst first; empty where the climb ended before.
        measured: the candidate that they are of.
        taught: what labels taught before; ``None`` where nothing.
        placed: where the clock wanted int8; ``None`` where it wasn't asked.
    """

    best: Candidate
    tried: list[Candidate]
    graph: ir.Model
    sensitivity: list[dict[str, Any]] = field(default_factory=list)
    measured: Candidate | None = None
    taught: Taught | None = None
    placed: Measured | None = None

    def to_json(self, max_drop: float) -> dict[str, Any]:
        """Return what ``result.json`` says of the budget."""
        judged = self.best.judged
        assert judged is not None  # the best is among those that were judged
        best = pareto_front([(item.time, item.points) for item in self.tried])
        return {
            "max_drop": max_drop,
            "kept": self.best.points <= max_drop,
            "sure": judged.worse_drop["high"] <= max_drop,
            "judged_by": judged.judged_by,
            "drop": judged.worse_drop,
            "images_to_tell": images_needed(judged.worse_drop, max_drop),
            "taught": asdict(self.taught) if self.taught else None,
            "trained": self.best.training is not None and self.best.training.best_step > 0,
            "best": next(index for index, item in enumerate(self.tried) if item is self.best),
            "rungs": [
                {
                    "rung": item.rung,
                    "divergence": item.divergence,
                    "drop": item.judged.worse_drop if item.judged else None,
                    "changed": item.judged.differences["n"] if item.judged else None,
                    "float_sites": sum(
                        reason == FLOAT_REASON for reason in item.quantization.placement.float_nodes.values()
                    ),
                    "agrees": item.verified.value,
                    "time": item.time,
                    "front": index in best,
                }
                for index, item in enumerate(self.tried)
            ],
        }


def images_needed(drop: Mapping[str, Any], max_drop: float) -> int | None:
    """Return how many images would tell a loss of ``max_drop`` points from none: the interval shrinks with the root.

    Where no image differs, it is the rule of three's, which shrinks with their number.
    """
    half = (drop["high"] - drop["low"]) / 2.0
    if max_drop <= 0 or half <= 0:
        return None
    return math.ceil(300 / max_drop) if drop.get("same") else math.ceil(drop["n"] * (half / max_drop) ** 2)
