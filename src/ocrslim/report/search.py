"""``search.json`` as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

__all__ = ["search_table"]


def search_table(result: Mapping[str, Any]) -> Table:
    """Return the models of a search, the fastest first.

    Args:
        result: the content of ``search.json``; see :func:`ocrslim.searching.search`.
    """
    cpu = result["cpu"]
    shown = Table(
        title=f"{result['model']['name']} for {result['target']}: {result['speedup']:g} times as fast was asked",
        caption=f"{cpu['model']}; * nothing else is as fast and loses as little; < given",
    )
    for column in ("model", "times as fast", "points lost", "95 %", "budget", ""):
        shown.add_column(column, justify="left" if column in ("model", "budget", "") else "right", no_wrap=True)
    chosen, unchanged = result["chosen"], ("float", "1.00", "0.00", "", "", "")
    for item in sorted(result["found"], key=lambda item: float(item["time"])):
        budget = "kept" if item["kept"] else "missed"
        marks = f"{'*' if item['front'] else ''}{'<' if item['part'] == chosen else ''}"
        within = f"{item['low']:+.2f} to {item['high']:+.2f}"
        shown.add_row(item["part"], f"{1 / item['time']:.2f}", f"{item['points']:+.2f}", within, budget, marks)
    shown.add_row(*unchanged)
    return shown
