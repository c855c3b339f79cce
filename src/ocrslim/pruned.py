"""The recipe of ``ocrslim prune``: cut channels until the clock agrees, then let the float model teach the smaller one.

The result is a float ONNX file with the names of the original and fewer channels; every engine runs it, and it can be
quantized as any other model.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from rich.console import Console

from ocrslim import __version__
from ocrslim.atomic import output_folder
from ocrslim.config.profile import Profile, load_profile
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.options import session_options
from ocrslim.engines.session import ENGINES, open_session
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import bench, refuse_shape, timed_shape
from ocrslim.errors import InputError
from ocrslim.export.bundle import CARD, write_sidecars
from ocrslim.export.onnx_float import export_float
from ocrslim.graph.importers.onnx import load_onnx, model_bytes
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.learning import (
    CHECKPOINTS,
    drop_checkpoints,
    refuse_unfinished,
    verify_module,
)
from ocrslim.ocr.ctc import Charset
from ocrslim.outcome import STALE, command, judge_held, open_eval, plain, refuse_own_folder
from ocrslim.relearning import distil, fingerprint, teach_pruned
from ocrslim.report.html import try_report
from ocrslim.report.model_card import model_card
from ocrslim.report.pruned import pruning_verdict
from ocrslim.report.result import sha256_of, write_json, write_text
from ocrslim.report.run_log import RunLog
from ocrslim.scoring import Judged, Pair, judge_by_labels
from ocrslim.slimming.pruning.cost import Whole
from ocrslim.slimming.pruning.plan import Goal, PruningResult
from ocrslim.slimming.pruning.prune import Importance, Machine, prune
from ocrslim.slimming.training.checkpoint import latest_checkpoint
from ocrslim.slimming.training.compute import Compute
from ocrslim.slimming.training.data import (
    TrainingData,
    calibration_batches,
    open_training_data,
    validation_batches,
)
from ocrslim.slimming.training.distillation import DistillationSettings, compare
from ocrslim.slimming.training.precision import Precision, open_precision, pick_device
from ocrslim.slimming.training.trainer import TrainingResult

__all__ = ["PruneSettings", "prune_and_distil"]

MIN_BENCH_SECONDS = 3.0
# To weigh the channels by, and to repair the layers by; ``None`` is what a calibration takes. PP-OCRv4 mobile rec, as
# it was cut, is .196 from the whole model by 128 lines, .182 by 512, .177 by 1,500, which takes 72 seconds for 26.
IMAGES = {"rec": 512, "det": None}


@dataclass(frozen=True)
class PruneSettings:
    """What to do; every field has the meaning of the command line's option of that name.

    Args:
        target: the engine that the model shall be fast on, ``onnxruntime`` or ``openvino``.
        out: folder for the results; made if missing.
        speedup: times as fast as the float model on that engine; this or ``ratio``.
        ratio: share of the multiply-accumulates to remove, in place of the clock.
        data: label file, folder of images or LMDB to learn from; ``None`` renders text.
        eval: label file to judge by; ``None`` judges by the held-back part of ``data``.
        data_dir: what image paths in label files are relative to.
        profile: pre- and post-processing; see :func:`ocrslim.config.profile.load_profile`.
        seed: of everything random.
        steps: training steps; ``None`` is :data:`ocrslim.relearning.STEPS`.
        threads: of training, scoring and timing.
        align: widths are multiples of it.
        importance: ``taylor`` or ``l1``.
        learning_rate: change of a weight in a step, as a share of the root mean square of its tensor; ``None`` is 1e-3
            for rec and 5e-5 for det.
        distillation: the losses.
        dictionary: file of a recogniser's characters, for one that comes without.
        shape: height and width of the images that models are timed at, pixels; ``None`` is the task's usual.
        batch: images of a run that is timed.
        compute: what the training runs on; one process.
    """

    target: str
    out: Path
    speedup: float | None = None
    ratio: float | None = None
    data: Path | None = None
    eval: Path | None = None
    data_dir: Path | None = None
    profile: str | None = None
    seed: int = 0
    steps: int | None = None
    threads: int = 2
    align: int = 8
    importance: Importance = "taylor"
    learning_rate: float | None = None
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    dictionary: Path | None = None
    shape: tuple[int, int] | None = None
    batch: int = 1
    compute: Compute = field(default_factory=Compute)

    def by_labels(self, ratio: float | None) -> PruneSettings:
        """Return the settings with another weight of labels for a recogniser; ``None`` keeps the usual."""
        return self if ratio is None else replace(self, distillation=replace(self.distillation, label_ratio=ratio))

    def goal(self) -> Goal:
        """Return the cost to reach.

        Raises:
            InputError: not exactly one of ``speedup`` and ``ratio`` is given, or it is out of its range; or several
            processes are to do it.
        """
        if self.compute.processes > 1:
            raise InputError("prune: in one process, leave out torchrun")
        if (self.speedup is None) == (self.ratio is None):
            raise InputError("prune: give either --speedup S, such as 1.3, or --ratio R, such as 0.3")
        if self.speedup is not None and self.speedup <= 1:
            raise InputError(f"prune: --speedup {self.speedup:g} is no gain; give a number above 1")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise InputError(f"prune: --ratio {self.ratio:g} is the share to remove; give a number between 0 and 1")
        return Goal(1 / self.speedup if self.speedup else 1 - (self.ratio or 0), align=self.align)


def prune_and_distil(model: str | Path, settings: PruneSettings, console: Console | None = None) -> dict[str, Any]:
    """Prune ``model``, train what is left; write ``model.onnx``, ``result.json`` and ``report.html`` into the folder.

    A run that was stopped while it trained goes on from its last checkpoint; what was timed is kept in
    ``latency.json``, so that the same channels are cut.

    Args:
        model: a zoo name, an ONNX file or a model folder.
        settings: see there.
        console: where progress is shown; a quiet one when ``None``.

    Returns:
        dict: what ``result.json`` holds.

    Raises:
        InputError: the model, its dictionary, the data or a setting cannot be used.
        VerifyError: the engine does not compute what the trained model computed.
    """
    get_target(settings.target)
    settings.goal()
    source = open_model(model, settings.dictionary)
    refuse_own_folder(source, settings.out)
    if source.task == "rec":
        Charset.from_source(source)  # texts are compared at the end of half an hour
    if settings.eval is not None:
        open_eval(source.task, settings.eval, settings.data_dir)
    profile = load_profile(settings.profile, source.inference_yml)
    precision = open_precision(settings.compute.amp, pick_device(settings.compute.device))
    with output_folder(settings.out, STALE) as partial:
        log = RunLog(settings.out, console or Console(quiet=True))
        try:
            result = _run(source, profile, settings, precision, partial, log)
        finally:
            log.close()
    drop_checkpoints(settings.out)
    try_report([settings.out], console)
    return result


def _run(
    source: ModelSource, profile: Profile, settings: PruneSettings, precision: Precision, partial: Path, log: RunLog
) -> dict[str, Any]:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    log.note(f"ocrslim {__version__}: prune {source.name} ({source.sha256}); {plain(settings)}")
    data_sha256 = sha256_of(settings.data) if settings.data else None
    _refuse_other(source, settings, data_sha256)
    shape = timed_shape(source.task, settings.shape, settings.batch)
    refuse_shape(open_session(source.path, settings.target, settings.threads), shape)
    with log.stage("data"):
        data = open_training_data(source.task, settings.data, settings.data_dir, source.characters or (), settings.seed)
        log.say(f"{len(data.train)} images to learn from, {len(data.held)} held back, {len(data.skipped)} skipped")
    with log.stage("prune"):
        graph = canonicalize(load_onnx(source.path))
        pruning = _prune(source, graph, data, profile, settings, log)
    untrained, exported = partial / "untrained.onnx", partial / "model.onnx"
    target = get_target(settings.target)
    export_float(pruning.model, target, untrained)
    with log.stage("train"):
        student, training = distil(source, graph, pruning, data, data_sha256, profile, settings, precision, log)
    taught = None
    if pruning.removed:
        student, taught = teach_pruned(student, source, data, profile, settings, log)
    export_float(student.to_ir(), target, exported)
    with log.stage("evaluate"):
        session = open_session(exported, settings.target, settings.threads)
        verified = verify_module(source.task, student, session, validation_batches(data, profile, settings.seed))
        verified.check()
        known: dict[str, Any] = {}  # the original answers once for both
        before, after = (_judge(source, path, data, profile, settings, known, log) for path in (untrained, exported))
        held = after if settings.eval is None else _judge(source, exported, data, profile, settings, {}, log, held=True)
    with log.stage("bench"):
        models = [("float", source.path), ("pruned", exported)]
        rows = bench(models, ENGINES, settings.threads, shape, min_seconds=MIN_BENCH_SECONDS)
    result = _result(source, settings, data, data_sha256, pruning, training, before, after)
    result |= {"held": held.worse_drop, "taught": asdict(taught) if taught else None}
    result |= {"latency": [row.to_json() for row in rows], "verify": [asdict(verified)], "stages": log.stages}
    result["size"] = {"float": model_bytes(source.path), "pruned": exported.stat().st_size}
    result["verdict"] = pruning_verdict(result)
    write_sidecars(partial, source.inference_yml, source.characters)
    write_text(partial / CARD, model_card(result, sha256_of(exported)))
    write_json(partial / "result.json", result)
    return result


def _prune(
    source: ModelSource,
    graph: ir.Model,
    data: TrainingData,
    profile: Profile,
    settings: PruneSettings,
    log: RunLog,
) -> PruningResult:
    whole = Whole(source.path, functools.partial(export_float, target=get_target(settings.target)))
    machine = Machine(settings.target, settings.threads, settings.out / "latency.json", whole)
    pruning = prune(
        graph,
        calibration_batches(data, profile, settings.seed, IMAGES[source.task]),
        settings.goal(),
        task=source.task,
        logits=distillation_points(graph).logits,
        shape=timed_shape(source.task, settings.shape, settings.batch),
        machine=machine if settings.speedup is not None else None,
        importance=settings.importance,
        divergence=lambda answer, target: compare(source.task, [answer], [target])[0],
        seed=settings.seed,
        progress=lambda now, wanted: log.say(f"cost {now:.3f} of the whole model's, wanted {wanted:.3f}"),
    )
    if pruning.uncut < 1.0:
        log.say(f"rewritten, the whole model takes {pruning.uncut:.3f} of its time")
    for row in pruning.rows:
        log.note(f"{row.name}: {row.before} -> {row.after} channels, {row.lost:.4g} lost; {row.reason}")
    if not pruning.reached:
        log.say(f"no further channel pays: {pruning.ratio:.3f} of the cost is what can be reached")
    if not pruning.removed:
        log.say("no channel is cut: there is nothing to train")
    return pruning


def _judge(
    source: ModelSource,
    path: Path,
    data: TrainingData,
    profile: Profile,
    settings: PruneSettings,
    known: dict[str, Any],
    log: RunLog,
    held: bool = False,
) -> Judged:
    """Score the whole and the smaller model on the user's own images, else or if asked on those held back."""
    original, smaller = (open_session(file, settings.target, settings.threads) for file in (source.path, path))
    pair = Pair(source, original, smaller, profile, known=known)
    if held or settings.eval is None:
        return judge_held(pair, data, settings.data, log)
    samples, skipped = open_eval(source.task, settings.eval, settings.data_dir)
    with log.bar("evaluate") as update:
        return judge_by_labels(pair, samples, skipped, f"the labels of {settings.eval}", update)


def _refuse_other(source: ModelSource, settings: PruneSettings, data_sha256: str | None) -> None:
    """Refuse a folder with the checkpoints of other settings; which channels go is not known so early.

    Raises:
        OcrslimError: there are such; the text names what differs.
    """
    if found := latest_checkpoint(settings.out / CHECKPOINTS):
        gone = json.loads(found[1]["fingerprint"]).get("gone")
        refuse_unfinished(settings.out, fingerprint(source, settings, data_sha256, gone))


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's measurement with the keys that JSON has: texts."""
    return {**row, "divergence": {str(count): moved for count, moved in row["divergence"].items()}}


def _result(
    source: ModelSource,
    settings: PruneSettings,
    data: TrainingData,
    data_sha256: str | None,
    pruning: PruningResult,
    training: TrainingResult,
    before: Judged,
    after: Judged,
) -> dict[str, Any]:
    """Gather what ``result.json`` holds of the pruning, the training and the scores."""
    engine = get_target(settings.target).engine
    return {
        "ocrslim": __version__,
        "model": source.to_json(),
        "data": {
            "path": str(settings.data) if settings.data else None,
            "sha256": data_sha256,
            **{"n_train": len(data.train), "n_held": len(data.held), "n_eval": after.n, "judged_by": after.judged_by},
        },
        "settings": plain(settings),
        "target": settings.target,
        "engine": engine,
        "command": command(),
        "session": session_options(engine, settings.threads),
        "delivered": "pruned",
        "pruning": {
            "ratio": pruning.ratio,
            "reached": pruning.reached,
            "uncut": pruning.uncut,
            "sensitivity": [_as_json(row) for row in pruning.sensitivity],
            "groups": [asdict(row) for row in pruning.rows],
            "history": list(pruning.history),
            "untrained": before.drop,
        },
        "training": asdict(training),
        "metrics": {
            "float": {engine: after.float_metrics},
            "untrained": {engine: before.int8_metrics},
            "pruned": {engine: after.int8_metrics},
        },
        "drop": {engine: after.drop},
        "differences": after.differences,
        "skipped": [asdict(item) for item in dict.fromkeys((*data.left_out, *after.skipped))],
        "cpu": asdict(cpu_info()),
    }
