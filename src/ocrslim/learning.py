"""What the recipes that train have in common: rates, the loop with its bar and checkpoints, the proof of the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ocrslim.config.profile import Profile, Task
from ocrslim.engines.session import InferenceSession
from ocrslim.engines.targets import Target, get_target
from ocrslim.export.verify import Verification, verify_det, verify_rec
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.source import ModelSource
from ocrslim.graph.points import distillation_points
from ocrslim.report.run_log import RunLog
from ocrslim.scene import EFFORTS
from ocrslim.slimming.quantization.channels import find_factors
from ocrslim.slimming.quantization.placement import Placement
from ocrslim.slimming.quantization.prepare import Quantization
from ocrslim.slimming.quantization.shared import find_float_part
from ocrslim.slimming.training.checkpoint import latest_checkpoint, refuse_another_run
from ocrslim.slimming.training.data import TrainingData
from ocrslim.slimming.training.distillation import Distillation, DistillationSettings, LossJudge, TeacherJudge
from ocrslim.slimming.training.lifeline import LostRankError
from ocrslim.slimming.training.task_losses import LabelledBatch, TaskLoss, task_loss
from ocrslim.slimming.training.trainer import ParameterGroup, Score, Trainer, TrainingResult, TrainSettings
from ocrslim.teaching import USUAL_RATIO, Lesson

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings
    from ocrslim.following import Following

__all__ = [
    "CHECKPOINTS",
    "FASTER",
    "RECIPE",
    "SMALLEST_RMS",
    "STEPS",
    "channel_factors",
    "checkpoints_of",
    "drop_checkpoints",
    "learns_from_labels",
    "may_learn",
    "open_lesson",
    "open_trainer",
    "proportional",
    "refuse_unfinished",
    "run_trainer",
    "say_unused_ratio",
    "scales_and_biases",
    "supervise",
    "supervise_quantized",
    "verify_module",
]

FEWEST_PAGES = 20  # labelled, to learn from; fewer would be learned by heart
STEPS = {"rec": 200, "det": 100}  # some four minutes on two cores
LEARNING_RATE = 1e-4  # of scales and biases; five times that is farther from float for half of the steps
LABELLED_RATE = 5e-4
RECIPE = 13  # of what is trained and how it is judged: what another one left unfinished is not gone on with
CHECKPOINTS, FASTER = "checkpoints", "checkpoints-faster"  # folders in the output folder
SMALLEST_BIAS = 1e-3  # root mean square that a smaller tensor of biases counts as, so that one of zeros can learn
SMALLEST_RMS = 1e-4  # of a weight, so that one of zeros can learn


def proportional(named: Iterable[tuple[str, nn.Parameter]], least: float = SMALLEST_RMS) -> list[ParameterGroup]:
    """Return a group for each tensor, whose rate is in proportion to its size.

    Folded batch norms leave tensors of 0.003 beside tensors of 8 in one model: with one rate for all, what moves the
    large ones destroys the small ones.

    Args:
        named: the tensors, each with the name of its group.
        least: root mean square that a smaller tensor counts as.
    """
    return [
        ParameterGroup(name, (parameter,), max(float(parameter.detach().square().mean().sqrt()), least))
        for name, parameter in named
    ]


def scales_and_biases(quantization: Quantization) -> list[ParameterGroup]:
    """Fix the integers that calibration made of the weights, and return what learns: the scales and the sites' biases.

    Moving weights crosses the bounds between integers, and undoes rounding that was chosen by the error at the outputs;
    with the integers fixed each step changes the outputs smoothly, and there is too little to learn to overfit. Nothing
    decays: a bias near zero is not better than another.

    Args:
        quantization: calibrated; changed in place.
    """
    quantization.fix_codes()
    scales = (*quantization.weight_scales(), *quantization.activation_scales())
    found = (quantization.bias(site) for site in quantization.placement.sites)
    biases = ((f"bias {index}", bias) for index, bias in enumerate(bias for bias in found if bias is not None))
    groups = [*proportional(biases, SMALLEST_BIAS), ParameterGroup("scales", scales)]
    return [replace(group, weight_decay=False) for group in groups]


def refuse_unfinished(out: Path, fingerprint: str) -> str:
    """Refuse a folder with the checkpoints of a run with other settings, before any work is done.

    Args:
        out: the output folder.
        fingerprint: of this run.

    Returns:
        str: the fingerprint.

    Raises:
        OcrslimError: there are such; the text names what differs.
    """
    for name in (CHECKPOINTS, FASTER):
        found = latest_checkpoint(out / name)
        if found is not None:
            refuse_another_run(out / name, found[1]["fingerprint"], fingerprint)
    return fingerprint


def drop_checkpoints(out: Path) -> None:
    """Remove the checkpoints of a run that has ended well.

    Args:
        out: the output folder.
    """
    for name in (CHECKPOINTS, FASTER):
        shutil.rmtree(out / name, ignore_errors=True)


def run_trainer(
    trainer: Trainer, batches: Callable[[int, int], Iterable[Any]], log: RunLog, log_every: int | None = None
) -> TrainingResult:
    """Train to the end, from the last checkpoint where there is one, and say how it went.

    Args:
        trainer: to run; an interrupt, or the loss of a process that trains with it, saves it between two steps.
        batches: see :meth:`ocrslim.slimming.training.trainer.Trainer.run`.
        log: of the run.
        log_every: steps between two lines of figures; ``None`` says none.
    """
    with log.bar("train") as update:

        def progress(done: int, total: int, figures: Mapping[str, float]) -> None:
            update(done, total, figures)
            if log_every is not None and done % log_every == 0:
                log.say(f"step {done}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))

        trainer.progress = progress
        if trainer.resume():
            log.say(f"going on from step {trainer.step}")
        try:
            training = trainer.run(batches)
        except (KeyboardInterrupt, LostRankError):
            trainer.save_interrupted()
            raise
    for line in training.history:
        log.note(" ".join(f"{key} {value:.5g}" for key, value in line.items()))
    log.say(f"best step {training.best_step} of {training.steps}: {dict(training.best.figures)}")
    return training


def open_trainer(
    graph: ir.Model,
    quantization: Quantization,
    teacher: GraphModule,
    validation: list[Tensor] | list[LabelledBatch],
    source: ModelSource,
    settings: CompressSettings,
    log: RunLog,
    **kept: Any,
) -> Trainer:
    """Set up the training of the fake-quantized student to answer as the float teacher does, and as labels say.

    Args:
        graph: canonical, of both.
        quantization: of the student, calibrated; its integers are fixed.
        teacher: the float model.
        validation: batches to judge by; those with labels teach by labels too.
        source: the model.
        settings: of the run.
        log: of the run.
        kept: further arguments of the trainer, ``precision`` and ``team`` among them.
    """
    task, student = source.task, quantization.module
    steps, give_up_at = settings.steps, None  # whoever names the steps wants them
    if steps is None:
        steps = settings.compute.steps(round(STEPS[task] * EFFORTS[settings.effort].steps))
        give_up_at = max(1, steps // 2)
    validation = [kept["precision"].place(batch) for batch in validation[: None if kept["team"].leads else 1]]
    distilled, judge = supervise_quantized(quantization, teacher, graph, task, settings.distillation, validation)
    usual = LEARNING_RATE if distilled.labels is None else LABELLED_RATE
    rate = usual if settings.learning_rate is None else settings.learning_rate
    return Trainer(
        student,
        scales_and_biases(quantization),
        distilled,
        judge,
        settings.compute.fit(TrainSettings(steps, rate, give_up_at=give_up_at), log.say),
        folder=settings.out / checkpoints_of(quantization, get_target(settings.target)),
        **kept,
    )


def supervise_quantized(
    quantization: Quantization,
    teacher: GraphModule,
    graph: ir.Model,
    task: Task,
    settings: DistillationSettings,
    validation: Sequence[Tensor] | Sequence[LabelledBatch],
) -> tuple[Distillation, Callable[[], Score]]:
    """Return what :func:`supervise` does, for a student that goes on from the teacher's float layers.

    Features that both have in common are left out; the loss, the mean of all, stays what it was.
    """
    shared, features = find_float_part(quantization, teacher), distillation_points(graph).features
    kept = tuple(name for name in features if name not in shared.inside)
    settings = replace(settings, feature_ratio=settings.feature_ratio * len(kept) / max(1, len(features)))
    return supervise(quantization.module, teacher, graph, task, settings, validation, kept, shared.values)


def supervise(
    student: nn.Module,
    teacher: nn.Module,
    graph: ir.Model,
    task: Task,
    settings: DistillationSettings,
    validation: Sequence[Tensor] | Sequence[LabelledBatch],
    features: Sequence[str] | None = None,
    shared: Sequence[str] = (),
    labels: TaskLoss | None = None,
) -> tuple[Distillation, Callable[[], Score]]:
    """Return what teaches a student, and what judges it: the float model, and labels where the batches have them.

    Args:
        student: the module to train.
        teacher: the float module.
        graph: canonical, of the teacher.
        task: det or rec.
        settings: of the losses.
        validation: batches to judge by.
        features: names of values to match; ``None`` are those of :func:`distillation_points`.
        shared: names of values that both compute alike.
        labels: loss against the labels of training batches where those of ``validation`` have none.
    """
    points = distillation_points(graph)
    by_labels = bool(validation) and isinstance(validation[0], LabelledBatch)
    labels = task_loss(task) if by_labels else labels
    features = points.features if features is None else features
    distilled = Distillation(student, teacher, task, points.logits, features, settings, labels, shared)
    if by_labels:
        return distilled, LossJudge(distilled, validation)
    return distilled, TeacherJudge(student, teacher, task, points.logits, cast("Sequence[Tensor]", validation))


def checkpoints_of(quantization: Quantization, usual: Target) -> str:
    """Return the folder of a training's checkpoints: a climb may train a faster placement and then the usual one.

    Args:
        quantization: that is trained.
        usual: its target, as it is where the clock wants nothing else.
    """
    placement = quantization.placement
    outputs = quantization.target.quantize_outputs != usual.quantize_outputs
    return FASTER if outputs or any(site.node in placement.optional for site in placement.sites) else CHECKPOINTS


def channel_factors(
    task: Task, target: Target, teacher: GraphModule, placement: Placement, batches: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Return the factors of :func:`.channels.find_factors` where a scale for each channel costs little time.

    It takes 0 to 4 % of a recogniser's. A detector's maps are large: PP-OCRv4 mobile det took 7 % more in OpenVINO.

    Args:
        task: det or rec.
        target: of the placement.
        teacher: the float model.
        placement: of it.
        batches: calibration images.
    """
    if task != "rec" or not target.channel_scales:
        return {}
    return find_factors(teacher, placement, target.activation, batches)


def verify_module(
    task: Task, module: nn.Module, session: InferenceSession, batches: Iterable[Tensor], required: float | None = None
) -> Verification:
    """Compare an exported file in its engine with the module that it was made from.

    Args:
        task: see :mod:`ocrslim.export.verify`.
        module: images ``[N, 3, H, W]`` -> the model's output.
        session: of the file.
        batches: images to compare on.
        required: agreement that passes; ``None`` is the task's usual one.
    """

    def forward(images: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            output = module(torch.from_numpy(images))
        assert isinstance(output, Tensor)
        return output.numpy()

    verify = verify_rec if task == "rec" else verify_det
    return verify(forward, session, (batch.numpy() for batch in batches), required)


def learns_from_labels(data: TrainingData, settings: DistillationSettings, log: RunLog | None = None) -> bool:
    """Tell whether labels teach beside the float model: pages in training, lines the last layer before it.

    Args:
        data: of the run.
        settings: the weight of labels among them.
        log: is told where pages are too few; of lines the lesson tells.
    """
    if not data.labelled or settings.label_ratio <= 0:
        return False
    few = data.task == "det" and len(data.train) < FEWEST_PAGES
    if few and log is not None:
        log.say(f"{len(data.train)} labelled pages are too few to learn from, {FEWEST_PAGES} are needed: float teaches")
    return not few


def may_learn(settings: CompressSettings) -> bool:
    """Tell whether anything may learn, were it only a last layer: who only calibrates, or takes no step, said no.

    Args:
        settings: of the run.
    """
    return not settings.ptq_only and settings.steps != 0


def say_unused_ratio(data: TrainingData, settings: CompressSettings, log: RunLog) -> None:
    """Tell who gave ``--label-ratio`` that nothing learns from labels; with a file the command line has said so.

    Args:
        data: of the run.
        settings: the same.
        log: the same.
    """
    learns = may_learn(settings) and learns_from_labels(data, settings.distillation)
    if settings.example is None and not learns and settings.distillation.label_ratio not in (0, USUAL_RATIO):
        log.say("--label-ratio: without effect, there are no labels, or nothing may learn")


def open_lesson(
    source: ModelSource,
    data: TrainingData,
    profile: Profile,
    settings: CompressSettings,
    follow: Following | None,
    folder: Path,
    log: RunLog,
) -> Lesson | None:
    """Return what labels teach a recogniser's last layer with; nothing where nothing may learn.

    A file of the example says that its labels teach, unless their weight is said to be 0; PaddleOCR's evaluation
    squeezes all lines into one width.

    Args:
        source: the model.
        data: of the run.
        profile: the same.
        settings: the same.
        follow: the file that the run follows.
        folder: for files that are of no use afterwards.
        log: of the run.
    """
    ratio = settings.distillation.label_ratio
    learns = ratio > 0 if follow is not None else learns_from_labels(data, settings.distillation)
    if source.task != "rec" or not may_learn(settings) or not learns:
        return None
    effort, seed = EFFORTS[settings.effort], settings.seed
    known = source, data, profile.rec, folder, log, settings.threads, seed
    if follow is not None:
        return Lesson(*known, rec_width="fixed", ignore_space=follow.config.metric.ignore_space)
    return Lesson(*known, ratio=ratio, most=effort.taught, judged=effort.judged)
