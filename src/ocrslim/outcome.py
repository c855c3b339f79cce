"""What came of a compression: how it is judged, and what ``result.json`` holds, everything told, done and measured."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ocrslim import __version__
from ocrslim.config.profile import Task
from ocrslim.delivery import INT8, Delivery
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.options import session_options
from ocrslim.engines.session import InferenceSession, open_session
from ocrslim.engines.timing import BenchRow
from ocrslim.errors import DataError, InputError
from ocrslim.export.bundle import CARD, SIDECARS
from ocrslim.export.paddle import PROGRAM
from ocrslim.following import Following
from ocrslim.graph.importers.source import ModelSource
from ocrslim.learning import RECIPE, verify_module
from ocrslim.ocr.labels import DetSample, RecSample, Skipped, read_samples
from ocrslim.report.html import NAME as REPORT
from ocrslim.report.result import budget_in_words, doubt_of_labels, over_budget, sha256_of, verdict
from ocrslim.report.run_log import RunLog
from ocrslim.report.sensitivity import SENSITIVITY
from ocrslim.scene import Climb, Scene
from ocrslim.scoring import Judged, Pair, judge_by_agreement, judge_by_labels
from ocrslim.slimming.example import origin_warning
from ocrslim.slimming.training.data import TrainingData

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = [
    "STALE",
    "build_result",
    "command",
    "data_fingerprint",
    "judge_held",
    "judge_last",
    "open_eval",
    "plain",
    "refuse_own_folder",
    "run_fingerprint",
    "verified",
]

STALE = (INT8, REPORT, CARD, *SIDECARS, *SENSITIVITY, "untrained.onnx", "inference.pdmodel", "inference.pdiparams")
"""Files of a run that another recipe's run in the same folder does not make, and must not leave beside its own."""


def refuse_own_folder(source: ModelSource, out: Path) -> None:
    """Refuse to write into the folder that the model came from: what a run writes has the same names.

    Args:
        source: the model.
        out: the output folder.

    Raises:
        InputError: it is the model's.
    """
    program = source.path if source.paddle is None else source.paddle.program
    if out.resolve() == program.resolve().parent:
        raise InputError(f"--out {out}: is the folder of the model itself, which would be written over; name another")


def open_eval(
    task: Task, path: Path, data_dir: Path | None
) -> tuple[Sequence[DetSample | RecSample], Sequence[Skipped]]:
    """Read the images that a run is scored on at its end. Called at its beginning too: a mistake costs no climb.

    Args:
        task: det or rec.
        path: of ``--eval``: a label file, or an LMDB.
        data_dir: what image paths in label files are relative to.

    Raises:
        DataError: it can't be read, is for the other task, or has no labels.
    """
    samples, skipped = read_samples(task, path, data_dir)
    if not any(sample.boxes if isinstance(sample, DetSample) else sample.text is not None for sample in samples):
        raise DataError(f"--eval {path}: holds no labels to score by; give a label file, or leave it out")
    return samples, skipped


def judge_held(pair: Pair, data: TrainingData, where: object, log: RunLog, most: int | None = None) -> Judged:
    """Score a model and the original on the held-back part of the data: by its labels, else by their agreement.

    Args:
        pair: the models.
        data: of the run.
        where: what the data is called.
        log: of the run.
        most: images; ``None`` is all.
    """
    if pair.rec_width == "dynamic":  # an engine would make kernels for every width that there is, for each candidate
        pair = replace(pair, rec_width="padded")
    with log.bar("judge") as update:
        if data.labelled and data.held_samples:
            words = f"the labels of the part of {where} held back from training"
            return judge_by_labels(pair, data.held_samples[:most], (), words, update)
        what = "rendered text" if data.rendered else f"images of {where}"
        words = f"agreement with the float model (no labels) on {what} held back from training"
        return judge_by_agreement(pair, data.held[:most], words, update)


def judge_last(
    pair: Callable[[InferenceSession], Pair],
    delivery: Delivery,
    exported: Path,
    climbed: Climb,
    settings: CompressSettings,
    log: RunLog,
    follow: Following | None,
) -> Judged:
    """Score float and int8 on the user's own images, which steered nothing, else say what the climb found.

    Args:
        pair: from the compressed model's session to it and the float model.
        delivery: of the model.
        exported: the ONNX file.
        climbed: how it was found.
        settings: of the run.
        log: of the run.
        follow: the file that the run follows.
    """
    judged = climbed.best.judged
    samples: Sequence[DetSample | RecSample] = ()
    if follow is not None and follow.data.eval:
        samples, skipped, words = follow.data.eval, follow.data.eval_skipped, follow.eval_words()
    elif follow is None and settings.eval is not None:
        samples, left_out = open_eval(delivery.source.task, settings.eval, settings.data_dir)
        skipped, words = tuple(left_out), f"the labels of {settings.eval}"
    if samples:
        with log.bar("evaluate") as update:
            judged = judge_by_labels(pair(delivery.open(exported)), samples, skipped, words, update)
    assert judged is not None  # the best is among those that were judged
    if follow is not None and (doubt := origin_warning(follow.config, judged.float_metrics)):
        log.say(doubt)
    return judged


def build_result(
    delivery: Delivery,
    scene: Scene,
    judged: Judged,
    climbed: Climb,
    rows: Sequence[BenchRow],
    exported: Path,
    data_sha256: str | None,
) -> dict[str, Any]:
    """Gather what ``result.json`` holds, but for the comparisons of :func:`verified`.

    Args:
        delivery: of the model.
        scene: of the climb.
        judged: the last word on the best candidate.
        climbed: how it was found.
        rows: of the latency.
        exported: the ONNX file; ``delivery.finish`` was called.
        data_sha256: see :func:`data_fingerprint`.
    """
    source, target, settings, data = delivery.source, delivery.target, scene.settings, scene.data
    training = climbed.best.training or next((item.training for item in climbed.tried[::-1] if item.training), None)
    sizes = delivery.sizes(exported)
    result: dict[str, Any] = {
        "ocrslim": __version__,
        "model": source.to_json(),
        "data": {
            "path": ", ".join(map(str, _paths(settings))) or None,
            "sha256": data_sha256,
            "n_train": len(data.train),
            "n_held": len(data.held),
            "n_eval": judged.n,
            "judged_by": judged.judged_by,
        },
        "settings": plain(settings) | {"example": str(settings.example.path) if settings.example else None},
        "target": target.name,
        "engine": target.engine,
        "timed_on": delivery.timed_on,
        "command": command(),
        "notes": list(delivery.notes),
        "metrics": {"float": {target.engine: judged.float_metrics}, "int8": {target.engine: judged.int8_metrics}},
        "drop": {target.engine: judged.drop},
        "latency": [row.to_json() for row in rows],
        "session": session_options(target.engine, settings.threads),
        "delivered": delivery.answer(rows),
        "size": sizes | {"ratio": sizes["int8"] / sizes["float"]},
        "placement": _placement(climbed, scene.graph),
        "differences": judged.differences,
        "budget": climbed.to_json(settings.max_drop),
        "sensitivity": climbed.sensitivity,
        "stages": scene.log.stages,
        "training": asdict(training) if training else None,
        "skipped": [asdict(item) for item in dict.fromkeys((*data.left_out, *judged.skipped))],
        "cpu": asdict(cpu_info()),
    }
    said = verdict(result, target.engine), budget_in_words(result["budget"]), over_budget(result), *delivery.notes
    result["verdict"] = "; ".join(filter(None, (*said, doubt_of_labels(result))))
    return result


def verified(delivery: Delivery, scene: Scene, climbed: Climb) -> list[dict[str, Any]]:
    """Return how the file agrees with its module: in the engine, and in the mode whose clock counts if that is another.

    Args:
        delivery: ``finish`` was called.
        scene: of the climb.
        climbed: its best candidate is the file.
    """
    best, found = climbed.best, [asdict(climbed.best.verified)]
    if delivery.timed_on != delivery.target.engine:
        session = open_session(scene.folder / PROGRAM, delivery.timed_on, delivery.threads)
        module = best.quantization.module
        again = verify_module(scene.source.task, module, session, scene.validation, delivery.required)
        found.append(asdict(again) | {"engine": delivery.timed_on})
    return found


def _placement(climbed: Climb, graph: ir.Model) -> dict[str, Any]:
    """Return what is int8 and what is float, why, what the clock said, and whether what it wanted in int8 is."""
    quantization, placed = climbed.best.quantization, climbed.placed
    placement = quantization.placement
    operators = {node.name: node.op_type for node in graph.graph}
    sites = {site.node for site in placement.sites}
    measured = placed and {
        "ratio": placed.ratio,
        "fast": sorted(placed.fast),
        "slow": sorted(placed.slow),
        "outputs": placed.outputs,
        "used": bool(placed.fast & sites) or (placed.outputs and quantization.target.quantize_outputs),
        "trials": [asdict(trial) for trial in placed.trials],
    }
    return {
        "quantized": [{"node": site.node, "reason": site.reason} for site in placement.sites],
        "float": [
            {"node": node, "op": operators.get(node, ""), "reason": reason}
            for node, reason in placement.float_nodes.items()
        ],
        "measured": measured,
    }


def command() -> str | None:
    """Return the command line that started this process, as a shell takes it; ``None`` where it was none of ours."""
    program = Path(sys.argv[0])
    ours = program.stem == "ocrslim" or (program.name == "__main__.py" and program.parent.name == "ocrslim")
    return shlex.join(["ocrslim", *sys.argv[1:]]) if ours else None


def data_fingerprint(settings: CompressSettings) -> str | None:
    """Return the hash of the data that a run learns from; ``None`` for rendered text."""
    hashes = [sha256_of(path) for path in _paths(settings)]
    return (
        None if not hashes else hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    )


def _paths(settings: CompressSettings) -> tuple[Path, ...]:
    """Return the label files or folders that a run learns from."""
    if settings.example is not None and settings.example.train is not None:
        return settings.example.train.label_files or (settings.example.train.data_dir,)
    return (settings.data,) if settings.data else ()


def run_fingerprint(source: ModelSource, settings: CompressSettings, data_sha256: str | None) -> str:
    """Return what the training depends on, as JSON: the model, the data and the settings, not the output folder."""
    free = dict.fromkeys(("out", "eval", "max_drop", "max_minutes", "reference"))
    data = plain(settings) | free | {"model": source.sha256, "data_sha256": data_sha256, "recipe": RECIPE}
    return json.dumps(data, sort_keys=True)


def plain(settings: Any) -> dict[str, Any]:
    """Return a recipe's settings, a dataclass, as JSON's types, paths as text."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    return told
