"""The recipe of ``ocrslim compress --speedup S``: int8 first; channels away where int8 alone is not fast enough.

Each part is a run of its own in a folder of its own, with its own checkpoints, so that an interrupted search goes on
where it was: a part that is done is not done again. What is fastest within the budget is given.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ocrslim import __version__
from ocrslim.atomic import held_folder, replacing
from ocrslim.compress import CompressSettings, compress
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import SHAPES, bench
from ocrslim.errors import InputError
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.learning import RECIPE
from ocrslim.outcome import plain
from ocrslim.pruned import PruneSettings, prune_and_distil
from ocrslim.report.html import NAME as REPORT
from ocrslim.report.html import try_report
from ocrslim.report.result import sha256_of, write_json
from ocrslim.scene import pareto_front
from ocrslim.slimming.quantization.measured import MEASURED

__all__ = ["PARTS", "SEARCH", "Found", "search"]

SEARCH, ASKED = "search.json", "asked.json"
NOT_GIVEN = ("log.txt", REPORT)  # of a part
PARTS = ("int8", "pruned", "pruned-int8")  # folders, in the order that they are made
SPARE = 1.03  # of the speedup that is asked of pruning: int8 gains a little less on narrower layers
MIN_BENCH_SECONDS = 3.0


@dataclass(frozen=True)
class Found:
    """One model of a search.

    Args:
        part: one of :data:`PARTS`.
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
    if settings.ptq_only:
        raise InputError("--speedup: what channels leave behind has to be trained; leave out --ptq-only")
    if settings.target not in MEASURED:
        raise InputError(f"--speedup: for {' or '.join(sorted(MEASURED))}, whose clock is here; not {settings.target}")
    if not 1.0 < speedup < math.inf:
        raise InputError(f"--speedup {speedup:g} is no gain; give a number above 1")
    source = open_model(model, settings.dictionary)
    with held_folder(settings.out):
        return _search(model, source, settings, speedup, console)


def _search(
    model: str | Path, source: ModelSource, settings: CompressSettings, speedup: float, console: Console | None
) -> dict[str, Any]:
    began, out = time.monotonic(), settings.out
    _begin(source, settings, speedup)
    whole = _int8(model, replace(settings, out=out / PARTS[0]), console)
    parts = [PARTS[0]]
    rows = _time(source, settings, parts)
    wanted = _wanted(out, speedup, rows[PARTS[0]])
    if wanted > 1.0 and _has_time(settings, began, whole):
        pruned = out / PARTS[1]
        if not (pruned / "result.json").is_file():
            prune_and_distil(model, _pruning(settings, pruned, wanted), console)
        small = replace(settings, out=out / PARTS[2], reference=source.path, dictionary=None)
        _int8(pruned, small, console)
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
    _give(out, chosen, result)
    try_report([out / part for part in parts], console, out / REPORT)
    return result


def _begin(source: ModelSource, settings: CompressSettings, speedup: float) -> None:
    """Note what is asked, and refuse a folder in which something else was begun.

    Raises:
        InputError: it was, or the folder can't be written.
    """
    asked = plain(settings) | {"out": None, "max_minutes": None, "speedup": speedup, "model": source.sha256}
    asked |= {"ocrslim": __version__, "recipe": RECIPE}
    if settings.data is not None and settings.data.is_file():
        asked["data_sha256"] = sha256_of(settings.data)
    path = settings.out / ASKED
    try:
        begun = any((settings.out / part).is_dir() for part in PARTS)
        before = json.loads(path.read_text(encoding="utf-8")) if begun and path.is_file() else asked
        other = sorted(name for name in {*asked, *before} if asked.get(name) != before.get(name))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"--out {settings.out}: can't be used ({error}); name another folder") from error
    if other:
        told = f"{other[0]} was {before.get(other[0])!r}, is {asked.get(other[0])!r}"
        raise InputError(f"--out {settings.out}: holds another search ({told}); name another folder")
    write_json(path, asked)


def _wanted(out: Path, speedup: float, time_of_int8: float) -> float:
    """Return what pruning has to make of it, 1 for nothing; decided once, or an interrupted pruning would not go on."""
    path = out / "wanted.json"
    if path.is_file():
        return float(json.loads(path.read_text(encoding="utf-8"))["speedup"])
    wanted = max(1.01, SPARE * speedup * time_of_int8) if 1.0 / time_of_int8 < speedup else 1.0
    write_json(path, {"speedup": wanted})
    return wanted


def _has_time(settings: CompressSettings, began: float, whole: dict[str, Any]) -> bool:
    """Tell whether another part may begin: ``max_minutes`` are of all parts, those of an earlier start among them."""
    if settings.max_minutes is None:
        return True
    spent = max(time.monotonic() - began, sum(stage["seconds"] for stage in whole["stages"]))
    return float(spent) < 60 * settings.max_minutes


def _int8(model: str | Path, settings: CompressSettings, console: Console | None) -> dict[str, Any]:
    """Compress, unless that is done; return the result."""
    done = settings.out / "result.json"
    if done.is_file():
        told: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        return told
    return compress(model, settings, console)


def _pruning(settings: CompressSettings, out: Path, speedup: float) -> PruneSettings:
    names: tuple[str, ...] = ("target", "data", "eval", "data_dir", "profile", "seed", "threads")
    names += ("distillation", "dictionary", "compute")
    return PruneSettings(out=out, speedup=speedup, **{name: getattr(settings, name) for name in names})


def _time(source: ModelSource, settings: CompressSettings, parts: Sequence[str]) -> dict[str, float]:
    """Return what each model takes to what the float one that came in takes, all in turns."""
    models = [("float", source.path), *((part, settings.out / part / "model.onnx") for part in parts)]
    engine = get_target(settings.target).engine
    shape = (1, 3, *SHAPES[source.task])
    rows = bench(models, [engine], settings.threads, shape, min_seconds=MIN_BENCH_SECONDS)
    return {row.label: row.ratio_on_engine for row in rows if row.label != "float"}


def _found(out: Path, rows: dict[str, float]) -> list[Found]:
    """Return the models with their losses, the front marked.

    Where int8 was no faster, a run gives a float model: the first run's loses nothing, and the pruned one is there.
    """
    found = []
    for part, took in rows.items():
        result = json.loads((out / part / "result.json").read_text(encoding="utf-8"))
        if part == PARTS[1]:
            drop, held, kept = result["drop"][result["engine"]], None, False
        elif result["delivered"] != "int8":
            if part == PARTS[2]:
                continue
            drop, held, kept = {"points": 0.0, "low": 0.0, "high": 0.0}, 0.0, True
        else:
            drop, budget = result["drop"][result["engine"]], result["budget"]
            held, kept = budget["drop"]["points"], budget["kept"]
        found.append(Found(part, took, drop["points"], drop["low"], drop["high"], held, kept))
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


def _give(out: Path, chosen: Found, result: dict[str, Any]) -> None:
    """Put the files of the chosen part into the folder in the place of an earlier choice's, what says so last."""
    files = [path for path in sorted((out / chosen.part).iterdir()) if path.is_file() and path.name not in NOT_GIVEN]
    stay = {ASKED, "wanted.json", *(path.name for path in files)}
    for path in out.iterdir():
        if path.is_file() and path.name not in stay and not path.name.startswith("."):  # such is the lock
            path.unlink()
    for path in sorted(files, key=lambda path: path.name == "result.json"):
        with replacing(out / path.name) as partial:
            shutil.copyfile(path, partial)
    write_json(out / SEARCH, result)
