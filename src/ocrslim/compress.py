"""The recipe: a float model and images go in, an int8 model and the figures that judge it come out.

Read it from top to bottom: :func:`compress` is the whole job, each function below it one stage.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from rich.console import Console
from torch import Tensor

from ocrslim import __version__
from ocrslim.config.profile import Profile, load_profile
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.session import ENGINES, InferenceSession, open_session
from ocrslim.engines.targets import Target, get_target
from ocrslim.engines.timing import SHAPES, bench
from ocrslim.errors import InputError
from ocrslim.export.bundle import write_sidecars
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.ladder import EFFORTS, Climb, Scene, climb
from ocrslim.ocr.labels import read_samples
from ocrslim.report.result import sha256_of, verdict, write_json
from ocrslim.report.run_log import RunLog
from ocrslim.scoring import Judged, Pair, judge_by_agreement, judge_by_labels
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR
from ocrslim.slimming.training.data import (
    TrainingData,
    calibration_batches,
    open_training_data,
    sensitivity_batch,
    training_batches,
    validation_batches,
)
from ocrslim.slimming.training.distillation import Distillation, DistillationSettings, TeacherJudge
from ocrslim.slimming.training.trainer import ParameterGroup, Trainer, TrainingResult, TrainSettings

__all__ = ["CompressSettings", "compress"]

STEPS = {"rec": 100, "det": 60}  # some two minutes on two cores
MIN_BENCH_SECONDS = 3.0
SCALE_FACTOR = 5.0  # learning rate of scales, which live in log space, relative to that of weights
SMALLEST_RMS = 1e-4  # of a weight, so that one of zeros can learn


@dataclass(frozen=True)
class CompressSettings:
    """What to do; every field has the meaning of the command line's option of that name.

    Args:
        target: ``onnxruntime`` or ``openvino``.
        out: folder for the results; made if missing.
        data: label file, folder of images or LMDB to learn from; ``None`` renders text.
        eval: label file to judge by; ``None`` judges by the held-back part of ``data``.
        data_dir: what image paths in label files are relative to.
        profile: pre- and post-processing; see :func:`ocrslim.config.profile.load_profile`.
        seed: of everything random.
        steps: training steps; ``None`` is 100 for rec and 60 for det.
        ptq_only: calibrate, but do not train.
        threads: of training, scoring and timing.
        observer: of activation ranges; ``output`` chooses each range by the error at the outputs of what reads it.
        learning_rate: change of a weight in a step, as a share of the root mean square of its tensor.
        distillation: the losses.
        max_drop: points of accuracy or hmean that may be lost; see :func:`ocrslim.ladder.climb`.
        effort: one of :data:`ocrslim.ladder.EFFORTS`.
        max_minutes: no rung is begun after so long.
    """

    target: str
    out: Path
    data: Path | None = None
    eval: Path | None = None
    data_dir: Path | None = None
    profile: str | None = None
    seed: int = 0
    steps: int | None = None
    ptq_only: bool = False
    threads: int = 2
    observer: str = OUTPUT_ERROR
    learning_rate: float = 5e-5
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    max_drop: float = 0.3
    effort: str = "normal"
    max_minutes: float | None = None


def compress(model: str | Path, settings: CompressSettings, console: Console | None = None) -> dict[str, Any]:
    """Compress ``model`` for one engine, measure what came of it and write the output folder.

    Args:
        model: a zoo name, an ONNX file or a model folder.
        settings: see there.
        console: where progress is shown; a quiet one when ``None``.

    Returns:
        dict: what ``result.json`` holds.

    Raises:
        InputError: the model, the data or a setting cannot be used.
        VerifyError: the engine does not compute what the trained model computed.
    """
    target = get_target(settings.target)
    if settings.effort not in EFFORTS:
        raise InputError(f"effort {settings.effort}: there is none of that name; take one of {', '.join(EFFORTS)}")
    source = open_model(model)
    profile = load_profile(settings.profile, source.inference_yml)
    with _output(settings.out) as partial:
        log = RunLog(settings.out, console or Console(quiet=True))
        try:
            return _run(source, profile, target, settings, partial, log)
        finally:
            log.close()


def _run(
    source: ModelSource, profile: Profile, target: Target, settings: CompressSettings, partial: Path, log: RunLog
) -> dict[str, Any]:
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    log.note(f"ocrslim {__version__}: {source.name} ({source.sha256}) for {target.name}; {_plain(settings)}")
    with log.stage("data"):
        data = open_training_data(source.task, settings.data, settings.data_dir, source.characters or (), settings.seed)
        log.say(f"{len(data.train)} images to learn from, {len(data.held)} held back, {len(data.skipped)} skipped")
        validation = validation_batches(data, profile, settings.seed)
        data_sha256 = sha256_of(settings.data) if settings.data else None
    with log.stage("import"):
        graph = canonicalize(load_onnx(source.path))
        teacher = GraphModule(graph).eval()
    original = open_session(source.path, target.engine, settings.threads)
    known: dict[str, Any] = {}

    def pair(compressed: InferenceSession) -> Pair:
        return Pair(source, original, compressed, profile, known)

    def train(quantization: Quantization) -> TrainingResult:
        trainer = _trainer(graph, quantization, teacher, validation, source, settings, data_sha256)
        return _train(trainer, data, profile, settings, log)

    scene = Scene(
        source,
        graph,
        teacher,
        target,
        data,
        profile,
        settings,
        calibration_batches(data, profile, settings.seed),
        validation,
        sensitivity_batch(data, profile, settings.seed),
        partial,
        log,
        lambda session: _judge_held(pair(session), data, settings, log),
        train,
    )
    climbed = climb(scene)
    exported = partial / "model.onnx"
    os.replace(climbed.best.path, exported)
    for path in partial.glob("candidate-*.onnx"):
        path.unlink()
    with log.stage("evaluate"):
        judged = _judge(pair(open_session(exported, target.engine, settings.threads)), climbed, settings, log)
    with log.stage("bench"):
        rows = [row.to_json() for row in _bench(source, exported, settings)]
    result = _result(source, target, settings, data, judged, climbed, rows, exported, graph, data_sha256, log)
    write_sidecars(partial, source.inference_yml, source.characters)
    write_json(partial / "result.json", result)
    return result


def _trainer(
    graph: ir.Model,
    quantization: Quantization,
    teacher: GraphModule,
    validation: list[Tensor],
    source: ModelSource,
    settings: CompressSettings,
    data_sha256: str | None,
) -> Trainer:
    """Set up the training of the fake-quantized student to answer as the float teacher does."""
    points = distillation_points(graph)
    student = quantization.module
    usual = round(STEPS[source.task] * EFFORTS[settings.effort].steps)
    steps = usual if settings.steps is None else settings.steps
    return Trainer(
        student,
        _groups(student, quantization),
        Distillation(student, teacher, source.task, points.logits, points.features, settings.distillation),
        TeacherJudge(student, teacher, source.task, points.logits, validation),
        TrainSettings(steps=steps, learning_rate=settings.learning_rate),
        folder=settings.out / "checkpoints",
        fingerprint=_fingerprint(source, settings, data_sha256),
    )


def _train(
    trainer: Trainer, data: TrainingData, profile: Profile, settings: CompressSettings, log: RunLog
) -> TrainingResult:
    """Train to the end, from the last checkpoint where there is one, and say how it went."""
    with log.bar("train") as update:
        trainer.progress = update
        if trainer.resume():
            log.say(f"going on from step {trainer.step}")
        try:
            training = trainer.run(lambda start, count: training_batches(data, profile, settings.seed, start, count))
        except KeyboardInterrupt:
            trainer.save()
            raise
    for line in training.history:
        log.note(" ".join(f"{key} {value:.5g}" for key, value in line.items()))
    log.say(f"best step {training.best_step} of {training.steps}: {dict(training.best.figures)}")
    return training


def _groups(student: GraphModule, quantization: Quantization) -> list[ParameterGroup]:
    """What learns: the weights, biases and scales of the sites; each weight in proportion to its size.

    Folded batch norms leave tensors of 0.003 beside tensors of 8 in one model: with one rate for all, what moves the
    large ones destroys the small ones. Learning the float operators too did harm.
    """
    groups = []
    names = dict.fromkeys(site.weight_name for site in quantization.placement.sites)
    biases = (quantization.bias(site) for site in quantization.placement.sites)
    learning = [*(student.parameter(name) for name in names), *(bias for bias in biases if bias is not None)]
    for index, parameter in enumerate(learning):
        rms = float(parameter.detach().square().mean().sqrt())
        groups.append(ParameterGroup(f"weight {index}", (parameter,), max(rms, SMALLEST_RMS)))
    scales = (*quantization.weight_scales(), *quantization.activation_scales())
    return [*groups, ParameterGroup("scales", scales, SCALE_FACTOR, weight_decay=False)]


def _judge_held(pair: Pair, data: TrainingData, settings: CompressSettings, log: RunLog) -> Judged:
    """Score float and int8 on the held-back part of the data: by its labels, else by their agreement."""
    with log.bar("judge") as update:
        if data.labelled and data.held_samples:
            words = f"the labels of the part of {settings.data} held back from training"
            return judge_by_labels(pair, data.held_samples, (), words, update)
        what = "rendered text" if data.rendered else f"images of {settings.data}"
        words = f"agreement with the float model (no labels) on {what} held back from training"
        return judge_by_agreement(pair, data.held, words, update)


def _judge(pair: Pair, climbed: Climb, settings: CompressSettings, log: RunLog) -> Judged:
    """Score float and int8 on the user's own images, which steered nothing, else say what the climb found."""
    if settings.eval is None:
        assert climbed.best.judged is not None  # the best is among those that were judged
        return climbed.best.judged
    samples, skipped = read_samples(pair.source.task, settings.eval, settings.data_dir)
    with log.bar("evaluate") as update:
        return judge_by_labels(pair, samples, skipped, f"the labels of {settings.eval}", update)


def _bench(source: ModelSource, exported: Path, settings: CompressSettings) -> list[Any]:
    """Time float and int8 on every engine, interleaved."""
    models = [("float", source.path), ("int8", exported)]
    shape = (1, 3, *SHAPES[source.task])
    return bench(models, ENGINES, threads=settings.threads, shape=shape, min_seconds=MIN_BENCH_SECONDS)


@contextmanager
def _output(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; what lies in it is moved into ``folder`` when the body succeeds, ``result.json`` last.

    A run that fails or is interrupted leaves no half-written result, only the log and the checkpoints.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(
            f"--out {folder}: cannot be written ({error.strerror}); name a folder that you may write"
        ) from error
    try:
        yield partial
        for path in sorted(partial.iterdir(), key=lambda path: path.name == "result.json"):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fingerprint(source: ModelSource, settings: CompressSettings, data_sha256: str | None) -> str:
    """Identify what the training depends on: the model, the data and the settings, not the output folder."""
    free = dict.fromkeys(("out", "eval", "max_drop", "max_minutes"))
    data = _plain(settings) | free | {"model": source.sha256, "data_sha256": data_sha256}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _plain(settings: CompressSettings) -> dict[str, Any]:
    """Return the settings as JSON's types, paths as text."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    return plain


def _result(
    source: ModelSource,
    target: Target,
    settings: CompressSettings,
    data: TrainingData,
    judged: Judged,
    climbed: Climb,
    rows: list[dict[str, Any]],
    exported: Path,
    graph: ir.Model,
    data_sha256: str | None,
    log: RunLog,
) -> dict[str, Any]:
    """Gather what ``result.json`` holds."""
    placement = climbed.best.quantization.placement
    training = next((item.training for item in climbed.tried if item.training), None)
    operators = {node.name: node.op_type for node in graph.graph}
    sizes = {"float": source.path.stat().st_size, "int8": exported.stat().st_size}
    result: dict[str, Any] = {
        "ocrslim": __version__,
        "model": {
            "name": source.name,
            "task": source.task,
            "sha256": source.sha256,
            "licence": source.licence,
            "path": str(source.path),
        },
        "data": {
            "path": str(settings.data) if settings.data else None,
            "sha256": data_sha256,
            "n_train": len(data.train),
            "n_held": len(data.held),
            "n_eval": judged.n,
            "judged_by": judged.judged_by,
        },
        "settings": _plain(settings),
        "target": target.name,
        "metrics": {"float": {target.engine: judged.float_metrics}, "int8": {target.engine: judged.int8_metrics}},
        "drop": {target.engine: judged.drop},
        "latency": rows,
        "size": sizes | {"ratio": sizes["int8"] / sizes["float"]},
        "placement": {
            "quantized": [{"node": site.node, "reason": site.reason} for site in placement.sites],
            "float": [
                {"node": node, "op": operators.get(node, ""), "reason": reason}
                for node, reason in placement.float_nodes.items()
            ],
        },
        "verify": [asdict(climbed.best.verified)],
        "budget": climbed.to_json(settings.max_drop),
        "sensitivity": climbed.sensitivity,
        "stages": log.stages,
        "training": asdict(training) if training else None,
        "skipped": [asdict(item) for item in (*data.left_out, *judged.skipped)],
        "cpu": asdict(cpu_info()),
    }
    result["verdict"] = verdict(result, target.engine)
    return result
