"""How a run's model was made, as sections of the report: sensitivity, training, size by layer, what stayed float."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocrslim.errors import ModelError
from ocrslim.report.bars import Bar, bar_chart
from ocrslim.report.html_parts import Html, Section, chart, facts, paragraph, table, text
from ocrslim.report.html_words import Lang, Said, escape, plain, said, translated
from ocrslim.report.layers import Layer, layer_sizes
from ocrslim.report.plot import curves
from ocrslim.report.result import made_of, title_of
from ocrslim.report.sensitivity import site_bars

__all__ = ["again", "channels", "kept_float", "layers", "sensitivity", "training"]

MOST_BARS = 40  # of a chart; what follows is small
MOST_NAMES = 12  # of nodes in a cell
HELD = "held_"  # begins the name of a figure that was measured on what was held back


def sensitivity(result: Mapping[str, Any]) -> Section:
    """Draw which layers cost the accuracy, where that was measured."""
    rows = result["sensitivity"]
    if not rows:
        return Section("sensitivity", said("sensitivity"), [paragraph(said("sensitivity none"))])
    task = result["model"]["task"]
    name = said("sensitivity title", name=title_of(result), target=result["target"])
    under = said("sensitivity under", n=len(rows), what=said(f"{task} decisions"))
    bars = site_bars(rows[:MOST_BARS])

    def draw(lang: Lang) -> str:
        axis, mark = getattr(said(f"{task} divergence"), lang), getattr(said("sensitivity mark"), lang)
        heads = [getattr(said(key), lang) for key in ("sqnr", "changed", "work")]
        return bar_chart(getattr(name, lang), getattr(under, lang), axis, bars, mark, heads)

    rest = [paragraph(said("sensitivity rest", n=len(rows) - MOST_BARS), "small")] if len(rows) > MOST_BARS else []
    return Section("sensitivity", said("sensitivity"), [chart(name, draw), *rest])


def training(result: Mapping[str, Any]) -> Section:
    """Draw the curves of a training, one small picture for each figure, training and held back together."""
    found, before = result.get("training"), _taught(result)
    if not found or not found["steps"] or not found["history"]:
        none = said("training none" if made_of(result) == "int8" else "not trained")
        return Section("training", said("training"), [*before, paragraph(none)])
    told = said("training of", steps=found["steps"], seconds=f"{found['seconds']:.0f}", best=found["best_step"])
    history = found["history"]
    names = list(dict.fromkeys(name for row in history for name in row if name != "step"))
    pictures = "".join(_curve(name, history).markup for name in dict.fromkeys(map(_base, names)))
    rows = [
        [f"{row.get('step', 0):g}", *(f"{row[name]:.4g}" if name in row else "" for name in names)] for row in history
    ]
    heads = [said("Step"), *map(plain, names)]
    whole = table(said("training table"), heads, rows, range(1, len(names) + 1))
    fold = Html(f"<details><summary>{text(said('training table'))}</summary>{whole.markup}</details>")
    drawn = Html(f'<div class="curves">{pictures}</div>')
    return Section("training", said("training"), [*before, paragraph(told), drawn, fold])


def _taught(result: Mapping[str, Any]) -> list[Html]:
    """Say what labels taught the last layer, where they did: before it was quantized, or after a pruned one trained."""
    pruned = made_of(result) == "pruned"
    found = (result if pruned else result["budget"]).get("taught")
    if not found:
        return []
    key = "taught pruned" if pruned else "taught"
    points, folded = (f"{found[name]:+.2f}" for name in ("points", "folded"))
    return [paragraph(said(key, lines=found["lines"], held=found["held"], points=points, folded=folded))]


def _base(name: str) -> str:
    return name.removeprefix(HELD)


def _curve(name: str, history: Sequence[Mapping[str, float]]) -> Html:
    def points(key: str) -> list[tuple[float, float]]:
        return [(row.get("step", 0.0), row[key]) for row in history if key in row]

    def draw(lang: Lang) -> str:
        found = {"train": points(name), "held": points(HELD + name)}
        series = {getattr(said(f"series {key}"), lang): values for key, values in found.items() if values}
        return curves(name, getattr(said("step"), lang), series)

    return chart(plain(name), draw)


def layers(result: Mapping[str, Any], folder: Path) -> Section:
    """Draw how many bytes of the file that was made belong to which layer.

    Args:
        result: of the run.
        folder: where its model lies.
    """
    beside = made_of(result) == "int8" and result["delivered"] != "int8"
    path = folder / ("int8.onnx" if beside else "model.onnx")
    title = said("layers")
    try:
        found = layer_sizes(path)
    except ModelError as error:
        return Section("layers", title, [paragraph(said("layers none", why=error))])
    if not found:
        return Section("layers", title, [paragraph(said("layers none", why=f"{path.name} has no constants"))])
    total, rest = sum(layer.bytes for layer in found), found[MOST_BARS:]
    under = said("layers under", n=len(found), total=f"{total / 1e6:.2f}", file=path.name)
    bars = [_layer(layer, total) for layer in found[:MOST_BARS]]

    def draw(lang: Lang) -> str:
        words = [getattr(said(key), lang) for key in ("layers chart", "layers axis", "layers mark", "type", "share")]
        return bar_chart(words[0], getattr(under, lang), words[1], bars, words[2], words[3:])

    body = [chart(said("layers chart"), draw)]
    if rest:
        size = sum(layer.bytes for layer in rest) / 1e6
        body.append(paragraph(said("layers rest", n=len(rest), size=f"{size:.2f}"), "small"))
    return Section("layers", title, body)


def _layer(layer: Layer, total: int) -> Bar:
    notes = (layer.dtype, f"{100 * layer.bytes / max(1, total):.1f} %")
    return Bar(layer.node or layer.op, layer.bytes / 1e3, notes, layer.float_bytes / 1e3)


def channels(result: Mapping[str, Any]) -> Section:
    """Tell which channels a pruning cut, and why no more of them."""
    groups = result["pruning"]["groups"]
    narrower = sum(group["after"] < group["before"] for group in groups)
    rows: list[list[Said | Html | str]] = [
        [plain(group["name"]), str(group["before"]), str(group["after"]), translated(group["reason"])]
        for group in groups
    ]
    heads = [said(key) for key in ("channels by", "before", "after", "why no fewer")]
    told = said("channels of", n=len(groups), narrower=narrower)
    return Section("channels", said("channels"), [table(told, heads, rows, (1, 2))])


def kept_float(result: Mapping[str, Any]) -> Section:
    """Say what stayed float, by its reason."""
    placement = result["placement"]
    by_reason: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for item in placement["float"]:
        by_reason[item["reason"]].append(item)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    rows: list[list[Said | Html | str]] = [
        [translated(reason), str(len(items)), _names(items)] for reason, items in ordered
    ]
    told = said("kept float of", quantized=len(placement["quantized"]), kept=len(placement["float"]))
    heads = [said(key) for key in ("reason", "count", "nodes")]
    return Section("float", said("kept float"), [table(told, heads, rows, (1,)), *_clock(placement.get("measured"))])


def _clock(found: Mapping[str, Any] | None) -> list[Html]:
    """Say what the clock said of the placement, where it was asked."""
    if not found:
        return []
    key = (
        "placement used"
        if found["used"]
        else "placement not used"
        if found["fast"] or found.get("outputs")
        else "placement usual"
    )
    told = said(key, ratio=f"{found['ratio']:.2f}")
    rows: list[list[Said | Html | str]] = [
        [
            translated(trial["group"]),
            str(len(trial["nodes"])),
            "int8" if trial["int8"] else "float",
            f"{100 * trial['saved']:+.1f} %",
            said("yes" if trial["kept"] else "no"),
        ]
        for trial in found["trials"]
    ]
    heads = [said(key) for key in ("changed alone", "count", "changed to", "time saved", "part of the fastest")]
    return [table(told, heads, rows, (1, 3))]


def _names(items: Sequence[Mapping[str, str]]) -> str:
    names = [item["node"] for item in items[:MOST_NAMES]]
    more = [f"+ {len(items) - MOST_NAMES}"] if len(items) > MOST_NAMES else []
    return ", ".join([*names, *more])


def again(result: Mapping[str, Any]) -> Section:
    """Say what it takes to do it again: the command, the versions, the machine, the data and the settings."""
    command = result.get("command")
    if command:
        told = Html(f'<pre tabindex="0"><code>{escape(command)}</code></pre>')
    else:
        told = paragraph(said("command unknown"))
    settings = [[plain(name), plain(value)] for name, value in _flat(result["settings"])]
    fold = table(said("settings"), [said("setting"), said("value")], settings)
    body = [
        facts([(said("command"), told), *_facts(result)]),
        Html(f"<details><summary>{text(said('settings'))}</summary>{fold.markup}</details>"),
    ]
    return Section("again", said("again"), body)


def _facts(result: Mapping[str, Any]) -> Iterator[tuple[Said, Said | Html | str]]:
    cpu, model, data = result["cpu"], result["model"], result["data"]
    versions = {"ocrslim": result["ocrslim"]} | (result["latency"][0]["versions"] if result["latency"] else {})
    yield said("versions"), ", ".join(f"{name} {version}" for name, version in versions.items())
    machine = said("cores", model=cpu["model"], cores=cpu["cores"])
    exact = said("vnni" if cpu["has_vnni"] else "no vnni")
    yield said("cpu"), Html(f"{text(machine)}<br>{text(exact)}")
    yield said("flags"), " ".join(cpu["flags"])
    yield said("source model"), Html(f"{text(plain(model['name']))}<br><code>SHA-256 {escape(model['sha256'])}</code>")
    yield said("licence"), plain(model["licence"]) if model.get("licence") else said("unknown")
    counts = said("data of", train=data["n_train"], held=data["n_held"], eval=data["n_eval"])
    where = plain(data["path"]) if data.get("path") else said("rendered")
    yield said("data"), Html(f"{text(where)}<br>{text(counts)}")
    if result["skipped"]:
        yield said("skipped", n=len(result["skipped"])), ""
    seconds = sum(stage["seconds"] for stage in result["stages"])
    peak = max((stage.get("peak_rss_mb") or 0 for stage in result["stages"]), default=0)
    yield said("stages"), said("stages of", seconds=f"{seconds:.0f}", peak=f"{peak:.0f}")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "" if value is None else value
