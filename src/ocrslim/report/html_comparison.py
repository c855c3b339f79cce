"""Several runs side by side: a table and a picture of loss against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ocrslim.report.front import pareto_front
from ocrslim.report.html_measured import is_dropped, ratio_of_time, row_of, size_ratio, state_of, timed_on
from ocrslim.report.html_parts import Html, Section, chart, paragraph, table, text
from ocrslim.report.html_words import Lang, Said, between, escape, metric_name, plain, said
from ocrslim.report.plot import Point, scatter
from ocrslim.report.result import made_of, title_of
from ocrslim.report.run_folder import Run

__all__ = ["comparison"]


def comparison(runs: Sequence[Run]) -> Section:
    """Compare runs.

    Args:
        runs: at least two.
    """
    results = [run.result for run in runs]
    times = [ratio_of_time(run.result) if run.time is None else run.time for run in runs]
    rows = [_row(n, *pair) for n, pair in enumerate(zip(results, times, strict=True), 1)]
    body = [table(said("comparison table"), _heads(), rows, range(5, 12))]
    if len({_conditions(result) for result in results}) > 1:
        body.append(paragraph(said("not same"), "small"))
    if any(time is not None for time in times):
        body.append(chart(said("comparison chart"), lambda lang: _draw(results, times, lang)))
    return Section("comparison", said("comparison"), body)


def _heads() -> list[Said]:
    keys = ("number", "model", "engine", "budget", "metric", "float", "compressed", "loss", "interval")
    return [*map(said, keys), said("ms compressed"), said("of float time"), said("of float size")]


def _row(number: int, result: Mapping[str, Any], ratio: float | None) -> list[Said | Html | str]:
    engine, made = result["engine"], made_of(result)
    drop, row = result["drop"][engine], row_of(result, made)
    before, after = (result["metrics"][which][engine].get(drop["metric"]) for which in ("float", made))
    name = escape(plain(title_of(result)).en)
    kind = "" if made == "int8" else f", {text(_kind(result, made))}"
    return [
        str(number),
        Html(f'<a href="#run{number}">{name}{kind}</a>'),
        plain(timed_on(result)),
        said(f"budget {state_of(result)}"),
        metric_name(drop["metric"]),
        f"{before:.4f}" if isinstance(before, float) else "",
        f"{after:.4f}" if isinstance(after, float) else "",
        f"{drop['points']:+.2f}",
        between(drop["low"], drop["high"]),
        "" if row is None else f"{row['median_ms']:.2f}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{size_ratio(result):.2f}",
    ]


def _kind(result: Mapping[str, Any], made: str) -> Said:
    return said("not kept", what=said(made)) if is_dropped(result) else said(made)


def _conditions(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what must be the same for figures to be held against each other."""
    row = row_of(result, made_of(result))
    machine = () if row is None else (row["cpu"], str(row["threads"]), str(row["shape"]))
    return (result["data"]["judged_by"], str(result["data"]["n_eval"]), *machine)


def _draw(results: Sequence[Mapping[str, Any]], times: Sequence[float | None], lang: Lang) -> str:
    title, under, x, y = (
        getattr(said(key), lang) for key in ("comparison chart", "comparison under", "comparison axis", "points lost")
    )
    points = []
    drops = [result["drop"][result["engine"]] for result in results]
    kinds = {(result["model"]["name"], timed_on(result), _conditions(result)) for result in results}
    alike = len(kinds) == 1  # else one can't take another's place
    timed = [(time, drop["points"]) for time, drop in zip(times, drops, strict=True)]
    front = pareto_front(timed) if alike else set()
    for number, (result, drop, ratio) in enumerate(zip(results, drops, times, strict=True), 1):
        if ratio is not None:
            told = f"{number}: {title_of(result)}, {timed_on(result)}: {ratio:.2f}, {drop['points']:+.2f}"
            points.append(
                Point(ratio, drop["points"], str(number), told, drop["low"], drop["high"], front=number - 1 in front)
            )
    return scatter((title, under), (x, y), points)
