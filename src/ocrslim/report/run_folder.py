"""The folder that a run wrote, read back: what is damaged is told of before a report is made of half of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrslim.errors import InputError
from ocrslim.report.result import made_of

__all__ = ["RESULT", "Run", "read_run"]

RESULT = "result.json"
MOST_BYTES = 64 << 20  # of result.json: a run's is some 20 kB
NUMBER = (int, float)
LARGEST = 1e15  # no figure of a run is so large, and a picture of it could not be drawn
ANY_NAME = "*"

# What a report reads: a type, several types, a list of one element, or names -> the same; "?" ends the name of what may
# be missing or null. What is not named here is shown only if it is what is expected.
_DROP = {"metric": str, "points": NUMBER, "low": NUMBER, "high": NUMBER, "n": int, "against?": str}
_TAUGHT = {"lines": int, "held": int, "points": NUMBER, "folded": NUMBER}
_TEXTS = {"node": str, "reason": str, "op?": str}
SHAPE: dict[str, Any] = {
    "ocrslim": str,
    "model": {"name": str, "task": str, "sha256": str, "licence?": str},
    "data": {"path?": str, "n_train": int, "n_held": int, "n_eval": int, "judged_by": str},
    "settings": {},
    "target": str,
    "engine": str,
    "timed_on?": str,
    "notes?": [str],
    "command?": str,
    "drop": {ANY_NAME: _DROP},
    "latency": [
        {
            **{"label": str, "engine": str, "median_ms": NUMBER, "p10": NUMBER, "p90": NUMBER},
            **{"ratio_on_engine": NUMBER, "runs": int, "threads": int, "shape": [int], "cpu": str},
            **{"versions": {ANY_NAME: str}, "peak_rss_mb?": NUMBER, "other_load?": NUMBER},
        }
    ],
    "session?": {ANY_NAME: (str, int)},
    "delivered": str,
    "verify": [{"kind": str, "value": NUMBER, "required": NUMBER, "passed": bool, "n": int}],
    "stages": [{"name": str, "seconds": NUMBER, "peak_rss_mb?": NUMBER}],
    "training?": {"steps": int, "best_step": int, "seconds": NUMBER, "history": [{ANY_NAME: NUMBER}]},
    "differences?": {"n": int, "worse": int, "better": int, "shown": [{"image?": str}]},
    "skipped": [],
    "cpu": {"model": str, "cores": int, "flags": [str], "has_vnni": bool},
    "verdict": str,
}
OF_INT8: dict[str, Any] = {
    "placement": {
        **{"quantized": [_TEXTS], "float": [_TEXTS]},
        "measured?": {
            **{"ratio": NUMBER, "used": bool, "outputs?": bool, "fast": [str], "slow": [str]},
            "trials": [{"group": str, "nodes": [str], "int8": bool, "saved": NUMBER, "kept": bool}],
        },
    },
    "budget": {
        **{"max_drop": NUMBER, "kept": bool, "sure": bool, "judged_by": str, "drop": _DROP, "images_to_tell?": int},
        **{"best?": int, "taught?": _TAUGHT},
        "rungs": [
            {
                **{"rung": str, "divergence": NUMBER, "drop?": _DROP, "changed?": int, "float_sites": int},
                **{"agrees": NUMBER, "time?": NUMBER, "front?": bool},
            }
        ],
    },
    "sensitivity": [
        {
            **{"node": str, "op": str, "sqnr_db": NUMBER, "divergence_alone": NUMBER, "changed_alone": NUMBER},
            **{"gain_if_float": NUMBER, "work": NUMBER, "weights?": NUMBER},
        }
    ],
}
OF_PRUNED: dict[str, Any] = {
    "pruning": {
        **{"ratio": NUMBER, "reached": bool, "untrained": _DROP},
        "groups": [{"name": str, "before": int, "after": int, "reason": str}],
    },
    "taught?": _TAUGHT,
    "held?": _DROP,
}
OF_KIND: dict[str, dict[str, Any]] = {"int8": OF_INT8, "rewritten": {}, "pruned": OF_PRUNED}
COMMANDS = {"int8": "ocrslim compress", "rewritten": "ocrslim compress --float", "pruned": "ocrslim prune"}
TASKS = ("det", "rec")
DELIVERED = {"int8": ("int8", "float", "rewritten"), "rewritten": ("rewritten", "float"), "pruned": ("pruned",)}


@dataclass(frozen=True)
class Run:
    """What a run left.

    Args:
        folder: where its files lie.
        result: the content of ``result.json``.
        time: of a run of the model that was made, to that of float, where several were timed in turns; ``None`` leaves
            it to the result, whose figures are of its own moment.
    """

    folder: Path
    result: dict[str, Any]
    time: float | None = None


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Args:
        folder: that ``ocrslim compress`` or ``ocrslim prune`` wrote; or its ``result.json``.

    Raises:
        InputError: there is no ``result.json``, or it is not what these commands write.
    """
    path = folder if folder.name == RESULT and folder.is_file() else folder / RESULT
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a folder that `ocrslim compress` or `prune` wrote")
    mend = "run the command again with this --out, or name another folder"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: over {MOST_BYTES >> 20} MiB, a run's result is far smaller; {mend}")
        result = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged, JSON was expected ({error}); {mend}") from error
    kind = made_of(result) if isinstance(result, dict) else "int8"
    models = {"metrics": {"float": {ANY_NAME: {}}, kind: {ANY_NAME: {}}}, "size": {"float": int, kind: int}}
    wrong = _wrong(result, SHAPE | models | OF_KIND[kind], "") or _wrong_names(result, kind)
    if wrong:
        raise InputError(f"{path}: not what `{COMMANDS[kind]}` writes: {wrong}; {mend}")
    return Run(path.parent, result)


def _wrong(value: Any, shape: Any, where: str) -> str:
    """Return what is not as expected, in words; nothing if all is."""
    if isinstance(shape, Mapping):
        return _wrong_object(value, shape, where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        found = (_wrong(item, shape[0], f"{where}[{index}]") for index, item in enumerate(value) if shape)
        return next((words for words in found if words), "")
    if shape is not bool and isinstance(value, bool):
        return f"{where} is true or false"
    names = " or ".join(kind.__name__ for kind in (shape if isinstance(shape, tuple) else (shape,)))
    if not isinstance(value, shape):
        return f"{where} is {type(value).__name__}, {names} was expected"
    return f"{where} is {value:.3g}" if isinstance(value, NUMBER) and abs(value) > LARGEST else ""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _wrong_object(value: Any, shape: Mapping[str, Any], where: str) -> str:
    if not isinstance(value, Mapping):
        return f"{where or 'it'} is {type(value).__name__}, an object was expected"
    for key, inner in shape.items():
        name, optional, _ = key.partition("?")
        place = f"{where}.{name}" if where else name
        if name == ANY_NAME:
            words = next((words for key, item in value.items() if (words := _wrong(item, inner, f"{where}.{key}"))), "")
        elif value.get(name) is None:
            words = "" if optional else f"{place} is missing"
        else:
            words = _wrong(value[name], inner, place)
        if words:
            return words
    return ""


def _wrong_names(result: Mapping[str, Any], kind: str) -> str:
    """Return what names something that is not there."""
    if result["model"]["task"] not in TASKS:
        return f"model.task is {result['model']['task']}, {' or '.join(TASKS)} was expected"
    if result["delivered"] not in DELIVERED[kind]:
        return f"delivered is {result['delivered']}, {' or '.join(DELIVERED[kind])} was expected"
    engine, metrics = result["engine"], result["metrics"]
    for name, found in (("drop", result["drop"]), ("float", metrics["float"]), (kind, metrics[kind])):
        if engine not in found:
            return f"{name} says nothing of {engine}"
    return ""
