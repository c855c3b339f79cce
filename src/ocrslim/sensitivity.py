"""The recipe of ``ocrslim sensitivity``: which sites of a model cost its accuracy in int8, and by how much.

The model is prepared and calibrated as on the first rung of the ladder, then every site is measured, in torch. What was
measured is kept in ``sensitivity.progress.json`` until the run ends, so that an interrupted one goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from ocrslim import __version__
from ocrslim.atomic import output_folder
from ocrslim.config.profile import Profile, Task, load_profile
from ocrslim.engines.targets import Target, get_target
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.learning import RECIPE, channel_factors
from ocrslim.report.result import sha256_of, write_json
from ocrslim.report.run_log import progress_bar
from ocrslim.report.sensitivity import write_sensitivity
from ocrslim.slimming.quantization.calibration import calibrate_fully
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, prepare
from ocrslim.slimming.quantization.ranges import OUTPUT_ERROR
from ocrslim.slimming.quantization.sensitivity import (
    Divergence,
    decibel,
    measure_alone,
    measure_gains,
    site_weights,
    site_work,
)
from ocrslim.slimming.training.data import (
    TrainingData,
    calibration_batches,
    open_training_data,
    sensitivity_batches,
)
from ocrslim.slimming.training.distillation import compare

__all__ = ["PROGRESS", "Findings", "SensitivitySettings", "measure_site_gains", "measure_sites", "sensitivity"]

PROGRESS = "sensitivity.progress.json"


@dataclass(frozen=True)
class SensitivitySettings:
    """What to measure; every field has the meaning of the command line's option of that name.

    Args:
        target: see :func:`ocrslim.engines.targets.get_target`.
        out: folder for table, plot and progress; made if missing. ``None`` writes nothing.
        data: label file, folder of images or LMDB; ``None`` renders text.
        data_dir: what image paths in label files are relative to.
        profile: pre-processing; see :func:`ocrslim.config.profile.load_profile`.
        seed: of everything random.
        threads: of torch.
        images: to measure on; ``None`` is 48 lines or two pages.
        observer: of activation ranges; see :class:`ocrslim.compress.CompressSettings`.
        dictionary: file of a recogniser's characters, for one that comes without.
    """

    target: str
    out: Path | None = None
    data: Path | None = None
    data_dir: Path | None = None
    profile: str | None = None
    seed: int = 0
    threads: int = 2
    images: int | None = None
    observer: str = OUTPUT_ERROR
    dictionary: Path | None = None


@dataclass
class Findings:
    """What was measured so far.

    Args:
        alone: for each batch, node -> energies of signal and noise, divergence and share of changed decisions when that
            site alone is quantized.
        gains: for each batch, node -> divergence that is saved when that site alone is float.
    """

    alone: list[dict[str, list[float]]] = field(default_factory=list)
    gains: list[dict[str, float]] = field(default_factory=list)

    def count(self) -> int:
        """Return how many measurements there are."""
        return sum(map(len, self.alone)) + sum(map(len, self.gains))


def sensitivity(model: str | Path, settings: SensitivitySettings, console: Console | None = None) -> dict[str, Any]:
    """Measure every site of ``model`` for one target; write what ``settings.out`` asks for.

    Args:
        model: a zoo name, a model file or a folder; see :func:`ocrslim.graph.importers.source.open_model`.
        settings: see there.
        console: where progress is shown; a quiet one when ``None``.

    Returns:
        dict: what ``sensitivity.json`` holds; its ``sensitivity`` are the rows of :func:`measure_sites`.

    Raises:
        InputError: the model, the data or a setting cannot be used.
    """
    target = get_target(settings.target)  # a name that there is not is told before anything is fetched
    source = open_model(model, settings.dictionary)
    profile = load_profile(settings.profile, source.inference_yml)
    console = console or Console(quiet=True)
    if settings.out is None:
        return _run(source, target, profile, settings, None, console)
    with output_folder(settings.out) as partial:
        result = _run(source, target, profile, settings, settings.out / PROGRESS, console)
        write_json(partial / "sensitivity.json", result)
        write_sensitivity(partial, result)
    (settings.out / PROGRESS).unlink(missing_ok=True)
    return result


def measure_sites(
    task: Task, quantization: Quantization, teacher: GraphModule, batches: Sequence[Tensor], logits: str
) -> list[dict[str, Any]]:
    """Measure every site.

    Args:
        task: decides how answers are compared.
        quantization: calibrated.
        teacher: the float model.
        batches: of images ``[N, 3, H, W]``; all values that the graph makes of one are kept in memory. What a site does
            alone is measured on the first of them, what it gains as float, by which sites are chosen, on all.
        logits: name of the value to compare.

    Returns:
        list: of each site ``node`` and ``op``; ``sqnr_db`` of its output, ``divergence_alone`` and the share of
            decisions ``changed_alone`` when it alone is quantized; ``gain_if_float``, the divergence that is saved when
            it alone is float; and its shares of the ``work`` and of the ``weights``. The largest ``divergence_alone``
            comes first.
    """
    found = Findings()
    _measure(task, quantization, teacher, batches[:1], logits, found, lambda: None)
    if len(batches) > 1:
        others = measure_site_gains(task, quantization, teacher, batches[1:], logits)
        share = len(batches[0]) / sum(map(len, batches))
        found.gains[0] = {node: share * gain + (1 - share) * others[node] for node, gain in found.gains[0].items()}
    return _rows(quantization, batches[:1], found)


@torch.no_grad()
def measure_site_gains(
    task: Task, quantization: Quantization, teacher: GraphModule, batches: Sequence[Tensor], logits: str
) -> dict[str, float]:
    """Return for each site's node the divergence that is saved when it alone is float; arguments as above."""
    found = dict.fromkeys((site.node for site in quantization.placement.sites), 0.0)
    whole = sum(map(len, batches))
    for images in batches:
        taught = teacher(images, fetch=(logits,))[logits]
        for node, gain in measure_gains(quantization, teacher, images, taught, logits, _divergence(task)):
            found[node] += gain * len(images) / whole
    return found


def _run(
    source: ModelSource,
    target: Target,
    profile: Profile,
    settings: SensitivitySettings,
    progress: Path | None,
    console: Console,
) -> dict[str, Any]:
    """Prepare, calibrate, measure what is not yet measured, and gather what came of it."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    began = time.monotonic()
    data = open_training_data(source.task, settings.data, settings.data_dir, source.characters or (), settings.seed)
    graph = canonicalize(load_onnx(source.path))
    teacher = GraphModule(graph).eval()
    _say(console, f"{source.name} for {target.name}: calibrating")
    placement, calibration = place(graph, target), calibration_batches(data, profile, settings.seed)
    factors = channel_factors(source.task, target, teacher, placement, calibration)
    quantization = prepare(GraphModule(graph).eval(), placement, target, factors=factors)
    calibrate_fully(quantization, calibration, settings.observer, settings.seed)
    batches = sensitivity_batches(data, profile, settings.seed, settings.images)
    calibrated = time.monotonic()
    _say(console, f"calibrated in {calibrated - began:.1f} s")
    identity = _identity(source, profile, settings)
    found = Findings() if progress is None else _resumed(progress, identity, console)
    total = 2 * len(batches) * len(quantization.placement.sites)
    with progress_bar("sensitivity", console) as show:
        show(found.count(), total)

        def measured() -> None:
            if progress is not None:
                write_json(progress, {"identity": identity, **asdict(found)})
            show(found.count(), total)

        logits = distillation_points(graph).logits
        _measure(source.task, quantization, teacher, batches, logits, found, measured)
    seconds = {"calibrate": round(calibrated - began, 2), "measure": round(time.monotonic() - calibrated, 2)}
    together = _together(source.task, quantization, teacher, batches, logits)
    return _result(identity, source, settings, data, quantization, batches, found, together, seconds)


def _measure(
    task: Task,
    quantization: Quantization,
    teacher: GraphModule,
    batches: Sequence[Tensor],
    logits: str,
    found: Findings,
    measured: Callable[[], None],
) -> None:
    """Add to ``found`` what is missing in it; ``measured`` is called after each site."""
    divergence = _divergence(task)
    sites = len(quantization.placement.sites)
    for index, images in enumerate(batches):
        if index == len(found.alone):
            found.alone.append({})
            found.gains.append({})
        alone, gains = found.alone[index], found.gains[index]
        if len(alone) < sites:
            for row in measure_alone(quantization, teacher, images, logits, divergence, set(alone)):
                alone[row.node] = [row.signal, row.noise, row.divergence, row.changed]
                measured()
        if len(gains) < sites:
            with torch.no_grad():
                taught = teacher(images, fetch=(logits,))[logits]
            for node, gain in measure_gains(quantization, teacher, images, taught, logits, divergence, set(gains)):
                gains[node] = gain
                measured()


def _rows(quantization: Quantization, batches: Sequence[Tensor], found: Findings) -> list[dict[str, Any]]:
    """Put the batches together: energies add up, divergences are the mean of an image."""
    operators = {node.name: node.op_type for node in quantization.module.model.graph}
    work, weights = site_work(quantization, batches[0]), site_weights(quantization)
    shares = [len(images) / sum(map(len, batches)) for images in batches]

    def mean(figures: Sequence[float]) -> float:
        return sum(share * figure for share, figure in zip(shares, figures, strict=True))

    rows = []
    for site in quantization.placement.sites:
        signal, noise, divergence, changed = zip(*(alone[site.node] for alone in found.alone), strict=True)
        row = {
            "node": site.node,
            "op": operators[site.node],
            "sqnr_db": decibel(sum(signal), sum(noise)),
            "divergence_alone": mean(divergence),
            "changed_alone": mean(changed),
            "gain_if_float": mean([gains[site.node] for gains in found.gains]),
            "work": work[site.node],
            "weights": weights[site.node],
        }
        rows.append(row)
    return sorted(rows, key=lambda row: -row["divergence_alone"])


@torch.no_grad()
def _together(
    task: Task, quantization: Quantization, teacher: GraphModule, batches: Sequence[Tensor], logits: str
) -> dict[str, float]:
    """Return divergence and share of changed decisions when all sites are quantized."""
    answers = (quantization.module(images, fetch=(logits,))[logits] for images in batches)
    targets = (teacher(images, fetch=(logits,))[logits] for images in batches)
    divergence, agreed = compare(task, answers, targets)
    return {"divergence": divergence, "changed": 1.0 - agreed}


def _result(
    identity: Mapping[str, Any],
    source: ModelSource,
    settings: SensitivitySettings,
    data: TrainingData,
    quantization: Quantization,
    batches: Sequence[Tensor],
    found: Findings,
    together: Mapping[str, float],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    operators = {node.name: node.op_type for node in quantization.module.model.graph}
    float_nodes = quantization.placement.float_nodes
    return {
        "ocrslim": __version__,
        "model": {"name": source.name, "task": source.task, "sha256": source.sha256, "path": str(source.path)},
        "target": settings.target,
        "settings": _plain(settings),
        "data": {"sha256": identity["data"], "rendered": data.rendered, "n_images": sum(map(len, batches))},
        "together": together,
        "sensitivity": _rows(quantization, batches, found),
        "float": [{"node": node, "op": operators.get(node, ""), "reason": why} for node, why in float_nodes.items()],
        "skipped": [asdict(item) for item in data.left_out],
        "seconds": seconds,
    }


def _identity(source: ModelSource, profile: Profile, settings: SensitivitySettings) -> dict[str, Any]:
    """Return what the measurements depend on, as JSON's types: not the folder, and not the threads."""
    told: dict[str, Any] = _plain(settings) | {
        "ocrslim": __version__,
        "recipe": RECIPE,
        "torch": torch.__version__,
        "model": source.sha256,
        "data": None if settings.data is None else sha256_of(settings.data),
        "profile": _plain(profile),
    }
    return {key: value for key, value in told.items() if key not in ("out", "threads")}


def _plain(record: Any) -> dict[str, Any]:
    """Return a dataclass as JSON's types, paths as text."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(record), default=str))
    return told


def _resumed(path: Path, identity: Mapping[str, Any], console: Console) -> Findings:
    """Return what an interrupted run measured, if it measured the same."""
    if not path.exists():
        return Findings()
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        differs = [key for key in identity if held["identity"].get(key) != identity[key]]
        alone = [{node: [float(x) for x in row] for node, row in batch.items()} for batch in held["alone"]]
        gains = [{node: float(gain) for node, gain in batch.items()} for batch in held["gains"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        _say(console, f"{path}: cannot be read; everything is measured anew")
        return Findings()
    if differs:
        _say(console, f"{path}: is of a run with another {', another '.join(differs)}; everything is measured anew")
        return Findings()
    found = Findings(alone, gains)
    _say(console, f"going on: {found.count()} measurements are there")
    return found


def _say(console: Console, message: str) -> None:
    console.print(message, markup=False, highlight=False)


def _divergence(task: Task) -> Divergence:
    def divergence(answer: Tensor, target: Tensor) -> tuple[float, float]:
        far, agreed = compare(task, [answer], [target])
        return far, 1.0 - agreed

    return divergence
