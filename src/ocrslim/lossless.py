"""The recipe of ``ocrslim compress --float``: nothing is learned or rounded, the same weights run faster.

The model is written as its engine likes it, shown to answer as the original does, scored, and timed beside it. Where
that gains nothing, the original is the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from ocrslim import __version__
from ocrslim.atomic import output_folder
from ocrslim.config.profile import Profile, Task, load_profile
from ocrslim.delivery import REWRITTEN, Delivery, open_delivery
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.options import session_options
from ocrslim.engines.session import ENGINES, InferenceSession
from ocrslim.engines.timing import BenchRow, bench, timed_shape
from ocrslim.errors import InputError
from ocrslim.export.bundle import CARD, write_sidecars
from ocrslim.export.onnx_float import copy_model, export_float, with_shape
from ocrslim.export.verify import Verification, verify_det, verify_rec
from ocrslim.graph.importers.onnx import load_onnx, model_bytes
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.outcome import STALE, command, judge_held, open_eval, plain, refuse_own_folder
from ocrslim.report.html import try_report
from ocrslim.report.model_card import model_card
from ocrslim.report.result import interval_in_words, loss_in_words, sha256_of, write_json, write_text
from ocrslim.report.run_log import RunLog
from ocrslim.scoring import Judged, Pair, judge_by_labels
from ocrslim.slimming.training.data import TrainingData, open_training_data, validation_batches

__all__ = ["LosslessSettings", "rewrite"]

SAME = 0.999
"""Of frames, and intersection over union of masks: rounding in another order moves only what lies on a threshold."""

MIN_BENCH_SECONDS = 3.0
GAIN = 0.98  # share of the original's time that is worth another file


@dataclass(frozen=True)
class LosslessSettings:
    """What to do; every field has the meaning of the command line's option of that name.

    Args:
        target: the engine that the model shall be fast on, ``onnxruntime`` or ``openvino``.
        out: folder for the results; made if missing.
        data: images to compare the two models on; ``None`` renders text.
        eval: label file to judge by; ``None`` judges by the held-back part of ``data``.
        data_dir: what image paths in label files are relative to.
        profile: pre- and post-processing; see :func:`ocrslim.config.profile.load_profile`.
        seed: of everything random.
        threads: of scoring and timing.
        dictionary: file of a recogniser's characters, for one that comes without.
        shape: height and width of all images that the model will be given, one at a time; ``None`` leaves it open.
    """

    target: str
    out: Path
    data: Path | None = None
    eval: Path | None = None
    data_dir: Path | None = None
    profile: str | None = None
    seed: int = 0
    threads: int = 2
    dictionary: Path | None = None
    shape: tuple[int, int] | None = None


def rewrite(model: str | Path, settings: LosslessSettings, console: Console | None = None) -> dict[str, Any]:
    """Write ``model`` as its target runs it fastest, without any loss, and measure that.

    Args:
        model: a zoo name, an ONNX or Paddle file or a model folder.
        settings: see there.
        console: where progress is shown; a quiet one when ``None``.

    Returns:
        dict: what ``result.json`` holds.

    Raises:
        InputError: the model, the data or a setting cannot be used.
        VerifyError: the engine does not answer as for the original.
    """
    delivery = open_delivery(open_model(model, settings.dictionary), settings.target, settings.threads)
    refuse_own_folder(delivery.source, settings.out)
    if not delivery.may_keep_float:
        raise InputError(
            f"--float: for {' or '.join(ENGINES)}, not for {settings.target}: give one of them as --target"
        )
    if settings.eval is not None:
        open_eval(delivery.source.task, settings.eval, settings.data_dir)
    profile = load_profile(settings.profile, delivery.source.inference_yml)
    with output_folder(settings.out, STALE) as partial:
        log = RunLog(settings.out, console or Console(quiet=True))
        try:
            result = _run(delivery, profile, settings, partial, log)
        finally:
            log.close()
    try_report([settings.out], console)
    return result


def _run(
    delivery: Delivery, profile: Profile, settings: LosslessSettings, partial: Path, log: RunLog
) -> dict[str, Any]:
    source = delivery.source
    log.note(f"ocrslim {__version__}: --float {source.name} ({source.sha256}); {plain(settings)}")
    shape = timed_shape(source.task, settings.shape)
    exported = partial / "model.onnx"
    with log.stage("rewrite"):
        graph = canonicalize(load_onnx(source.path))
        written = export_float(graph, delivery.target, exported)
        log.say(f"{_nodes(load_onnx(source.path))} nodes before, {_nodes(written)} now")
    with log.stage("data"):
        data = open_training_data(source.task, settings.data, settings.data_dir, source.characters or (), settings.seed)
    original, rewritten = delivery.open_original(), delivery.open(exported)
    with log.stage("evaluate"):
        batches = [batch.numpy() for batch in validation_batches(data, profile, settings.seed)]
        verified = [_verify(source.task, original, rewritten, batches)]
        judged = _judge(Pair(source, original, rewritten, profile), data, settings, log)
    if settings.shape is not None:  # what the open one computes of the shape is constant there
        export_float(with_shape(graph, shape), delivery.target, exported)
        verified.append(_verify(source.task, original, delivery.open(exported), _of_size(batches, settings.shape)))
    with log.stage("bench"):
        models = [("float", source.path), (REWRITTEN, exported)]
        rows = bench(models, ENGINES, settings.threads, shape, min_seconds=MIN_BENCH_SECONDS)
    result = _result(delivery, settings, data, judged, verified, rows, exported, log)
    if result["delivered"] == "float":
        copy_model(source.path, exported)
    write_sidecars(partial, source.inference_yml, source.characters)
    write_text(partial / CARD, model_card(result, sha256_of(exported)))
    write_json(partial / "result.json", result)
    return result


def _nodes(model: Any) -> int:
    return sum(1 for _ in model.graph)


def _verify(
    task: Task, original: InferenceSession, rewritten: InferenceSession, batches: Iterable[NDArray[np.float32]]
) -> Verification:
    """Compare both files in the engine on held-back images.

    Raises:
        VerifyError: they answer otherwise.
    """
    verified = (verify_rec if task == "rec" else verify_det)(original.run, rewritten, batches, SAME)
    verified.check()
    return verified


def _of_size(batches: Iterable[NDArray[np.float32]], sizes: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """Yield the first image of each batch alone, stretched to height and width, ``[1, 3, H, W]``."""
    for batch in batches:
        image = cv2.resize(batch[0].transpose(1, 2, 0), sizes[::-1], interpolation=cv2.INTER_LINEAR)
        yield np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def _judge(pair: Pair, data: TrainingData, settings: LosslessSettings, log: RunLog) -> Judged:
    if settings.eval is None:
        return judge_held(pair, data, settings.data, log)
    samples, skipped = open_eval(pair.source.task, settings.eval, settings.data_dir)
    with log.bar("evaluate") as update:
        return judge_by_labels(pair, samples, skipped, f"the labels of {settings.eval}", update)


def _result(
    delivery: Delivery,
    settings: LosslessSettings,
    data: TrainingData,
    judged: Judged,
    verified: Sequence[Verification],
    rows: list[BenchRow],
    exported: Path,
    log: RunLog,
) -> dict[str, Any]:
    """Gather what ``result.json`` holds."""
    source, engine = delivery.source, delivery.target.engine
    ratio = next(row.ratio_on_engine for row in rows if (row.label, row.engine) == (REWRITTEN, engine))
    result: dict[str, Any] = {
        "ocrslim": __version__,
        "model": source.to_json(),
        "settings": plain(settings),
        "target": delivery.target.name,
        "engine": engine,
        "command": command(),
        "data": {
            "path": str(settings.data) if settings.data else None,
            **{"n_train": 0, "n_held": len(data.held), "n_eval": judged.n, "judged_by": judged.judged_by},
        },
        "metrics": {"float": {engine: judged.float_metrics}, REWRITTEN: {engine: judged.int8_metrics}},
        "drop": {engine: judged.drop},
        "differences": judged.differences,
        "latency": [row.to_json() for row in rows],
        "session": session_options(engine, settings.threads),
        "delivered": REWRITTEN if ratio < GAIN else "float",
        "size": {"float": model_bytes(source.path), REWRITTEN: exported.stat().st_size},
        "verify": [asdict(item) for item in verified],
        "stages": log.stages,
        "skipped": [asdict(item) for item in dict.fromkeys((*data.left_out, *judged.skipped))],
        "cpu": asdict(cpu_info()),
    }
    return result | {"verdict": _verdict(result, ratio)}


def _verdict(result: Mapping[str, Any], ratio: float) -> str:
    engine, drop = result["engine"], result["drop"][result["engine"]]
    cost = f"{loss_in_words(drop)} ({interval_in_words(drop)}, {drop['n']} images)"
    if result["delivered"] == "float":
        return f"the original is as fast: rewritten it takes {ratio:.2f} times the time on {engine}; {cost}"
    return f"float, rewritten: {ratio:.2f} times the time of the original on {engine}; {cost}"
