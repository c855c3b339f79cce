"""``result.json``: everything that a run measured, written once and whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocrslim.atomic import write_bytes

__all__ = [
    "budget_in_words",
    "chosen_index",
    "chosen_rung",
    "doubt_of_labels",
    "interval_in_words",
    "loss_in_words",
    "made_of",
    "over_budget",
    "sha256_of",
    "title_of",
    "verdict",
    "write_json",
    "write_text",
]

FEW_TO_DOUBT, NEXT_TO_NOTHING = 20, 0.05  # images; score of a float model that says that something is wrong
FLOAT_KINDS = ("rewritten", "pruned")  # of what is made without rounding


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    What of a file's name is not UTF-8 is written as an escape, which JSON knows too.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write ``data`` as indented JSON, atomically. Floats that JSON lacks (NaN) are refused with a ValueError."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of its files' relative names, sizes and first megabyte."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(item for item in path.rglob("*") if item.is_file()):
            digest.update(os.fsencode(file.relative_to(path)) + f":{file.stat().st_size}".encode())
            with file.open("rb") as opened:
                digest.update(opened.read(1 << 20))
        return digest.hexdigest()
    with path.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def made_of(result: Mapping[str, Any]) -> str:
    """Return what a run made beside the float model: ``int8``, ``rewritten`` (``--float``) or ``pruned``.

    Args:
        result: the content of ``result.json``; of another file too, of which it is said to be ``int8``.
    """
    metrics = result.get("metrics")
    return next((kind for kind in FLOAT_KINDS if isinstance(metrics, Mapping) and kind in metrics), "int8")


def title_of(result: Mapping[str, Any]) -> str:
    """Return a model's name, and that it was pruned before it was made int8 where losses are counted from another.

    Args:
        result: the content of ``result.json``.
    """
    name = str(result["model"]["name"])
    return f"{name}, pruned" if result["settings"].get("reference") else name


def chosen_index(result: Mapping[str, Any]) -> int | None:
    """Return which candidate was taken, the one whose loss the budget was held against; ``None`` where none was.

    Args:
        result: the content of ``result.json``; an older version's does not name it.
    """
    budget = result.get("budget") or {}
    rungs, best = budget.get("rungs") or (), budget.get("best")
    if isinstance(best, int) and 0 <= best < len(rungs):
        return best
    return next((at for at, rung in enumerate(rungs) if rung.get("drop") and rung["drop"] == budget["drop"]), None)


def chosen_rung(result: Mapping[str, Any]) -> str | None:
    """Return the name of the candidate that was taken, see :func:`chosen_index`.

    Args:
        result: the content of ``result.json``.
    """
    index = chosen_index(result)
    return None if index is None else str(result["budget"]["rungs"][index]["rung"])


def verdict(result: Mapping[str, Any], engine: str) -> str:
    """Say in one sentence whether int8 is worth it on ``engine``.

    Args:
        result: the content of ``result.json``, with ``drop``, ``latency`` and ``size``; ``timed_on`` is the engine
            that was timed, where not ``engine``.
        engine: the target's.
    """
    timed = result.get("timed_on", engine)
    ratio = next(
        row["ratio_on_engine"] for row in result["latency"] if row["engine"] == timed and row["label"] == "int8"
    )
    drop = result["drop"][engine]
    cost = (
        f"{loss_in_words(drop)} (95 % interval {interval_in_words(drop)}, {drop['n']} images),"
        f" {ratio:.2f} times the time of float on {timed}, {result['size']['ratio']:.2f} times the size"
    )
    taught = result.get("budget", {}).get("taught")
    if result.get("delivered") == "rewritten" and taught:
        gained = f"{taught['points']:+.2f} points on {taught['held']} held-back images"
        return (
            f"float is better here: rewritten, with the last layer that labels taught ({gained}), it takes less time on"
            f" {timed} than int8 does; int8: {cost}"
        )
    if result.get("delivered") == "rewritten":
        return f"float is better here: rewritten without loss it takes less time on {timed} than int8 does; {cost}"
    if ratio >= 1.0:
        return f"float is better here: int8 gains no time on {timed}; {cost}"
    return f"int8: {cost}"


def budget_in_words(budget: Mapping[str, Any]) -> str:
    """Say whether a rung held the budget, and how many images would tell where these are too few.

    Args:
        budget: ``budget`` of ``result.json``.
    """
    drop, asked = budget["drop"], budget["max_drop"]
    found = f"{loss_in_words(drop)} ({interval_in_words(drop)}, {drop['n']} images)"
    if drop.get("against", "labels") != "labels" and not budget["kept"]:
        said = f"without labels nobody can tell a budget of {asked:g} points: {found} is the nearest to float"
        return f"{said} of what was tried"
    if budget["kept"]:
        said = f"the budget of {asked:g} points held on what was held back: {found}"
    else:
        said = f"NOT within the budget of {asked:g} points on what was held back: {found} is the best of what was tried"
    if budget["sure"] or drop["low"] > asked or not budget["images_to_tell"]:
        return said
    return f"{said}; too few to be sure, some {budget['images_to_tell']:,} images would tell"


def over_budget(result: Mapping[str, Any]) -> str:
    """Say that the images of ``--eval`` lose more than was allowed, where they do and the held-back part did not.

    Args:
        result: the content of ``result.json``, with ``budget`` and ``drop``.
    """
    drop, budget = result["drop"][result["engine"]], result.get("budget")
    if not budget or not result["settings"].get("eval") or result.get("delivered", "int8") != "int8":
        return ""
    if drop["points"] <= budget["max_drop"] or not budget["kept"]:
        return ""
    return (
        f"NOT within the budget of {budget['max_drop']:g} points on --eval: {drop['points']:.2f} lost there"
        f" ({interval_in_words(drop)}, {drop['n']} images)"
    )


def doubt_of_labels(result: Mapping[str, Any]) -> str:
    """Say that the float model itself gets next to nothing right, where that is so: no loss can be seen then.

    Args:
        result: the content of ``result.json``, with ``metrics`` and ``drop``.
    """
    drop, found = result["drop"][result["engine"]], result["metrics"]["float"][result["engine"]]
    score = found.get(drop["metric"], found.get("accuracy", 1.0))
    if drop.get("against", "labels") != "labels" or drop["n"] < FEW_TO_DOUBT or score >= NEXT_TO_NOTHING:
        return ""
    said = (
        f"float itself scores {score:.4f} on these labels, so that the loss says nothing: are they right for this model"
    )
    if drop["metric"] == "hmean":
        return f"{said}, and --profile the right one?"
    return (
        f"{said}, in its alphabet and reading order (right to left is not turned round), and is --dict the right one?"
    )


def loss_in_words(drop: Mapping[str, Any]) -> str:
    """Say what was lost. Without labels it is no loss of accuracy: a different answer can be the better one.

    Args:
        drop: ``metric``, ``points`` and, where it is not the labels, ``against`` what was judged.
    """
    if _is_gain(drop):
        return f"{-drop['points']:.2f} points of {drop['metric']} gained"
    if drop.get("against", "labels") == "labels":
        return f"{drop['points']:.2f} points of {drop['metric']} lost"
    if drop["metric"] == "accuracy":
        return f"no labels: {drop['points']:.2f} % of the lines read otherwise than float reads them"
    return f"no labels: {drop['points']:.2f} points of hmean away from the boxes that float finds"


def interval_in_words(drop: Mapping[str, Any]) -> str:
    """Return the interval of what :func:`loss_in_words` says: of the gain where it is one.

    >>> interval_in_words({"points": -1.0, "low": -2.5, "high": 0.5})
    '-0.50 to +2.50'
    """
    low, high = (-drop["high"], -drop["low"]) if _is_gain(drop) else (drop["low"], drop["high"])
    return f"{low:+.2f} to {high:+.2f}"


def _is_gain(drop: Mapping[str, Any]) -> bool:
    return bool(drop.get("against", "labels") == "labels" and drop["points"] < 0)
