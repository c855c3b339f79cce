"""The table of the README, from the ``result.json`` of finished runs: nothing in it is typed by hand.

    python benchmarks/table.py RUNS/* [--json]

A row is a model for one engine: its metric in float and int8 on the images that judged it, the points gained (+) or
lost with the interval of the paired bootstrap, time and size relative to float, and the minutes that the whole run
took, judging and timing included. A dash stands where nothing was measured; a time taken while others kept the machine
busy has a ``~``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocrslim.errors import InputError, OcrslimError
from ocrslim.graph.importers.zoo import MODELS

__all__ = ["main", "markdown", "read_results"]

HEADINGS = ("model", "engine", "metric", "float", "int8", "change, points (95 %)", "time", "size", "minutes", "given")
BUSY = 0.1  # cores that others may use while we time


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code: 0 done, 2 a mistake in the input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of ocrslim compress")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    options = parser.parse_args(arguments)
    try:
        results = read_results(options.folders)
    except OcrslimError as error:
        sys.stderr.write(f"table.py: {error}\n")
        return 2
    rows = [_row(result) for result in results]
    print(json.dumps(rows, ensure_ascii=False) if options.json else markdown(rows, results))
    return 0


def read_results(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the results in the order of the list of official models, others behind them.

    Args:
        folders: each with a ``result.json``.

    Raises:
        InputError: one has none, or it is not of a finished run.
    """
    found = []
    for folder in folders:
        path = folder / "result.json"
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            _row(result)
        except (OSError, ValueError, AttributeError, KeyError, TypeError, StopIteration) as error:
            raise InputError(f"{path}: no result of ocrslim compress ({error!r}); name folders that it wrote") from None
        found.append(result)
    order = {name: index for index, name in enumerate(MODELS)}
    return sorted(found, key=lambda item: (order.get(item["model"]["name"], len(order)), item["target"]))


def markdown(rows: Sequence[Mapping[str, str]], results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table and a line on the machine.

    Args:
        rows: cells by heading.
        results: that they were made of.
    """
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row[heading] for heading in HEADINGS) + " |" for row in rows]
    machines = dict.fromkeys(_machine(result["latency"][0]) for result in results if result["latency"])
    return "\n".join([*lines, "", *machines])


def _row(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells by heading."""
    engine = result.get("engine", result["target"])
    drop = result["drop"][engine]
    before, after = (result["metrics"][label][engine].get(drop["metric"]) for label in ("float", "int8"))
    clock = result.get("timed_on", engine)
    timed = next(row for row in result["latency"] if (row["label"], row["engine"]) == ("int8", clock))
    busy = "~" if (timed.get("other_load") or 0.0) > BUSY else ""
    minutes = sum(stage["seconds"] for stage in result["stages"]) / 60
    cells = (
        result["model"]["name"],
        engine if engine == result["target"] else f"{result['target']} ({engine})",
        drop["metric"],
        _figure(before),
        _figure(after),
        "{:+.2f} ({:+.2f} to {:+.2f})".format(*(0.0 - drop[key] for key in ("points", "high", "low"))),
        f"{busy}{timed['ratio_on_engine']:.2f}",
        f"{result['size']['ratio']:.2f}",
        f"{minutes:.1f}",
        result.get("delivered", "int8"),
    )
    return dict(zip(HEADINGS, cells, strict=True))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _machine(row: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return f"{row['cpu']} ({' '.join(row['flags'])}), {row['threads']} threads; {versions}"


if __name__ == "__main__":
    sys.exit(main())
