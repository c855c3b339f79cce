"""Where a run puts int8: what the target's policy says, mended by the clock of this machine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ocrslim.engines.probe import random_batch
from ocrslim.engines.timing import SHAPES, time_rounds
from ocrslim.export.onnx_qdq import export_qdq
from ocrslim.graph.importers.zoo import cache_folder
from ocrslim.scene import FLOAT_REASON, Candidate, Scene
from ocrslim.slimming.quantization.measured import MEASURED, measure_placement
from ocrslim.slimming.quantization.placement import Placement, place

__all__ = ["TABLE", "measured", "place_sites", "time_candidates"]

TIMED = 30  # rounds

TABLE = "placement.json"
"""Of what was timed, in the folder of the fetched models: by processor, engine, version, threads, shape and model."""

SLOW_REASON = "faster in float here, by the clock"


def measured(scene: Scene) -> Scene:
    """Ask the clock where int8 pays, or the table of what it said before; the scene stays where it isn't to be asked.

    Raises:
        EngineError: the engine can't run the model.
    """
    settings, log = scene.settings, scene.log
    wanted = settings.placement or ("measured" if scene.effort.measure else "policy")
    if wanted == "policy" or settings.example is not None or scene.target.name not in MEASURED:
        return scene
    with log.stage("measure placement"), log.bar("measure placement") as update:
        shape = (1, 3, *SHAPES[scene.source.task])
        table = cache_folder() / TABLE
        found = measure_placement(
            scene.graph, scene.target, shape, settings.threads, export_qdq, scene.keep_float, table, update
        )
    for trial in found.trials:
        told = f"{len(trial.nodes)} {trial.group} to {'int8' if trial.int8 else 'float'}: {100 * trial.saved:+.1f} %"
        log.note(f"{told} of the time saved, {'done' if trial.kept else 'not done'}")
    log.say(
        f"fastest on {scene.target.engine} here: {len(found.fast)} more sites in int8, {len(found.slow)} fewer than"
        f" usual, {found.ratio:.2f} of the usual placement's time"
    )
    return replace(scene, measured=found)


def time_candidates(scene: Scene, tried: Collection[Candidate]) -> None:
    """Time what was judged, in turns beside the float model, so that loss can be held against time.

    What has the same sites takes the same time: one file of each placement is timed.
    """
    judged = [item for item in tried if item.judged is not None and item.verified.passed]
    if scene.target.name not in MEASURED or not judged:
        return
    kinds: dict[tuple[str, ...], list[Candidate]] = {}
    for item in judged:
        key = (*(site.node for site in item.quantization.placement.sites), "", *item.quantization.factors)
        kinds.setdefault(key, []).append(item)
    batch = random_batch((1, 3, *SHAPES[scene.source.task]))
    with scene.log.stage("time candidates"):
        sessions = [scene.original, *(scene.open(items[0].path) for items in kinds.values())]
        times = time_rounds(sessions, batch, TIMED)
    ratios = np.median(times[:, 1:] / times[:, :1], axis=0)
    for items, ratio in zip(kinds.values(), ratios, strict=True):
        for item in items:
            item.time = float(ratio)


def place_sites(scene: Scene, kept: Collection[str] = ()) -> Placement:
    """Return the scene's placement.

    Args:
        scene: its ``fast`` says whether the optional nodes that the clock wants in int8 are sites.
        kept: nodes that the climb made float because they cost too much.
    """
    slow = scene.measured.slow
    also = scene.measured.fast if scene.fast else ()
    placement = place(scene.graph, scene.target, {*scene.keep_float, *slow, *kept}, also)
    reasons = dict(placement.float_nodes)
    reasons |= dict.fromkeys(slow - {*scene.keep_float}, SLOW_REASON) | dict.fromkeys(kept, FLOAT_REASON)
    return replace(placement, float_nodes=reasons)
