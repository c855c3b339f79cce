"""Terminal tables of what was measured: each takes the dictionary that ``--json`` prints or ``result.json`` holds.

Nothing is computed here but ratios and counts: a figure in a table is the figure in the file.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

__all__ = [
    "bench_table",
    "eval_table",
    "inspect_table",
    "models_table",
    "result_table",
    "rewritten_table",
    "sensitivity_table",
]

NOISY = 0.1  # cores that others may use while we time
SHOWN = 3  # examples of what was skipped
SITES = 30  # rows of a table that the reader looks at the top of
HEADLINE = ("accuracy", "hmean")  # first where it is there


def eval_table(result: Mapping[str, Any]) -> RenderableType:
    """Return the table of ``ocrslim eval``: a row for all images, one for each set if there are several.

    Args:
        result: as :meth:`ocrslim.evaluate.EvalResult.to_json` returns it.
    """
    metrics = _flat(result["metrics"])
    sets = {name: _flat(figures) for name, figures in result.get("per_set", {}).items()}
    names = _ordered(metrics)
    rows = [["all", str(result["n"]), *(_figure(metrics[name]) for name in names)]]
    if len(sets) > 1:
        for folder, figures in sorted(sets.items()):
            rows.append([folder, _figure(figures.get("n")), *(_figure(_metric(figures, name)) for name in names)])
    lines = [f"{result['seconds']:.1f} s", "protocol: " + _words(result.get("protocol", {}))]
    title = _title(f"{result['task']} on {result['engine']}")
    return Group(title, _Named(["images", "n", *names], rows), *_lines(lines), *_skipped(result.get("skipped", [])))


def bench_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the table of ``ocrslim bench``; the ratio is to the first row.

    Args:
        rows: as :meth:`ocrslim.engines.timing.BenchRow.to_json` returns them.
    """
    headings = ["model", "engine", "median ms", "p10-p90", "ratio", "peak MiB", "file MB"]
    cells = [
        [
            str(row["label"]),
            row["engine"],
            f"{row['median_ms']:.2f}",
            f"{row['p10']:.2f}-{row['p90']:.2f}",
            f"{row['ratio']:.2f}",
            "?" if row["peak_rss_mb"] is None else f"{row['peak_rss_mb']:.0f}",
            _megabytes(row["bytes"]),
        ]
        for row in rows
    ]
    return Group(_title("latency"), _Named(headings, cells), *_lines(_conditions(rows)))


def models_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the table of ``ocrslim models``.

    Args:
        rows: of each model ``name``, ``task``, ``licence``, ``wheel`` and whether it is ``cached``.
    """
    cells = [
        [row["name"], row["task"], str(row.get("licence")), str(row.get("wheel")), "yes" if row["cached"] else ""]
        for row in rows
    ]
    return Group(_title("official models"), _Named(["name", "task", "licence", "from", "cached"], cells))


def inspect_table(facts: Mapping[str, Any]) -> RenderableType:
    """Return the table of ``ocrslim inspect``: one row a fact, nested facts on one line.

    Args:
        facts: as :func:`ocrslim.graph.inspect.describe` returns them, with name and identity.
    """
    table = _table("fact", "value")
    table.columns[1].justify = "left"
    table.columns[1].no_wrap = False
    for key, value in facts.items():
        if key != "name":
            table.add_row(Text(key.replace("_", " ")), Text(_words(value)))
    return Group(_title(str(facts.get("name", "model"))), table)


def result_table(result: Mapping[str, Any]) -> RenderableType:
    """Return the table that a compression ends with: float against int8, and what stayed float and why.

    Args:
        result: the content of ``result.json``.
    """
    table = _table("", "float", "int8", "change")
    table.columns[-1].no_wrap = False  # a sentence with an interval in it
    _add_metrics(table, result)
    _add_latency(table, result["latency"])
    size = result["size"]
    table.add_row("size, MB", _megabytes(size["float"]), _megabytes(size["int8"]), _times(size["ratio"]))
    return Group(
        _title(f"{result['model']['name']} for {result['target']}"),
        table,
        _placement(result["placement"]),
        *_notes(result.get("notes", [])),
        *_lines(_rewritten(result["latency"])),
        *_lines([_judged(result["data"]), *map(_verified, result["verify"]), _stages(result["stages"])]),
        *_lines(_conditions(result["latency"])),
        *_skipped(result.get("skipped", [])),
    )


def rewritten_table(result: Mapping[str, Any]) -> RenderableType:
    """Return the table that ``compress --float`` ends with.

    Args:
        result: the content of ``result.json``; see :func:`ocrslim.lossless.rewrite`.
    """
    rows, size = result["latency"], result["size"]
    figures = [*_lines([_judged(result["data"]), *map(_verified, result["verify"]), _stages(result["stages"])])]
    bytes_ = f"size, MB: {_megabytes(size['float'])}, rewritten {_megabytes(size['rewritten'])}"
    return Group(bench_table(rows), *_lines([bytes_]), *figures, *_skipped(result["skipped"]))


def sensitivity_table(result: Mapping[str, Any]) -> RenderableType:
    """Return the table of ``ocrslim sensitivity``: the worst sites first, no more than fit on a screen.

    Args:
        result: as :func:`ocrslim.sensitivity.sensitivity` returns it.
    """
    rows = result["sensitivity"]
    cells = [
        [
            row["node"],
            row["op"],
            f"{row['sqnr_db']:.1f}",
            f"{row['divergence_alone']:.2e}",
            f"{100 * row['changed_alone']:.3f}",
            f"{row['gain_if_float']:.2e}",
            f"{100 * row['work']:.1f}",
        ]
        for row in rows[:SITES]
    ]
    headings = ["node", "op", "SQNR dB", "divergence alone", "changed alone %", "gain if float", "work %"]
    together, seconds = result["together"], result["seconds"]
    more = [f"and {len(rows) - SITES} sites more; --out and --json tell all"] if len(rows) > SITES else []
    lines = [
        f"all {len(rows)} in int8: divergence {together['divergence']:.2e}, {100 * together['changed']:.3f} % changed",
        f"{result['data']['n_images']} images; calibrated in {seconds['calibrate']:.1f} s, measured in"
        f" {seconds['measure']:.1f} s, in torch",
    ]
    title = _title(f"sensitivity of {result['model']['name']} for {result['target']}, the worst site first")
    return Group(title, _Named(headings, cells), *_lines([*more, *lines]), *_skipped(result["skipped"]))


def _add_metrics(table: Table, result: Mapping[str, Any]) -> None:
    """Add a row for each metric on each engine; the judged one says its loss and the interval of it."""
    for engine, figures in result["metrics"]["float"].items():
        before, after = _flat(figures), _flat(result["metrics"]["int8"].get(engine, {}))
        drop = result["drop"].get(engine)
        for name in _ordered(before):
            if not isinstance(before[name], float) or not isinstance(after.get(name), float):
                continue
            points = (after[name] - before[name]) * 100
            change = f"{points:+.2f} points"
            if drop and drop["metric"] == name:
                # The interval is of the loss; the column shows the change, its negative.
                change = f"{-drop['points']:+.2f} points ({-drop['high']:+.2f} to {-drop['low']:+.2f}, n={drop['n']})"
            table.add_row(f"{name}, {engine}", _figure(before[name]), _figure(after[name]), change)


def _add_latency(table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add a row for each engine and number of threads; the ratio is that of runs in turns, not of the medians."""
    first = {(row["engine"], row["threads"]): row for row in reversed(rows)}
    for row in rows:
        before = first[row["engine"], row["threads"]]
        if row is not before and row["label"] != "rewritten":
            ratio = row.get("ratio_on_engine", row["median_ms"] / before["median_ms"])
            name = f"ms, {row['engine']}" + ("" if row["threads"] == rows[0]["threads"] else f", {_threads(row)}")
            table.add_row(name, f"{before['median_ms']:.2f}", f"{row['median_ms']:.2f}", _times(ratio))


def _rewritten(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the float model gains by being rewritten alone, where that was timed."""
    found = [
        f"{row['ratio_on_engine']:.2f} times the time on {row['engine']}"
        for row in rows
        if row["label"] == "rewritten" and row["threads"] == rows[0]["threads"]
    ]
    return [f"float, rewritten without loss (--float): {', '.join(found)}"] if found else []


def _threads(row: Mapping[str, Any]) -> str:
    return f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"


def _placement(placement: Mapping[str, Sequence[Mapping[str, Any]]]) -> RenderableType:
    """Count what stayed float by reason and kind of operator."""
    quantized, kept = placement["quantized"], placement["float"]
    table = _table("stayed float because", "nodes")
    for reason, nodes in Counter(item["reason"] for item in kept).most_common():
        kinds = Counter(item["op"] for item in kept if item["reason"] == reason and "op" in item)
        what = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        table.add_row(Text(f"{reason} ({what})" if what else reason), str(nodes))
    return Group(_title(f"{len(quantized)} operators in int8, {len(kept)} kept float"), table)


def _notes(notes: Sequence[str]) -> list[Text]:
    """Say what a reader of the figures has to know, so that it is seen."""
    return [Text(note, style="yellow") for note in notes]


def _judged(data: Mapping[str, Any]) -> str:
    learned = f"; learned from {data['n_train']}" if "n_train" in data else ""
    return f"judged by {data['judged_by']} on {data['n_eval']} images{learned}"


def _verified(check: Mapping[str, Any]) -> str:
    said = "agrees" if check["passed"] else "DOES NOT AGREE"
    where = f" in {check['engine']}" if check.get("engine") else ""
    found = f"{check['value']:.4f} of {check['n']} (at least {check['required']:.2f} asked)"
    return f"{check['kind']}: exported model {said} with the trained one{where}, {found}"


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    seconds = sum(stage["seconds"] for stage in stages)
    peak = max((stage["peak_rss_mb"] for stage in stages if stage["peak_rss_mb"] is not None), default=0.0)
    parts = ", ".join(f"{stage['name']} {stage['seconds']:.0f}" for stage in stages)
    return f"{seconds:.0f} s ({parts}), at most {peak:.0f} MiB"


def _conditions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say under which conditions the rows were timed, and when they are worth little."""
    if not rows:
        return []
    row = rows[0]
    lines = [
        f"{_threads(row)}, input {_shape(row['shape'])}, {row['runs']} runs in turns",
        f"{row['cpu']} ({' '.join(row['flags'])})",
        _words(row["versions"]),
    ]
    load = row.get("other_load")
    if load is not None and load > NOISY:
        lines.append(f"other processes kept {load:.1f} cores busy meanwhile: time again on a quiet machine")
    return lines


def _skipped(items: Sequence[Any]) -> Iterable[Text]:
    """Name the first things that were left out and count the rest."""
    if not items:
        return
    yield Text(f"{len(items)} skipped:", style="yellow")
    for item in items[:SHOWN]:
        yield Text(f"  {item['where']}: {item['reason']}" if isinstance(item, Mapping) else f"  {item}")
    if len(items) > SHOWN:
        yield Text(f"  and {len(items) - SHOWN} more")


class _Named:
    """A table whose first column holds names. Neither a name nor a figure is ever cut or wrapped.

    1. Where the terminal is too narrow, the headings break at their spaces.
    2. Where that is not enough, each name stands on a line of its own, its figures below it.

    Args:
        headings: of the columns.
        rows: cells, the name first.
    """

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._headings = headings
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for headings in (self._headings, [heading.replace(" ", "\n") for heading in self._headings]):
            table = _table(*headings)
            for row in self._rows:
                table.add_row(*map(Text, row))
            if Measurement.get(console, options.update(max_width=sys.maxsize), table).maximum <= options.max_width:
                yield table
                return
        yield Text()
        for name, *figures in self._rows:
            yield Text(name, no_wrap=True, overflow="ignore")
            told = (
                f"{heading} {figure}" for heading, figure in zip(self._headings[1:], figures, strict=True) if figure
            )
            yield Text("  " + ", ".join(told))
        yield Text()


def _title(title: str) -> Text:
    """Return a heading; rich would break a table's own title at the table's width."""
    return Text(title, style="bold")


def _table(*columns: str) -> Table:
    """Return an empty table: text to the left in the first column, figures to the right in the others.

    Where the terminal is narrow, the first column is folded: half a figure is worse than none.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index else "left", overflow="fold", no_wrap=index > 0)
    return table


def _lines(lines: Iterable[str]) -> list[Text]:
    return [Text(line, style="dim") for line in lines]


def _flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested figures with the outer name before the inner: ``{"loose": {"a": 1}}`` -> ``{"loose a": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key} ")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _metric(figures: Mapping[str, Any], name: str) -> Any:
    return figures.get(name, figures.get(f"metrics {name}"))


def _ordered(figures: Mapping[str, Any]) -> list[str]:
    """Return the names of the figures, the headline first, the others as they come."""
    return sorted(figures, key=lambda name: name not in HEADLINE)


def _figure(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _words(value: Any) -> str:
    """Return a nested value on one line that people read."""
    if isinstance(value, Mapping) and value.keys() == {"name", "shape"}:
        return f"{value['name']} {_shape(value['shape'])}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shape(shape: Sequence[int | str | None]) -> str:
    return "x".join(str(size) if isinstance(size, int) else "?" for size in shape)  # names of open sizes are long


def _times(ratio: float) -> str:
    return f"x {ratio:.2f}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}"
