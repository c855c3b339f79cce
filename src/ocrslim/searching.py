"""The recipe of ``ocrslim compress --speedup S``: int8 first; channels away where int8 alone is not fast enough.

Each part is a run of its own in a folder of its own, with its own checkpoints, so that an interrupted search goes on
where it was: a part that is done is not done again. What is fastest within the budget is given.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ocrslim.atomic import replacing
from ocrslim.compress import CompressSettings, compress
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import SHAPES, bench
from ocrslim.errors import InputError
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.outcome import plain
from ocrslim.pruned import PruneSettings, prune_and_distil
from ocrslim.report.html import NAME as REPORT
from ocrslim.report.html import write_report
from ocrslim.report.result import write_json
from ocrslim.scene import pareto_front
from ocrslim.slimming.quantization.measured import MEASURED

__all__ = ["PARTS", "SEARCH", "Found", "search"]

SEARCH = "search.json"
PARTS = ("int8", "pruned", "pruned-int8")  # folders, in the order that they are made
SPARE = 1.03  # of the speedup that is asked of pruning: int8 gains a little less on narrower layers
MIN_BENCH_SECONDS = 3.0


@dataclass(frozen=True)
class Found:
    """One model of a search.

    Args:
        part: ``float`` or one of :data:`PARTS`.
        time: of a run, to that of the float model in the same engine.
        points: lost against that model, on the user's own images where there are some.
        low: end of its 95 % interval.
        high: the other.
        held: points lost on what was held back, by which is chosen; ``None`` for the pruned float model, a step only.
        kept: the budget holds there.
        front: nothing else is as fast and loses as little.
    """

    part: str
    time: float
    points: float
    low: float
    high: float
    held: float | None
    kept: bool
    front: bool = False


def search(
    model: str | Path, settings: CompressSettings, speedup: float, console: Console | None = None
) -> dict[str, Any]:
    """Make ``model`` so much faster than its float self, within the budget, by as many means as it takes.

    1. int8, as :func:`ocrslim.compress.compress` does it.
    2. Where that is not fast enough, channels are cut until both together should be, and the rest is trained.
    3. What is left is made int8; its loss is counted from the model that came in.
    4. All are timed in turns. Given is the fastest that keeps the budget; the others stay in their folders.

    Args:
        model: a zoo name, an ONNX file or a model folder.
        settings: of the runs; ``out`` gets the model that is given, ``search.json``, and a folder for each part.
        speedup: times as fast as the float model on the target's engine.
        console: where progress is shown; a quiet one when ``None``.

    Returns:
        dict: what ``search.json`` holds.

    Raises:
        InputError: the model, the data or a setting cannot be used.
        VerifyError: an engine does not compute what a model was made to compute.
    """
    if settings.target not in MEASURED:
        raise InputError(f"--speedup: for {' or '.join(sorted(MEASURED))}, whose clock is here; not {settings.target}")
    if speedup <= 1.0:
        raise InputError(f"--speedup {speedup:g} is no gain; give a number above 1")
    source, out = open_model(model, settings.dictionary), settings.out
    _begin(source, settings, speedup)
    whole = _int8(model, replace(settings, out=out / PARTS[0]), console)
    parts = [PARTS[0]]
    rows = _time(source, settings, parts)
    if 1.0 / rows[PARTS[0]] < speedup:
        wanted = SPARE * speedup * rows[PARTS[0]]
        pruned = out / PARTS[1]
        if not (pruned / "result.json").is_file():
            prune_and_distil(model, _pruning(settings, pruned, wanted), console)
        _int8(pruned, replace(settings, out=out / PARTS[2], reference=source.path, dictionary=None), console)
        parts = list(PARTS)
        rows = _time(source, settings, parts)
    found = _found(out, rows)
    chosen = _choose(found, speedup)
    result = {
        "model": {"name": source.name, "task": source.task, "sha256": source.sha256},
        "target": settings.target,
        "speedup": speedup,
        "reached": chosen.kept and 1.0 / chosen.time >= speedup,
        "chosen": chosen.part,
        "found": [asdict(item) for item in found],
        "cpu": whole["cpu"],
        "verdict": _verdict(chosen, speedup, settings.max_drop),
    }
    _give(out, chosen, [part for part in parts if part != PARTS[1]])
    write_json(out / SEARCH, result)
    return result


def _begin(source: ModelSource, settings: CompressSettings, speedup: float) -> None:
    """Note what is asked, and refuse a folder in which something else was begun.

    Raises:
        InputError: it was, or the folder can't be written.
    """
    asked = plain(settings) | {"out": None, "speedup": speedup, "model": source.sha256}
    path = settings.out / "asked.json"
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            other = sorted(name for name in {*asked, *before} if asked.get(name) != before.get(name))
            if other:
                told = f"{other[0]} was {before.get(other[0])!r}, is {asked.get(other[0])!r}"
                raise InputError(f"--out {settings.out}: holds another search ({told}); name another folder")
        write_json(path, asked)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"--out {settings.out}: can't be used ({error}); name another folder") from error


def _int8(model: str | Path, settings: CompressSettings, console: Console | None) -> dict[str, Any]:
    """Compress, unless that is done; return the result."""
    done = settings.out / "result.json"
    if done.is_file():
        told: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return told
    return compress(model, settings, console)


def _pruning(settings: CompressSettings, out: Path, speedup: float) -> PruneSettings:
    names = ("target", "data", "eval", "data_dir", "profile", "seed", "threads", "distillation", "steps")
    return PruneSettings(out=out, speedup=max(speedup, 1.01), **{name: getattr(settings, name) for name in names})


def _time(source: ModelSource, settings: CompressSettings, parts: Sequence[str]) -> dict[str, float]:
    """Return what each model takes to what the float one that came in takes, all in turns."""
    models = [("float", source.path), *((part, _file(settings.out / part)) for part in parts)]
    engine = get_target(settings.target).engine
    shape = (1, 3, *SHAPES[source.task])
    rows = bench(models, [engine], settings.threads, shape, min_seconds=MIN_BENCH_SECONDS)
    return {row.label: row.ratio_on_engine for row in rows if row.label != "float"}


def _file(folder: Path) -> Path:
    """Return the int8 model of a run, also where float was the answer, or the pruned one."""
    beside = folder / "int8.onnx"
    return beside if beside.is_file() else folder / "model.onnx"


def _found(out: Path, rows: dict[str, float]) -> list[Found]:
    """Return the models with their losses, the front marked."""
    found = []
    for part, time in rows.items():
        result = json.loads((out / part / "result.json").read_text(encoding="utf-8"))
        if part == PARTS[1]:
            drop, held, kept = result["drop"]["pruned"], None, False
        else:
            drop, budget = result["drop"][result["engine"]], result["budget"]
            held, kept = budget["drop"]["points"], budget["kept"]
        found.append(Found(part, time, drop["points"], drop["low"], drop["high"], held, kept))
    front = pareto_front([(item.time, item.points) for item in found])
    return [replace(item, front=index in front) for index, item in enumerate(found)]


def _choose(found: Sequence[Found], speedup: float) -> Found:
    """Return the fastest that keeps the budget; where none does, the one that loses least of those fast enough."""
    judged = [item for item in found if item.held is not None]
    kept = [item for item in judged if item.kept]
    if kept:
        return min(kept, key=lambda item: item.time)
    fast = [item for item in judged if 1.0 / item.time >= speedup]
    return min(fast or judged, key=lambda item: item.held or 0.0)


def _verdict(chosen: Found, speedup: float, max_drop: float) -> str:
    lost = f"{chosen.points:.2f} points lost" if chosen.points >= 0 else f"{-chosen.points:.2f} points gained"
    told = f"{chosen.part}: {1 / chosen.time:.2f} times as fast as float, {lost}"
    asked = f"{speedup:g} times within {max_drop:g} points"
    if not chosen.kept:
        return f"{told}; {asked} was asked: nothing that was tried keeps the budget"
    if 1.0 / chosen.time < speedup:
        return f"{told}; {asked} was asked and not reached"
    return f"{told}; {asked} was asked"


def _give(out: Path, chosen: Found, runs: Sequence[str]) -> None:
    """Copy the files of the chosen part into the folder, and write the page that compares the runs."""
    for path in sorted((out / chosen.part).iterdir()):
        if path.is_file() and path.name not in ("log.txt", REPORT, "asked.json"):
            with replacing(out / path.name) as partial:
                shutil.copyfile(path, partial)
    write_report([out / part for part in runs], out / REPORT)
