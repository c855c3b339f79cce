"""The table of the README, from the ``result.json`` of finished runs: nothing in it is typed by hand.

    python benchmarks/table.py RUNS/* [--example | --speed | --placement] [--json]

A row is a model for one engine: its metric in float and int8 on the images that judged it, the points gained (+) or
lost with the interval of the paired bootstrap, time and size relative to float, and the minutes that the whole run
took, judging and timing included. A dash stands where nothing was measured; a time taken while others kept the machine
busy has a ``~``.

``--example`` has the columns of PaddleSlim's example, and a row for each model, float and int8 apart: strategy, metric,
milliseconds of a run, a file in the example's form, and the command that makes the model. Official models that none of
the folders is of stand there too, with dashes and the reason.

``--speed`` tells how many times as fast a model is as the original file in float: in ONNX Runtime, which most people
run, and in its own engine; for the int8 model and for the float one that was rewritten without loss.

``--placement`` tells what the clock made of the placement: how many sites more and fewer than usual, the time of the
fastest placement as a share of the usual one's, and whether its loss let it be used.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocrslim.errors import InputError, OcrslimError
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.report.result import chosen_rung

__all__ = ["example_rows", "main", "markdown", "read_results"]

HEADINGS = ("model", "engine", "metric", "float", "int8", "change, points (95 %)", "time", "size", "minutes", "given")
EXAMPLE = ("model", "engine", "strategy", "metric", "value", "latency, ms", "config", "download or command")
SPEED = ("model", "engine", "points", "int8, of onnxruntime", "int8, of its engine", "float rewritten, of its engine")
ENGINES = ("onnxruntime", "openvino")  # that each official model could be made for and timed on, everywhere
PLACEMENT = ("model", "engine", "sites", "more in int8", "fewer", "of the usual time", "used")
CONFIGS = Path(__file__).resolve().parents[1] / "configs"
DASH = "–"
BUSY = 0.1  # cores that others may use while we time


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and return the exit code: 0 done, 2 a mistake in the input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of ocrslim compress")
    parser.add_argument("--example", action="store_true", help="float and int8 apart, with strategy and command")
    parser.add_argument("--speed", action="store_true", help="times as fast as the original in float")
    parser.add_argument("--placement", action="store_true", help="what the clock made of the placement")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    options = parser.parse_args(arguments)
    try:
        results = read_results(options.folders)
    except OcrslimError as error:
        sys.stderr.write(f"table.py: {error}\n")
        return 2
    make = _speed if options.speed else _placement if options.placement else _row
    rows = example_rows(results) if options.example else list(map(make, results))
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
    headings = list(rows[0]) if rows else HEADINGS
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(row[heading] for heading in headings) + " |" for row in rows]
    machines = dict.fromkeys(_machine(result["latency"][0]) for result in results if result["latency"])
    return "\n".join([*lines, "", *machines])


def example_rows(results: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the rows of ``--example``: those of the results, then the official models that there is no result of.

    Args:
        results: in the order of :func:`read_results`.
    """
    rows = [row for result in results for row in _pair(result)]
    there = {(result["model"]["name"], result["target"]) for result in results}
    for name in MODELS:
        for engine in ENGINES:
            if (name, engine) not in there:
                cells = (name, engine, *(DASH,) * 5, "not measured: no run of it is among the folders")
                rows.append(dict(zip(EXAMPLE, cells, strict=True)))
    return rows


def _pair(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return a row of the float model and one of the int8 model."""
    engine, name = result.get("engine", result["target"]), result["model"]["name"]
    metric, clock = result["drop"][engine]["metric"], result.get("timed_on", engine)
    fetch = f"`ocrslim models pull {name}`" if name in MODELS else DASH
    told = {"float": ("float", DASH, fetch), "int8": (_strategy(result), _config(name), _command(result))}
    rows = []
    for label, (strategy, config, command) in told.items():
        timed = next((row for row in result["latency"] if (row["label"], row["engine"]) == (label, clock)), None)
        busy = "~" if timed and (timed.get("other_load") or 0.0) > BUSY else ""
        cells = (
            *(name, result["target"], strategy, metric, _figure(result["metrics"][label][engine].get(metric))),
            *(DASH if timed is None else f"{busy}{timed['median_ms']:.1f}", config, command),
        )
        rows.append(dict(zip(EXAMPLE, cells, strict=True)))
    return rows


def _config(name: str) -> str:
    """Return the file in the form of PaddleSlim's example that makes the model int8 too."""
    version, _, rest = name.removeprefix("PP-OCR").partition("_")
    path = CONFIGS / f"ppocr{version}_{rest.rpartition('_')[2]}_qat_dist.yaml"
    return f"[{path.name}]({CONFIGS.name}/{path.name})" if path.is_file() else DASH


def _strategy(result: Mapping[str, Any]) -> str:
    """Return what was done to the candidate that was taken; without the names of what it keeps float."""
    chosen = chosen_rung(result)
    return "int8" if chosen is None else f"int8, {chosen.partition(':')[0]}"


def _command(result: Mapping[str, Any]) -> str:
    """Return the command with the names of its files alone: whose machine it was is nobody's concern."""
    said = result.get("command")
    if not said:
        return "not recorded"
    words = [Path(word).name if re.match(r"[/~.]|[A-Za-z]:\\", word) else word for word in shlex.split(said)]
    return f"`{shlex.join(words)}`".replace("|", "\\|")


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


def _speed(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of ``--speed`` by heading."""
    engine, rows = result.get("engine", result["target"]), result["latency"]
    drop, clock = result["drop"][engine], result.get("timed_on", engine)

    def times(label: str, ratio: str) -> str:
        found = next((row for row in rows if (row["label"], row["engine"]) == (label, clock)), None)
        if found is None or ratio not in found or (ratio == "ratio" and rows[0]["engine"] != ENGINES[0]):
            return DASH
        return f"{'~' if (found.get('other_load') or 0.0) > BUSY else ''}{1 / found[ratio]:.2f}"

    cells = (
        *(result["model"]["name"], engine, f"{0.0 - drop['points']:+.2f}"),
        *(times("int8", "ratio"), times("int8", "ratio_on_engine"), times("rewritten", "ratio_on_engine")),
    )
    return dict(zip(SPEED, cells, strict=True))


def _placement(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of ``--placement`` by heading."""
    found, sites = result["placement"].get("measured"), len(result["placement"]["quantized"])
    told = (DASH,) * 4
    if found:
        faster = bool(
            found["fast"] or found.get("outputs")
        )  # a placement of its own; else the usual one goes without slow
        answer = "yes" if found["used"] or (found["slow"] and not faster) else "no" if faster else "nothing to use"
        told = (str(len(found["fast"])), str(len(found["slow"])), f"{found['ratio']:.2f}", answer)
    cells = (result["model"]["name"], result.get("engine", result["target"]), str(sites), *told)
    return dict(zip(PLACEMENT, cells, strict=True))


def _figure(value: float | None) -> str:
    return DASH if value is None else f"{value:.4f}"


def _machine(row: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    return f"{row['cpu']} ({' '.join(row['flags'])}), {row['threads']} threads; {versions}"


if __name__ == "__main__":
    sys.exit(main())
