"""What a run measured, as sections of the report: the verdict, the figures, the latency, the candidates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ocrslim.report.bars import Bar, bar_chart
from ocrslim.report.html_parts import Html, Section, chart, paragraph, table, text
from ocrslim.report.html_words import Lang, Said, between, escape, interval, loss, metric_name, plain, said, translated
from ocrslim.report.plot import Point, scatter
from ocrslim.report.result import chosen_index, made_of, over_budget

__all__ = [
    "candidates",
    "figures",
    "is_dropped",
    "latency",
    "ratio_of_time",
    "row_of",
    "size_ratio",
    "state_of",
    "timed_on",
    "verdict",
]

LABELS = ("float", "int8", "rewritten", "pruned")
NOISY = 0.1  # cores that others may use while we time


def timed_on(result: Mapping[str, Any]) -> str:
    """Return the name of the engine whose time counts."""
    return str(result.get("timed_on") or result["engine"])


def row_of(result: Mapping[str, Any], label: str) -> Mapping[str, Any] | None:
    """Return the row of the latency that counts for a model; ``None`` where it was not timed."""
    engine = timed_on(result)
    return next((row for row in result["latency"] if row["engine"] == engine and row["label"] == label), None)


def ratio_of_time(result: Mapping[str, Any]) -> float | None:
    """Return the time of the model that was made / the float model's, on the engine that counts."""
    row = row_of(result, made_of(result))
    return None if row is None else float(row["ratio_on_engine"])


def size_ratio(result: Mapping[str, Any]) -> float:
    """Return the size of the model that was made / the float model's."""
    size = result["size"]
    return float(size[made_of(result)]) / max(1.0, float(size["float"]))


def is_dropped(result: Mapping[str, Any]) -> bool:
    """Return whether what was made was no better than the float model that came in, and was not kept."""
    return made_of(result) == "rewritten" and result["delivered"] == "float"


def state_of(result: Mapping[str, Any]) -> str:
    """Return what became of the budget.

    ``kept``, ``unsure``, ``missed``, ``over`` where it holds on what was held back and not on ``--eval``,
    ``unlabelled`` where nobody can tell, or ``none`` where there was none.
    """
    budget = result.get("budget") if made_of(result) == "int8" else None
    if budget is None:
        return "none"
    if budget["kept"]:
        return "over" if over_budget(result) else "kept" if budget["sure"] else "unsure"
    return "missed" if budget["drop"].get("against", "labels") == "labels" else "unlabelled"


def verdict(result: Mapping[str, Any]) -> Section:
    """Say first what a reader wants to know: is the budget kept, how much faster is it, and on what."""
    state, made, ratio, engine = state_of(result), made_of(result), ratio_of_time(result), timed_on(result)
    if ratio is None or ratio <= 0:
        time = said("untimed", engine=engine)
    elif ratio < 1:
        time = said("faster", times=f"{1 / ratio:.2f}", engine=engine)
    else:
        time = said("not faster", engine=engine)
    dropped = is_dropped(result)
    head = "original" if dropped else made if state == "none" else state
    body = [paragraph(said(f"headline {head}", time=time), "headline")]
    if result["delivered"] != made:
        body.append(paragraph(said(f"{'original' if dropped else result['delivered']} delivered")))
    tiles = "".join(_tile(name, lines) for name, lines in _tiles(result, state, time))
    body.append(Html(f'<dl class="tiles">{tiles}</dl>'))
    if state == "over":
        body.append(paragraph(said("over on eval", points=f"{result['budget']['max_drop']:g}"), "bad"))
    body += _of_pruning(result) if made == "pruned" else []
    body += [paragraph(translated(note)) for note in result.get("notes") or ()]
    sentence = escape(result["verdict"])
    # The sentence that result.json keeps is English; the tiles say the same in both languages.
    body.append(Html(f'<p class="small en" lang="en">{sentence}</p>'))
    return Section("verdict", said("verdict"), body)


def _tiles(result: Mapping[str, Any], state: str, time: Said) -> Iterator[tuple[Said, list[tuple[str, Said]]]]:
    """Yield name and lines (class, text) of each tile."""
    drop, size, made = result["drop"][result["engine"]], result["size"], made_of(result)
    if state != "none":
        yield said("budget"), _budget(result["budget"], state)
    yield (
        said("what changed"),
        [
            ("large", loss(drop)),
            ("", said("interval of", interval=interval(drop), n=drop["n"])),
            ("small", _by(result)),
        ],
    )
    row = row_of(result, made)
    if row is not None:
        where = said("timed on", engine=row["engine"], threads=row["threads"], cpu=row["cpu"])
        share = said("time of float", ratio=f"{row['ratio_on_engine']:.2f}")
        yield said("time"), [("large", time), ("", share), ("small", where)]
    if is_dropped(result):
        return
    before, after = (f"{size[name] / 1e6:.2f}" for name in ("float", made))
    yield (
        said("size"),
        [
            ("large", said("size of float", ratio=f"{size_ratio(result):.2f}")),
            ("", said("megabytes", before=before, after=after)),
        ],
    )


def _budget(budget: Mapping[str, Any], state: str) -> list[tuple[str, Said]]:
    held, colour = budget["drop"], {"kept": "good", "missed": "bad", "over": "bad"}.get(state, "")
    lines = [
        (f"large {colour}".strip(), said(f"budget {state}")),
        ("", said("budget of", points=f"{budget['max_drop']:g}")),
        ("small", said("held back", n=held["n"], loss=loss(held), interval=interval(held))),
    ]
    if state not in ("kept", "over") and budget.get("images_to_tell"):
        lines.append(("small", said("images to tell", n=f"{budget['images_to_tell']:,}")))
    return lines


def _of_pruning(result: Mapping[str, Any]) -> list[Html]:
    """Say whether the goal was reached, and what the training brought back."""
    pruning, before = result["pruning"], result["pruning"]["untrained"]
    missed = [] if pruning["reached"] else [paragraph(said("goal missed", ratio=f"{pruning['ratio']:.2f}"), "bad")]
    return [*missed, paragraph(said("untrained", loss=loss(before), interval=interval(before)))]


def _tile(name: Said, lines: Sequence[tuple[str, Said]]) -> str:
    told = "".join(f'<dd class="{kind}">{text(words)}</dd>' for kind, words in lines)
    return f"<div><dt>{text(name)}</dt>{told}</div>"


def _by(result: Mapping[str, Any]) -> Said:
    return said("judged by", what=translated(result["data"]["judged_by"]))


def figures(result: Mapping[str, Any]) -> Section:
    """Tell every metric of both models, and the interval of the one that judges."""
    rows: list[list[Said | Html | str]] = []
    made = made_of(result)
    for engine, before in result["metrics"]["float"].items():
        after, drop = result["metrics"][made].get(engine, {}), result["drop"].get(engine)
        for name, words, first, second in _metrics(before, after):
            judged = bool(drop and drop["metric"] == name)
            within = between(-drop["high"], -drop["low"]) if drop and judged else ""
            n = str(drop["n"]) if drop else ""
            change = f"{100 * (second - first):+.2f}"
            rows.append([words, engine, f"{first:.4f}", f"{second:.4f}", change, within, n])
    heads = [said(key) for key in ("metric", "engine", "float", made, "change", "interval", "images")]
    body = [table(_by(result), heads, rows, (2, 3, 4, 5, 6))]
    for check in result["verify"]:
        good = "verified rewritten" if made == "rewritten" else "verified"
        key = good if check["passed"] else "not verified"
        told = said(
            key, kind=check["kind"], value=f"{check['value']:.4f}", n=check["n"], required=f"{check['required']:.2f}"
        )
        where = f"{plain(check['engine']).en}: " if check.get("engine") else ""
        body.append(paragraph(Said(*(where + words for words in told)), "small" if check["passed"] else "bad"))
    return Section("figures", said("figures"), body)


def _metrics(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Said, float, float]]:
    """Yield the name of a metric, the same in words, and both models' values; the loose ones last."""
    for name, value in before.items():
        if isinstance(value, float) and isinstance(after.get(name), float):
            yield name, metric_name(name), value, after[name]
    loose, other = before.get("loose"), after.get("loose")
    if isinstance(loose, Mapping) and isinstance(other, Mapping):
        for name, words, first, second in _metrics(loose, other):
            yield f"loose {name}", said("loose", metric=words), first, second


def latency(result: Mapping[str, Any]) -> Section:
    """Draw the time of each model on each engine, and tell it in a table."""
    rows = result["latency"]
    if not rows:
        return Section("latency", said("latency"), [paragraph(said("no latency"))])
    first = rows[0]
    shape = "x".join(map(str, first["shape"]))
    under = said("latency under", shape=shape, runs=first["runs"])
    # Float and int8 of one engine and number of threads side by side.
    ordered = sorted(rows, key=lambda row: (row["engine"], -row["threads"]))

    def draw(lang: Lang) -> str:
        words = [getattr(said(key), lang) for key in ("latency chart", "latency axis", "p10-p90", "of float")]
        bars = [
            Bar(
                getattr(said("bar", model=_label(row), engine=row["engine"], threads=row["threads"]), lang),
                row["median_ms"],
                (f"{row['p10']:.2f}-{row['p90']:.2f}", f"{row['ratio_on_engine']:.2f}"),
            )
            for row in ordered
        ]
        return bar_chart(words[0], getattr(under, lang), words[1], bars, "", words[2:])

    heads = [said(key) for key in ("model", "engine", "threads", "median", "p10-p90", "of float", "memory")]
    cells: list[list[Said | Html | str]] = [
        [
            *(_label(row), plain(f"{row['engine']} {row['versions'].get(row['engine'].split('-')[0], '')}".strip())),
            *(str(row["threads"]), f"{row['median_ms']:.2f}", f"{row['p10']:.2f}-{row['p90']:.2f}"),
            f"{row['ratio_on_engine']:.2f}",
            "" if row.get("peak_rss_mb") is None else f"{row['peak_rss_mb']:.0f}",
        ]
        for row in ordered
    ]
    body = [chart(said("latency chart"), draw), table(said("latency chart"), heads, cells, (2, 3, 4, 5, 6))]
    load = max((row.get("other_load") or 0.0) for row in rows)
    if load > NOISY:
        body.append(paragraph(said("busy", load=f"{load:.1f}"), "bad"))
    return Section("latency", said("latency"), body)


def _label(row: Mapping[str, Any]) -> Said:
    return said(row["label"]) if row["label"] in LABELS else plain(row["label"])


def candidates(result: Mapping[str, Any]) -> Section:
    """Draw what was tried on the way, its loss against its divergence from float, and tell it in a table."""
    budget = result["budget"]
    rungs = budget["rungs"]
    best = chosen_index(result)
    told = said("held back", n=budget["drop"]["n"], loss=loss(budget["drop"]), interval=interval(budget["drop"]))
    body = [paragraph(told)] if not rungs else []

    def draw(lang: Lang) -> str:
        title, under, x, y = (
            getattr(said(key), lang) for key in ("candidates chart", "candidates under", "divergence", "points lost")
        )
        points = []
        for index, rung in enumerate(rungs):
            drop = rung.get("drop") or {"points": None, "low": None, "high": None}
            words = f"{index + 1}: {getattr(translated(rung['rung']), lang)}"
            point = (rung["divergence"], drop["points"], str(index + 1), words, drop["low"], drop["high"])
            points.append(Point(*point, index == best))
        return scatter((title, under), (x, y), points, (budget["max_drop"], getattr(said("budget line"), lang)))

    if rungs:
        keys = ("number", "rung", "of float time short", "divergence", "loss", "interval", "float sites", "agreement")
        heads = [said(key) for key in keys]
        cells = [_rung(index, rung, index == best) for index, rung in enumerate(rungs)]
        by = said("judged by", what=translated(budget["judged_by"]))
        body += [chart(said("candidates chart"), draw), *_front(rungs, best, budget["max_drop"])]
        body.append(table(by, heads, cells, (2, 3, 4, 5, 6, 7)))
    return Section("candidates", said("candidates"), body)


def _front(rungs: Sequence[Mapping[str, Any]], best: int | None, max_drop: float) -> list[Html]:
    """Draw the loss of what was timed against its time, where anything was."""
    timed = [(index, rung) for index, rung in enumerate(rungs) if rung.get("time") is not None and rung.get("drop")]
    if not timed:
        return []

    def draw(lang: Lang) -> str:
        title, under, x, y = (
            getattr(said(key), lang) for key in ("front chart", "front under", "front axis", "points lost")
        )
        points = [Point(1.0, 0.0, "F", getattr(said("float"), lang))]
        for index, rung in timed:
            drop, words = rung["drop"], f"{index + 1}: {getattr(translated(rung['rung']), lang)}"
            at = (rung["time"], drop["points"], str(index + 1), f"{words}: {rung['time']:.2f}")
            points.append(Point(*at, drop["low"], drop["high"], index == best, bool(rung.get("front"))))
        return scatter((title, under), (x, y), points, (max_drop, getattr(said("budget line"), lang)))

    return [chart(said("front chart"), draw)]


def _rung(index: int, rung: Mapping[str, Any], chosen: bool) -> list[Said | Html | str]:
    drop, name = rung.get("drop"), translated(rung["rung"])
    what = Html(f"{text(name)} <strong>({text(said('chosen'))})</strong>") if chosen else name
    points = f"{drop['points']:+.2f}" if drop else said("not judged")
    within = between(drop["low"], drop["high"]) if drop else ""
    sites, agrees = str(rung["float_sites"]), f"{rung['agrees']:.4f}"
    took = rung.get("time")
    time = "" if took is None else f"{took:.2f}{' *' if rung.get('front') else ''}"
    return [str(index + 1), what, time, f"{rung['divergence']:.5f}", points, within, sites, agrees]
