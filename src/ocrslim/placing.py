"""Where a run puts int8: what the target's policy says, mended by the clock of this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from ocrslim.atomic import read_object, write_bytes
from ocrslim.config.profile import Task
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.probe import random_batch
from ocrslim.engines.targets import Target
from ocrslim.engines.timing import time_ratios, time_rounds, timed_shape
from ocrslim.errors import InputError
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.importers.zoo import cache_folder
from ocrslim.graph.inspect import node_macs
from ocrslim.learning import CHECKPOINTS, may_learn
from ocrslim.scene import FLOAT_REASON, Candidate, Scene
from ocrslim.slimming.quantization.measured import (
    MEASURED,
    Measured,
    Trial,
    conditions,
    fingerprint,
    measure_placement,
    recall,
    remember,
)
from ocrslim.slimming.quantization.placement import Placement, place

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = ["DECIDED", "TABLE", "fastest", "is_faster", "measured", "place_sites", "small_sites", "time_candidates"]

TIMED = 30  # rounds
BUSY = 0.1  # cores that others may use while we time
WORTH = 0.02  # share of the time that a faster placement has to save, or it is worth no loss and no judging

TABLE = "placement.json"
"""Of what was timed, in the folder of the fetched models: by processor, engine, version, threads, shape and model."""

DECIDED = f"{CHECKPOINTS}/decided.json"
"""What the clock decided for a run that learns, in its output folder: it goes on with that on any machine."""

SLOW_REASON = "faster in float here, by the clock"

LARGEST = 0.5  # of the multiplications of all sites, that the largest ones have to hold
SMALL_REASON = "not among the largest, which alone were asked for"


def measured(scene: Scene) -> Scene:
    """Ask the clock where int8 pays, or the table of what it said before; the scene stays where it isn't to be asked.

    Raises:
        EngineError: the engine can't run the model.
    """
    settings, log = scene.settings, scene.log
    wanted = settings.placement or ("measured" if scene.effort.measure else "policy")
    if wanted != "measured" or settings.example is not None or scene.target.name not in MEASURED:
        if settings.placement == "measured":
            log.say(f"--placement measured: without effect, {scene.target.name} is not timed here")
        return scene
    key = _question(scene, sorted(scene.keep_float))
    if (before := _as_measured(read_object(settings.out / DECIDED).get(key))) is not None:
        log.say("int8 goes where this run decided before")
        return replace(scene, measured=before)
    with log.stage("measure placement"), log.bar("measure placement") as update:
        shape, load = _shape(scene), OtherLoad()
        asked = scene.graph, scene.target, shape, settings.threads, export_qdq
        found = measure_placement(*asked, scene.keep_float, cache_folder() / TABLE, update, _small(scene))
    _decide(settings, key, asdict(found))
    if (load.cores() or 0.0) > BUSY:
        log.say(f"the machine was busy while placements were timed; to time them again delete {cache_folder() / TABLE}")
    for trial in found.trials:
        told = f"{len(trial.nodes)} {trial.group} to {'int8' if trial.int8 else 'float'}: {100 * trial.saved:+.1f} %"
        log.note(f"{told} of the time saved, {'done' if trial.kept else 'not done'}")
    outputs = ", outputs of sites too" if found.outputs else ""
    log.say(
        f"fastest on {scene.target.engine} here: {len(found.fast)} more sites in int8{outputs}, {len(found.slow)} fewer"
        f" than usual, {found.ratio:.2f} of the usual placement's time"
    )
    return replace(scene, measured=found)


def _small(scene: Scene) -> frozenset[str]:
    """Return the sites beside the largest; none where sizes can't be told."""
    try:
        return small_sites(scene.graph, scene.target, scene.source.task, scene.keep_float)
    except InputError:
        return frozenset()


def _question(scene: Scene, *about: Any) -> str:
    """Name what is asked of the clock by all that a run keeps when it goes on elsewhere."""
    run = [scene.target.name, _shape(scene), scene.settings.threads, fingerprint(scene.graph), *about]
    return hashlib.sha256(json.dumps(run).encode()).hexdigest()


def _decide(settings: CompressSettings, key: str, answer: Any) -> None:
    """Note an answer; where that can't be written a run that goes on asks the table, or the clock, again."""
    path = settings.out / DECIDED
    if may_learn(settings):  # else there is nothing to go on with
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            write_bytes(path, json.dumps(read_object(path) | {key: answer}, default=sorted).encode())


def _as_measured(told: Any) -> Measured | None:
    """Return what was written of a :class:`Measured`; ``None`` where it is none."""
    try:
        sets = {name: frozenset(map(str, told[name])) for name in ("slow", "fast", "slow_alone")}
        trials = tuple(Trial(**{**trial, "nodes": tuple(trial["nodes"])}) for trial in told["trials"])
        return Measured(**sets, ratio=float(told["ratio"]), trials=trials, outputs=bool(told.get("outputs")))
    except (TypeError, KeyError, ValueError):
        return None


def time_candidates(scene: Scene, tried: Collection[Candidate], counted: Path) -> None:
    """Time what was judged, in turns beside the float model, so that loss can be held against time.

    What has the same sites takes the same time: one file of each placement is timed.

    Args:
        scene: of the climb.
        tried: whose ``time`` is set.
        counted: file of the float model.
    """
    judged = [item for item in tried if item.judged is not None and item.verified.passed]
    if scene.target.name not in MEASURED or not judged:
        return
    kinds: dict[tuple[str, ...], list[Candidate]] = {}
    for item in judged:
        made = item.quantization
        outputs = str(made.target.quantize_outputs)
        key = (*(site.node for site in made.placement.sites), outputs, *made.factors)
        kinds.setdefault(key, []).append(item)
    with scene.log.stage("time candidates"):
        ratios = _ratios(scene, counted, [items[0].path for items in kinds.values()])
    for items, ratio in zip(kinds.values(), ratios, strict=True):
        for item in items:
            item.time = ratio


def _ratios(scene: Scene, first: Path, others: Sequence[Path]) -> list[float]:
    """Return what files take to what the first takes, in turns in the scene's engine."""
    batch = random_batch(_shape(scene))
    times = time_rounds([scene.open(path) for path in (first, *others)], batch, TIMED)
    return [ratio.value for ratio in time_ratios(times)]


def _shape(scene: Scene) -> tuple[int, int, int, int]:
    return timed_shape(scene.source.task, scene.settings.shape, scene.settings.batch)


def is_faster(scene: Scene, candidate: Candidate, usual: Candidate) -> bool:
    """Tell whether a candidate takes less time than the usual placement's, with its real grids; the table remembers.

    What was timed to choose the placement had one scale for all channels of an activation.
    """
    about = conditions(scene.graph, scene.target, _shape(scene), scene.settings.threads)
    sites = [
        [[site.node for site in item.quantization.placement.sites], sorted(item.quantization.factors)]
        for item in (candidate, usual)
    ]
    asked = [sites, "outputs"] if scene.measured.outputs else [sites]
    key = hashlib.sha256(json.dumps([about, *asked, "candidates"]).encode()).hexdigest()
    table, question = cache_folder() / TABLE, _question(scene, *asked)
    known = recall(scene.settings.out / DECIDED).get(question) or recall(table).get(key)
    if known is None:
        with scene.log.stage("time the faster placement"):
            known = [*_ratios(scene, usual.path, [candidate.path]), 0.0]
        remember(table, {key: known})
    _decide(scene.settings, question, known)
    scene.log.say(f"{candidate.rung}: {known[0]:.2f} of the time of {usual.rung}")
    return known[0] < 1.0 - WORTH


def fastest(scene: Scene) -> Scene:
    """Return the scene of the placement that the clock found fastest."""
    outputs = scene.measured.outputs or scene.target.quantize_outputs
    return replace(scene, fast=True, target=replace(scene.target, quantize_outputs=outputs))


def place_sites(scene: Scene, kept: Collection[str] = ()) -> Placement:
    """Return the scene's placement.

    Args:
        scene: its ``fast`` says whether the optional nodes that the clock wants in int8 are sites.
        kept: nodes that the climb made float because they cost too much.
    """
    slow = scene.measured.slow if scene.fast else scene.measured.slow_alone
    also = scene.measured.fast if scene.fast else ()
    placement = place(scene.graph, scene.target, {*scene.keep_float, *slow, *kept, *scene.small}, also)
    reasons = dict(placement.float_nodes) | dict.fromkeys(scene.small, SMALL_REASON)
    reasons |= dict.fromkeys(slow - {*scene.keep_float}, SLOW_REASON) | dict.fromkeys(kept, FLOAT_REASON)
    return replace(placement, float_nodes=reasons)


def small_sites(graph: ir.Model, target: Target, task: Task, keep_float: Collection[str] = ()) -> frozenset[str]:
    """Return the sites of the policy beside the largest: where few are int8, none reads what another one has rounded.

    A chain of int8 convolutions passes on what each rounds, and grows it: with all 19 sites PP-OCRv4 mobile det took
    .58 of the time of float in ONNX Runtime and was .0078 away from it, with the two largest .65 and .0007.

    Args:
        graph: canonical.
        target: that will run it.
        task: whose usual image the multiplications are counted for.
        keep_float: nodes that must stay float.

    Raises:
        InputError: sizes can't be inferred.
    """
    sites = [site.node for site in place(graph, target, keep_float).sites]
    macs = node_macs(graph, timed_shape(task))
    if macs is None:
        raise InputError("--placement largest: the sizes of the model's values can't be told; take --placement policy")
    total, held, largest = sum(macs[name] for name in sites), 0, set[str]()
    for name in sorted(sites, key=lambda name: -macs[name]):
        if held >= LARGEST * total:
            break
        largest.add(name)
        held += macs[name]
    return frozenset(sites) - largest
