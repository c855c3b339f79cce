"""What ``ocrslim prune`` did, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ocrslim.report.result import interval_in_words, loss_in_words

__all__ = ["pruning_table", "pruning_verdict"]


def pruning_table(result: Mapping[str, Any]) -> RenderableType:
    """Return a table of the groups, with what was gained and lost under it.

    Args:
        result: the content of ``result.json``; see :func:`ocrslim.pruned.prune_and_distil`.
    """
    rows = result["pruning"]["groups"]
    table = Table("channels made by", "before", "after", "why no fewer", title=result["model"]["name"], box=None)
    for row in rows:
        table.add_row(escape(row["name"]), str(row["before"]), str(row["after"]), row["reason"])
    lines = (_gain(result), _loss(result, "untrained"), _loss(result, "pruned"))
    return Group(table, *map(Text, lines))


def pruning_verdict(result: Mapping[str, Any]) -> str:
    """Say in one sentence what became of the model on its target's engine.

    Args:
        result: as in :func:`pruning_table`.
    """
    engine, drop, size = result["engine"], result["drop"][result["engine"]], result["size"]
    found = ((row["label"], row["engine"], row["ratio_on_engine"]) for row in result["latency"])
    ratio = next(ratio for label, where, ratio in found if (label, where) == ("pruned", engine))
    return (
        f"pruned, still float: {loss_in_words(drop)} (95 % interval {interval_in_words(drop)}, {drop['n']} images),"
        f" {ratio:.2f} times the time of float on {engine}, {size['pruned'] / size['float']:.2f} times the size"
        f"{_missed(result)}"
    )


def _gain(result: Mapping[str, Any]) -> str:
    times = [
        f"{row['ratio_on_engine']:.2f} times the time of float on {row['engine']}"
        for row in result["latency"]
        if row["label"] == "pruned"
    ]
    size = result["size"]["pruned"] / result["size"]["float"]
    return f"{', '.join(times)}; {size:.2f} times the size{_missed(result)}"


def _missed(result: Mapping[str, Any]) -> str:
    return "" if result["pruning"]["reached"] else "; the goal was not reached, no further channel pays"


def _loss(result: Mapping[str, Any], which: str) -> str:
    drop = result["pruning"]["untrained"] if which == "untrained" else result["drop"][result["engine"]]
    when = "before training" if which == "untrained" else f"after {result['training']['best_step']} steps"
    if which != "untrained" and (taught := result.get("taught")):
        when += f", and labels of {taught['lines']} lines for the last layer"
    return f"{when}: {loss_in_words(drop)} ({interval_in_words(drop)})"
