"""The recipe of ``ocrslim compress --speedup S``: int8 first; channels away where int8 alone is not fast enough.

Each part is a run of its own in a folder of its own, with its own checkpoints, so that an interrupted search goes on
where it was: a part that is done is not done again. Channels are cut in rounds: where a round keeps the budget and is
not fast enough, the next one cuts more. What is fastest within the budget is given.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ocrslim import __version__
from ocrslim.atomic import held_folder, replacing
from ocrslim.compress import CompressSettings, compress
from ocrslim.delivery import REWRITTEN
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import bench, timed_shape
from ocrslim.errors import EngineError, InputError, ModelError, VerifyError
from ocrslim.graph.importers.source import ModelSource, open_model
from ocrslim.learning import RECIPE
from ocrslim.outcome import STALE, plain, refuse_own_folder
from ocrslim.pruned import PruneSettings, prune_and_distil
from ocrslim.relearning import STEPS
from ocrslim.report.front import pareto_front
from ocrslim.report.html import NAME as REPORT
from ocrslim.report.html import try_report
from ocrslim.report.result import sha256_of, write_json
from ocrslim.slimming.quantization.measured import MEASURED

__all__ = ["INT8", "ROUNDS", "SEARCH", "Found", "parts_of", "search"]

SEARCH, ASKED, WANTED = "search.json", "asked.json", "wanted.json"
NOT_GIVEN = ("log.txt", REPORT)  # of a part
INT8 = "int8"  # folder of the whole model's
ROUNDS = 3  # of cutting channels, half an hour each
SPARE = 1.03  # of the speedup that is asked of pruning: int8 gains a little less on narrower layers
SHARE_OF_STEPS = {"quick": 0.25, "normal": 1.0, "max": 2.0}  # by effort, of a pruning's usual number
MIN_BENCH_SECONDS = 3.0


@dataclass(frozen=True)
class Found:
    """One model of a search.

    Args:
        part: its folder.
        time: of a run, to that of the float model in the same engine.
        points: lost against that model, on the user's own images where there are some.
        low: end of its 95 % interval.
        high: the other.
        held: points lost on what was held back, by which is chosen.
        kept: the budget holds there.
        front: nothing else is as fast and loses as little.
    """

    part: str
    time: float
    points: float
    low: float
    high: float
    held: float
    kept: bool
    front: bool = False


def search(
    model: str | Path, settings: CompressSettings, speedup: float, console: Console | None = None
) -> dict[str, Any]:
    """Make ``model`` so much faster than its float self, within the budget, by as many means as it takes.

    1. int8, as :func:`ocrslim.compress.compress` does it.
    2. Where that is not fast enough, channels are cut until both together should be, and the rest is trained.
    3. What is left is made int8; its loss is counted from the model that came in.
    4. Both again with fewer channels, at most :data:`ROUNDS` times, where the budget holds and the time does not.
    5. All are timed in turns. Given is the fastest that keeps the budget; the others stay in their folders.

    Args:
        model: a zoo name, an ONNX file or a model folder.
        settings: of the runs; ``out`` gets the model that is given, ``search.json``, and a folder for each part.
        speedup: times as fast as the float model on the target's engine.
        console: where progress is shown; a quiet one when ``None``.

    Returns:
        dict: what ``search.json`` holds.

    Raises:
        InputError: the model, the data or a setting cannot be used.
        VerifyError: an engine does not compute what the whole model's int8 was made to compute. Where a later part
            fails, what is done is chosen from, and ``failed`` says why.
    """
    if settings.ptq_only:
        raise InputError("--speedup: what channels leave behind has to be trained; leave out --ptq-only")
    if settings.target not in MEASURED:
        raise InputError(f"--speedup: for {' or '.join(sorted(MEASURED))}, whose clock is here; not {settings.target}")
    if not 1.0 < speedup < math.inf:
        raise InputError(f"--speedup {speedup:g} is no gain; give a number above 1")
    source = open_model(model, settings.dictionary)
    refuse_own_folder(source, settings.out)
    with held_folder(settings.out):
        return _search(model, source, settings, speedup, console)


def _search(
    model: str | Path, source: ModelSource, settings: CompressSettings, speedup: float, console: Console | None
) -> dict[str, Any]:
    began, out = time.monotonic(), settings.out
    _begin(source, settings, speedup)
    whole = _int8(model, replace(settings, out=out / INT8), console)
    parts, failed = [INT8], None
    times = _time(source, settings, parts)
    found = _found(out, times, settings.max_drop)
    for number in range(ROUNDS):
        if not _may_go_on(settings, began, parts, parts_of(number)[0]):
            break
        wanted = _wanted(out, number, speedup, found)
        if wanted <= 1.0:
            break
        try:
            is_whole = _round(model, source, settings, began, parts, parts_of(number), wanted, console)
        except (EngineError, ModelError, VerifyError) as error:  # of this round's models: those before it are there
            is_whole, failed = False, str(error)
        times = _time(source, settings, parts)
        found = _found(out, times, settings.max_drop)
        if not is_whole:
            break
    chosen = _choose(found, speedup)
    verdict = _verdict(chosen, speedup, settings.max_drop)
    if failed is not None:
        verdict += f"; what came next failed: {failed}"
    result = {
        "model": {"name": source.name, "task": source.task, "sha256": source.sha256},
        "target": settings.target,
        "speedup": speedup,
        "reached": chosen.kept and 1.0 / chosen.time >= speedup,
        "chosen": chosen.part,
        "found": [asdict(item) for item in found],
        "cpu": whole["cpu"],
        "failed": failed,
        "verdict": verdict,
    }
    result["given"] = _give(out, chosen)
    write_json(out / SEARCH, result)
    try_report([out / part for part in parts], console, out / REPORT, [times[part] for part in parts])
    return result


def _round(
    model: str | Path,
    source: ModelSource,
    settings: CompressSettings,
    began: float,
    parts: list[str],
    names: tuple[str, str],
    wanted: float,
    console: Console | None,
) -> bool:
    """Cut channels and make int8 of what is left; add what is done to ``parts``, and return whether there was time."""
    narrow, narrow_int8 = names
    if not _is_done(settings.out / narrow):
        prune_and_distil(model, _pruning(source, settings, settings.out / narrow, wanted), console)
    parts.append(narrow)
    if not _may_go_on(settings, began, parts, narrow_int8):
        return False
    small = replace(settings, out=settings.out / narrow_int8, reference=Path(model))
    _int8(settings.out / narrow, replace(small, max_minutes=_minutes_left(settings, began, parts)), console)
    parts.append(narrow_int8)
    return True


def parts_of(number: int) -> tuple[str, str]:
    """Return the folders of a round, counted from 0: of the pruned float model, and of that in int8.

    >>> parts_of(0), parts_of(1)
    (('pruned', 'pruned-int8'), ('pruned-2', 'pruned-2-int8'))
    """
    narrow = "pruned" if number == 0 else f"pruned-{number + 1}"
    return narrow, f"{narrow}-int8"


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
        begun = (settings.out / INT8).is_dir() or any((settings.out / parts_of(at)[0]).is_dir() for at in range(ROUNDS))
        before = json.loads(path.read_text(encoding="utf-8")) if begun and path.is_file() else asked
        other = sorted(name for name in {*asked, *before} if asked.get(name) != before.get(name))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"--out {settings.out}: can't be used ({error}); name another folder") from error
    if other:
        told = f"{other[0]} was {before.get(other[0])!r}, is {asked.get(other[0])!r}"
        raise InputError(f"--out {settings.out}: holds another search ({told}); name another folder")
    if not begun:
        (settings.out / WANTED).unlink(missing_ok=True)  # of a search whose folders are gone
    write_json(path, asked)


def _wanted(out: Path, number: int, speedup: float, found: Sequence[Found]) -> float:
    """Return how much faster a round has to make the float model, 1 for no round.

    Decided once: an interrupted pruning would not go on where the clock says otherwise the next day.

    Args:
        out: folder of the search.
        number: of the round, from 0.
        speedup: that was asked.
        found: the models so far; what the round before has made is last.
    """
    path = out / WANTED
    decided: list[float] = json.loads(path.read_text(encoding="utf-8"))["speedups"] if path.is_file() else []
    if number < len(decided):
        return decided[number]
    wanted, last = 1.0, found[-1]
    if not any(item.kept and 1.0 / item.time >= speedup for item in found):
        if number == 0 and 1.0 / last.time < speedup:
            # Of what int8 gained a part is the rewritten graph's, which a pruned float model has as well.
            wanted = max(1.01, SPARE * speedup * last.time / _rewritten(_result(out / INT8)))
        elif number > 0 and last.kept and _reached(out / parts_of(number - 1)[0]):
            wanted = SPARE * speedup * last.time * decided[-1]
    write_json(path, {"speedups": [*decided, wanted]})
    return wanted


def _rewritten(result: Mapping[str, Any]) -> float:
    """Return what the float model takes as its engine likes it written, to what the one that came in takes."""
    rows = (row for row in result["latency"] if (row["label"], row["engine"]) == (REWRITTEN, result["engine"]))
    return min(1.0, next((float(row["ratio_on_engine"]) for row in rows), 1.0))


def _reached(pruned: Path) -> bool:
    """Tell whether a pruning came as far as was asked; else there is nothing more to cut."""
    return bool(_result(pruned)["pruning"]["reached"])


def _result(part: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((part / "result.json").read_text(encoding="utf-8"))
    return told


def _minutes_left(settings: CompressSettings, began: float, parts: Sequence[str]) -> float | None:
    """Return what is left of ``max_minutes``, which are of all parts, those of an earlier start among them."""
    if settings.max_minutes is None:
        return None
    stages = (stage for part in parts for stage in _result(settings.out / part)["stages"])
    spent = max(time.monotonic() - began, sum(stage["seconds"] for stage in stages))
    return float(settings.max_minutes - spent / 60)


def _may_go_on(settings: CompressSettings, began: float, parts: Sequence[str], part: str) -> bool:
    """Tell whether the next part is done, or there is time for it."""
    left = _minutes_left(settings, began, parts)
    return left is None or left > 0 or _is_done(settings.out / part)


def _is_done(part: Path) -> bool:
    return (part / "result.json").is_file()


def _int8(model: str | Path, settings: CompressSettings, console: Console | None) -> dict[str, Any]:
    """Compress, unless that is done; return the result."""
    if _is_done(settings.out):
        return _result(settings.out)
    return compress(model, settings, console)


def _pruning(source: ModelSource, settings: CompressSettings, out: Path, speedup: float) -> PruneSettings:
    names: tuple[str, ...] = ("target", "data", "eval", "data_dir", "profile", "seed", "steps", "threads")
    names += ("distillation", "dictionary", "compute", "shape", "batch")
    given = {name: getattr(settings, name) for name in names}
    if settings.learning_rate is not None:
        given["learning_rate"] = settings.learning_rate
    share = SHARE_OF_STEPS[settings.effort]
    if settings.steps is None and share != 1.0:
        given["steps"] = settings.compute.steps(round(share * STEPS[source.task]))
    return PruneSettings(out=out, speedup=speedup, **given)


def _time(source: ModelSource, settings: CompressSettings, parts: Sequence[str]) -> dict[str, float]:
    """Return what each model takes to what the float one that came in takes, all in turns."""
    models = [("float", source.path), *((part, settings.out / part / "model.onnx") for part in parts)]
    engine = get_target(settings.target).engine
    shape = timed_shape(source.task, settings.shape, settings.batch)
    rows = bench(models, [engine], settings.threads, shape, min_seconds=MIN_BENCH_SECONDS)
    return {row.label: row.ratio_on_engine for row in rows if row.label != "float"}


def _found(out: Path, rows: dict[str, float], max_drop: float) -> list[Found]:
    """Return the models with their losses, the front marked.

    Where int8 was no faster, a run gives a float model: it loses nothing, or what the pruned one lost that it is from.
    """
    found = []
    for part, took in rows.items():
        result = _result(out / part)
        drop, whole = result["drop"][result["engine"]], part == INT8
        if result["delivered"] == "pruned":
            held = result["held"]["points"]
        elif result["delivered"] == "int8":
            held = result["budget"]["drop"]["points"]
        elif whole:
            drop, held = {"points": 0.0, "low": 0.0, "high": 0.0}, 0.0
        elif result["delivered"] == "float":
            continue  # the pruned one itself
        else:
            pruned = _result(out / part.removesuffix(f"-{INT8}"))
            drop, held = pruned["drop"][pruned["engine"]], pruned["held"]["points"]
        found.append(Found(part, took, drop["points"], drop["low"], drop["high"], held, held <= max_drop))
    front = pareto_front([(item.time, item.points) for item in found])
    return [replace(item, front=index in front) for index, item in enumerate(found)]


def _choose(found: Sequence[Found], speedup: float) -> Found:
    """Return the fastest that keeps the budget; where none does, the one that loses least of those fast enough."""
    kept = [item for item in found if item.kept]
    if kept:
        return min(kept, key=lambda item: item.time)
    fast = [item for item in found if 1.0 / item.time >= speedup]
    return min(fast or found, key=lambda item: item.held)


def _verdict(chosen: Found, speedup: float, max_drop: float) -> str:
    lost = f"{chosen.points:.2f} points lost" if chosen.points >= 0 else f"{-chosen.points:.2f} points gained"
    told = f"{chosen.part}: {1 / chosen.time:.2f} times as fast as float, {lost}"
    asked = f"{speedup:g} times within {max_drop:g} points"
    if not chosen.kept:
        return f"{told}; {asked} was asked: nothing that was tried keeps the budget"
    if 1.0 / chosen.time < speedup:
        return f"{told}; {asked} was asked and not reached"
    return f"{told}; {asked} was asked"


def _give(out: Path, chosen: Found) -> list[str]:
    """Put the files of the chosen part into the folder in the place of an earlier choice's, and return their names.

    Files that no run of ours has written stay.
    """
    files = [path for path in sorted((out / chosen.part).iterdir()) if path.is_file() and path.name not in NOT_GIVEN]
    names = [path.name for path in files]
    stale = STALE if (out / "result.json").is_file() else ()  # else no run of ours has written here
    for name in sorted({*stale, *_given_before(out)} - set(names)):
        (out / name).unlink(missing_ok=True)
    for path in sorted(files, key=lambda path: path.name == "result.json"):
        with replacing(out / path.name) as partial:
            shutil.copyfile(path, partial)
    return names


def _given_before(out: Path) -> set[str]:
    """Return the files that an earlier choice has put into the folder, as its ``search.json`` says."""
    try:
        told = json.loads((out / SEARCH).read_text(encoding="utf-8"))["given"]
        return {name for name in told if isinstance(name, str) and Path(name).name == name}
    except (OSError, ValueError, LookupError, TypeError):
        return set()
