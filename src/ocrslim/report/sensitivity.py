"""Which sites cost the accuracy, as a plot and as a table in a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ocrslim.report.bars import Bar, bar_chart
from ocrslim.report.result import write_text

__all__ = [
    "COLUMNS",
    "DIVERGENCE",
    "SENSITIVITY",
    "sensitivity_csv",
    "sensitivity_plot",
    "site_bars",
    "write_sensitivity",
]

SENSITIVITY = ("sensitivity.svg", "sensitivity.csv")
COLUMNS = ("node", "op", "sqnr_db", "divergence_alone", "changed_alone", "gain_if_float", "work")

DIVERGENCE = {
    "rec": "Jensen-Shannon divergence from float, nat",
    "det": "map divergence from float (binary KL + dice), no unit",
}
DECISIONS = {"rec": "frames", "det": "text pixels"}


def write_sensitivity(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ``sensitivity.svg`` and ``sensitivity.csv``; nothing where no site was measured.

    Args:
        folder: that exists.
        result: what ``sensitivity.json`` or ``result.json`` holds.
    """
    if result["sensitivity"]:
        for name, text in zip(SENSITIVITY, (sensitivity_plot(result), sensitivity_csv(result)), strict=True):
            write_text(folder / name, text)


def sensitivity_plot(result: Mapping[str, Any]) -> str:
    """Return the plot as SVG: a bar for each site, the worst first.

    Args:
        result: see :func:`write_sensitivity`; at least one site.
    """
    task, bars = result["model"]["task"], site_bars(result["sensitivity"])
    return bar_chart(
        f"Sensitivity of {result['model']['name']} for {result['target']}",
        f"{len(bars)} sites, each alone in int8, the worst first. Right: signal to quantization noise of its output;"
        f" {DECISIONS[task]} decided otherwise; its share of the work",
        DIVERGENCE[task],
        bars,
        "saved when it alone is float",
        ("SQNR", "changed", "work"),
    )


def site_bars(rows: Iterable[Mapping[str, Any]]) -> list[Bar]:
    """Return a bar for each site, as long as its divergence; the mark is the gain if it alone is float.

    Args:
        rows: of the sites, in the order of the bars.
    """
    return [
        Bar(
            row["node"],
            max(0.0, row["divergence_alone"]),
            (f"{row['sqnr_db']:.1f} dB", f"{100 * row['changed_alone']:.3f} %", f"{100 * row['work']:.1f} %"),
            row["gain_if_float"],
        )
        for row in rows
    ]


def sensitivity_csv(result: Mapping[str, Any]) -> str:
    """Return a line for each site, in the order of the rows, under the names of :data:`COLUMNS`.

    Args:
        result: see :func:`write_sensitivity`.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(result["sensitivity"])
    return file.getvalue()
