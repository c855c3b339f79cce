"""The recipe: a float model and images go in, an int8 model and the figures that judge it come out.

Read it from top to bottom: :func:`compress` is the whole job, each function below it one stage.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from rich.console import Console

from ocrslim import __version__
from ocrslim.config.paddleslim import ExampleConfig
from ocrslim.config.profile import Profile, load_profile
from ocrslim.delivery import INT8, Delivery, open_delivery
from ocrslim.engines.session import InferenceSession
from ocrslim.engines.targets import PLACEMENTS, get_target
from ocrslim.engines.timing import refuse_shape, timed_shape
from ocrslim.errors import InputError
from ocrslim.example import open_example_model, override
from ocrslim.export.bundle import CARD, write_sidecars
from ocrslim.export.paddle_source import is_writable
from ocrslim.following import Following, open_following
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.ladder import climb
from ocrslim.learning import (
    drop_checkpoints,
    learns_from_labels,
    open_lesson,
    open_trainer,
    refuse_unfinished,
    run_trainer,
    say_unused_ratio,
)
from ocrslim.outcome import (
    STALE,
    build_result,
    data_fingerprint,
    judge_held,
    judge_last,
    open_eval,
    plain,
    refuse_own_folder,
    run_fingerprint,
    verified,
)
from ocrslim.placing import small_sites, time_candidates
from ocrslim.report.html import try_report
from ocrslim.report.model_card import model_card
from ocrslim.report.result import sha256_of, write_json, write_text
from ocrslim.report.run_log import RunLog
from ocrslim.report.sensitivity import write_sensitivity
from ocrslim.scene import EFFORTS, Climb, Scene
from ocrslim.scoring import Pair
from ocrslim.slimming.example import calibration_plan, fit_target, highest_rate, kept_float
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR
from ocrslim.slimming.training.compute import Compute
from ocrslim.slimming.training.data import (
    TrainingData,
    calibration_batches,
    compared_batches,
    labelled_pages,
    labelled_validation,
    open_training_data,
    sensitivity_batches,
    training_batches,
    validation_batches,
)
from ocrslim.slimming.training.distillation import DistillationSettings
from ocrslim.slimming.training.distributed import ALONE, Team
from ocrslim.slimming.training.labelled_loader import check_paths
from ocrslim.slimming.training.precision import open_precision, pick_device
from ocrslim.slimming.training.trainer import TrainingResult
from ocrslim.teaching import NAME as TAUGHT
from ocrslim.together import (
    aligned,
    assist,
    dismiss,
    gather_damaged,
    lead,
    open_calibration,
    own_folder,
    wait_for,
)

__all__ = ["CompressSettings", "compress"]

MIN_BENCH_SECONDS = 3.0
AUTO = "auto"  # the target that a file of PaddleSlim's means


@dataclass(frozen=True)
class CompressSettings:
    """What to do; every field has the meaning of the command line's option of that name.

    Args:
        target: ``onnxruntime``, ``openvino``, ``paddle`` or ``tensorrt``; ``auto`` is ``paddle`` where an int8 model
            can be written into the files that the model came in, and ``onnxruntime`` elsewhere.
        out: folder for the results; made if missing.
        data: label file, folder of images or LMDB to learn from; ``None`` renders text.
        eval: label file to judge by; ``None`` judges by the held-back part of ``data``.
        data_dir: what image paths in label files are relative to.
        profile: pre- and post-processing; see :func:`ocrslim.config.profile.load_profile`.
        seed: of everything random.
        steps: training steps; ``None`` is 200 for rec and 100 for det.
        ptq_only: calibrate, but do not train.
        threads: of training, scoring and timing.
        observer: of activation ranges; ``output`` chooses each range by the error at the outputs of what reads it.
        learning_rate: change of a bias in a step, as a share of the root mean square of its tensor, or of a scale, as
            a share of itself. ``None`` is 1e-4, and 5e-4 for a detector with labels.
        distillation: the losses.
        max_drop: points of accuracy or hmean that may be lost; see :func:`ocrslim.ladder.climb`.
        effort: one of :data:`ocrslim.scene.EFFORTS`.
        max_minutes: no rung is begun after so long.
        reference: the float model that losses are counted from, named as ``model`` is, where another one is compressed.
        placement: ``measured`` asks the clock where int8 pays, ``policy`` takes what usually does, ``largest`` of
            that only the operators that hold half of the work; ``None`` goes by the effort.
        dictionary: file of a recogniser's characters, for one that comes without.
        shape: height and width of the images that models are timed at, pixels; ``None`` is the task's usual.
        batch: images of a run that is timed.
        compute: what the training runs on.
        example: a file of the PaddleSlim example, see :meth:`from_example`; ``data``, ``eval``, ``profile`` and
            ``dictionary`` go before what it says.
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
    learning_rate: float | None = None
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    max_drop: float = 0.3
    effort: str = "normal"
    max_minutes: float | None = None
    reference: Path | None = None
    placement: str | None = None
    dictionary: Path | None = None
    shape: tuple[int, int] | None = None
    batch: int = 1
    compute: Compute = field(default_factory=Compute)
    example: ExampleConfig | None = None

    @classmethod
    def from_example(cls, config: ExampleConfig, out: Path, **given: Any) -> CompressSettings:
        """Return the settings of a run that follows a file of the PaddleSlim example.

        Args:
            config: the file.
            out: folder for the results.
            given: fields that go before what the file says.
        """
        said: dict[str, Any] = {"target": AUTO, "observer": calibration_plan(config).observer}
        if config.training is not None:
            said["learning_rate"] = highest_rate(config.training)
        return cls(out=out, example=config, **(said | given))


def compress(
    model: str | Path | None, settings: CompressSettings, console: Console | None = None, team: Team = ALONE
) -> dict[str, Any]:
    """Compress ``model`` for one engine, measure what came of it and write the output folder.

    Args:
        model: a zoo name, an ONNX file or a model folder; ``None`` is the one that ``settings.example`` names.
        settings: see there.
        console: where progress is shown; a quiet one when ``None``.
        team: of the processes that train together; see :mod:`ocrslim.together`.

    Returns:
        dict: what ``result.json`` holds; nothing on ranks other than 0.

    Raises:
        InputError: the model, the data or a setting cannot be used.
        VerifyError: the engine does not compute what the trained model computed.
    """
    if settings.target != AUTO:
        get_target(settings.target)  # a name that there is not is told before anything is fetched
    if settings.effort not in EFFORTS:
        raise InputError(f"effort {settings.effort}: there is none of that name; take one of {', '.join(EFFORTS)}")
    if settings.placement not in (None, *PLACEMENTS):
        known = ", ".join(PLACEMENTS)
        raise InputError(f"placement {settings.placement}: there is none of that name; take one of {known}")
    wait_for(team, opened=False)
    source, settings, warnings = _open(model, settings)
    refuse_own_folder(source, settings.out)
    named = settings.example.profile if settings.example is not None and settings.profile is None else None
    profile = named or load_profile(settings.profile, source.inference_yml)
    if settings.example is None and settings.eval is not None:
        open_eval(source.task, settings.eval, settings.data_dir)
    delivery = replace(open_delivery(source, settings.target, settings.threads), reference=settings.reference)
    with own_folder(team, settings.out, STALE) as partial:
        log = RunLog(settings.out if team.leads else partial, (team.leads and console) or Console(quiet=True))
        for line in (*warnings, *delivery.notes):
            log.say(line)
        try:
            result = _run(delivery, profile, settings, partial, log, team)
        finally:
            log.close()
    if team.leads:
        drop_checkpoints(settings.out)
        try_report([settings.out], console)
    return result


def _open(
    model: str | Path | None, settings: CompressSettings
) -> tuple[ModelSource, CompressSettings, tuple[str, ...]]:
    """Open the model, settle what the settings leave open, and return what had to be said about it."""
    warnings: tuple[str, ...] = ()
    if settings.example is not None:
        config = override(settings.example, data=settings.data, evaluate=settings.eval, data_dir=settings.data_dir)
        settings = replace(settings, example=config)
        for dataset in (config.train, config.eval):  # the data first: their absence is the usual mistake
            if dataset is not None:
                check_paths(dataset, config.model.task)
        source, said = open_example_model(config, model, settings.dictionary)
        warnings = (*config.warnings, *said)
    elif model is None:
        raise InputError("compress: name a model, or a file that says which")
    else:
        source = open_model(model, settings.dictionary)
    if settings.reference is not None:
        origin = open_model(settings.reference, settings.dictionary)
        source = replace(source, name=origin.name, licence=origin.licence)
        settings = replace(settings, reference=origin.path)
    if settings.target == AUTO:
        settings = replace(settings, target="paddle" if is_writable(source) else "onnxruntime")
        if settings.target != "paddle":
            what = "is a program of Paddle 3" if source.paddle else "came as ONNX"
            warnings = (
                *warnings,
                f"{source.name} {what}, so that no int8 .pdmodel can be written: compressed for onnxruntime; --target"
                " names another engine",
            )
    return source, settings, warnings


def _open_data(
    source: ModelSource, settings: CompressSettings, log: RunLog
) -> tuple[Following | None, TrainingData, CompressSettings]:
    """Open the run's data, or those of the file that it follows, which says the number of steps too."""
    follow = None
    if settings.example is not None:
        follow = open_following(settings, source)
        data, settings = follow.data.training, follow.settings(settings)
    else:
        data = open_training_data(source.task, settings.data, settings.data_dir, source.characters or (), settings.seed)
    log.say(f"{len(data.train)} images to learn from, {len(data.held)} held back, {len(data.skipped)} skipped")
    say_unused_ratio(data, settings, log)
    return follow, data, settings


def _run(
    delivery: Delivery, profile: Profile, settings: CompressSettings, partial: Path, log: RunLog, team: Team
) -> dict[str, Any]:
    precision = open_precision(settings.compute.amp, pick_device(settings.compute.device, team.local))
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    source = delivery.source
    log.note(f"ocrslim {__version__}: {source.name} ({source.sha256}) for {settings.target}; {plain(settings)}")
    with log.stage("data"):
        follow, data, settings = _open_data(source, settings, log)
        validation, data_sha256 = validation_batches(data, profile, settings.seed), data_fingerprint(settings)
    identity = refuse_unfinished(settings.out, run_fingerprint(source, settings, data_sha256))
    kept = {"fingerprint": identity, "team": team, "precision": precision}
    wait_for(team, opened=True)
    with log.stage("import"):
        graph = canonicalize(load_onnx(source.path))
        delivery, stays_float = _follow_placement(follow, delivery, graph, settings.placement, log)
    original, known = delivery.open_original(), dict[str, Any]()
    refuse_shape(original, timed_shape(source.task, settings.shape, settings.batch))
    counted = original if settings.reference is None else delivery.open(delivery.counted)

    def pair(compressed: InferenceSession) -> Pair:
        if follow is None:
            return Pair(source, counted, compressed, profile, known=known)
        # PaddleOCR's evaluation squeezes all lines into one width.
        return Pair(source, counted, compressed, profile, "fixed", follow.config.metric.ignore_space, known)

    by_labels = follow is None and data.task == "det" and learns_from_labels(data, settings.distillation, log)
    make = functools.partial(labelled_pages if by_labels else training_batches, data, profile, settings.seed)
    batches = functools.partial(make if follow is None else follow.batches, shard=settings.compute.shard(team.rank))

    def train(graph: ir.Model, quantization: Quantization) -> TrainingResult:
        # Both as rank 0 has them: equalised channels have other scales inside, and features are compared.
        teacher, _ = (aligned(team, module) for module in (GraphModule(graph).eval(), quantization.module))
        with precision.placed(quantization.module, teacher):
            if follow is None:
                judged = labelled_validation(data, profile, settings.seed) if by_labels else validation
                trainer = open_trainer(graph, quantization, teacher, judged, source, settings, log, **kept)
            else:
                trainer = follow.trainer(graph, quantization, teacher, profile, settings, log, **kept)
            training = run_trainer(trainer, batches, log, follow.log_every if follow else None)
        data.damaged.update(follow.refused() if follow else {})
        gather_damaged(team, data.damaged)
        return training

    calibration = calibration_batches(data, profile, settings.seed, follow.plan.images if follow else None)
    where = settings.data or (follow.words if follow else None)
    scene = Scene(
        source,
        graph,
        GraphModule(graph).eval(),
        delivery.target,
        data,
        profile,
        settings,
        calibration,
        validation,
        compared_batches(data, profile, settings.seed),
        original,
        sensitivity_batches(data, profile, settings.seed),
        partial,
        log,
        lambda session: judge_held(pair(session), data, where, log, EFFORTS[settings.effort].judged),
        lead(team, train),
        open_calibration(team, calibration, settings.seed),
        delivery.open,
        delivery.required,
        **stays_float,
        pact=follow is not None and follow.plan.quantization.pact,
        by_labels=by_labels or follow is not None,
        lesson=open_lesson(source, data, profile, settings, follow, partial, log),
    )
    if not team.leads:
        assist(team, scene, train)
        return {}
    climbed = climb(scene)
    dismiss(team)
    return _deliver(delivery, scene, climbed, pair, data_sha256, follow)


def _deliver(
    delivery: Delivery,
    scene: Scene,
    climbed: Climb,
    pair: Callable[[InferenceSession], Pair],
    data_sha256: str | None,
    follow: Following | None,
) -> dict[str, Any]:
    """Score and time the best candidate, and write all that the user gets."""
    source, settings, partial, log = scene.source, scene.settings, scene.folder, scene.log
    time_candidates(scene, climbed.tried, delivery.counted)
    exported = climbed.best.path.replace(partial / "model.onnx")
    for path in (*partial.glob("candidate-*"), *partial.glob(f"{TAUGHT}*")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with log.stage("evaluate"):
        judged = judge_last(pair, delivery, exported, climbed, settings, log, follow)
    shutil.rmtree(exported.with_suffix(".paddle"), ignore_errors=True)  # what Paddle was given to judge
    with log.stage("bench"):
        delivery.finish(exported)
        delivery.rewrite(climbed.graph, exported)
        timed = exported, timed_shape(source.task, settings.shape, settings.batch), MIN_BENCH_SECONDS
        rows = [*delivery.bench_surely(*timed), *delivery.bench_alone(*timed)]
        checks = verified(delivery, scene, climbed)
    result = build_result(delivery, scene, judged, climbed, rows, exported, data_sha256) | {"verify": checks}
    if (answer := delivery.keep_float(exported, rows)) != "int8":
        log.say(f"float is better here: model.onnx is the float model ({answer}), the int8 one is {INT8}")
    write_sidecars(partial, source.inference_yml, source.characters)
    write_text(partial / CARD, model_card(result, sha256_of(exported)))
    write_sensitivity(partial, result)
    write_json(partial / "result.json", result)
    return result


def _follow_placement(
    follow: Following | None, delivery: Delivery, graph: ir.Model, placement: str | None, log: RunLog
) -> tuple[Delivery, dict[str, Any]]:
    """Return the target with a file's bits, and the nodes that the file or ``placement`` wants float, as of a scene.

    That the target can be written is seen here too: a refusal comes before anything is taught.
    """
    delivery.try_writing(graph)
    if follow is None:
        if placement != "largest":
            return delivery, {}
        return delivery, {"small": small_sites(graph, delivery.target, delivery.source.task)}
    target, said = fit_target(delivery.target, follow.plan.quantization)
    for line in (*said, *follow.notes()):
        log.say(line)
    return replace(delivery, target=target), {"keep_float": kept_float(graph, follow.plan.quantization)}
