"""``MODEL_CARD.md``: what a compressed model is, what it was made from and how, and where its figures hold.

For whoever gets the model without the run: it names files without their folders, and says nothing that ``result.json``
does not hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ocrslim.report.result import interval_in_words, loss_in_words, made_of, title_of

__all__ = ["model_card"]

TASKS = {
    "det": "finds lines of text in an image: `[N, 3, H, W]` to the probability of text, `[N, 1, H, W]`",
    "rec": "reads one line of text: `[N, 3, 48, W]` to the probability of each character, `[N, T, classes]`",
}
METRICS = ("accuracy", "norm_edit_distance", "hmean", "precision", "recall")
TITLES = {"int8": "int8", "float": "float", "rewritten": "float, rewritten", "pruned": "float, pruned"}
FLOAT_FILES = {
    "float": "the float model that came in, byte for byte",
    "rewritten": "the float model written as the engine runs it faster; nothing in it is rounded",
    "pruned": "the float model with fewer channels",
}
INT8 = "`int8.onnx`"  # where model.onnx is float
CALIBRATED = "Ranges calibrated by the error at the outputs, weights rounded by the inputs' covariance"
OPTIONS = (
    *("speedup", "ratio", "align", "importance", "data", "eval", "effort", "max_drop", "seed", "observer", "steps"),
    *("learning_rate", "profile", "placement", "max_minutes", "threads"),
)
NOT_IN_EXAMPLE = ("effort", "steps", "learning_rate", "label_ratio")  # the file says them
HELD = " held back from training"
# What paths stand between, the longer beginnings first.
JUDGED_BY = (
    ("the labels of the part of ", HELD),
    ("the labels of ", ""),
    ("agreement with the float model (no labels) on images of ", HELD),
)
FILES = ("data", "eval", "dict")
USUAL = {"label_ratio": 0.5, "accumulate": 1, "threads": 2}  # what goes without saying
FEW = 500  # images; with fewer, an interval is wide


def model_card(result: Mapping[str, Any], sha256: str) -> str:
    """Return the card as Markdown: of an int8 model, or of a float one where that is what was delivered.

    Args:
        result: the content of ``result.json``, of ``compress`` with or without ``--float``, or of ``prune``.
        sha256: of the model file that the card lies beside.
    """
    target = result["target"]
    lines = [f"# {title_of(result)}, {TITLES[_delivered(result)]} for {target}", "", f"**{result['verdict']}**", ""]
    for title, section in (
        ("What it is", _what(result, sha256)),
        ("What it was made from", _origin(result)),
        ("How it was made", _how(result)),
        ("What was measured, and where", _measured(result)),
        ("How to run it", _session(result)),
        ("Limits", _limits(result)),
    ):
        if told := list(section):
            lines += [f"## {title}", "", *told, ""]
    return "\n".join(lines)


def _delivered(result: Mapping[str, Any]) -> str:
    """Return what ``model.onnx`` is: ``int8``, ``float``, ``rewritten`` or ``pruned``."""
    return str(result.get("delivered", "int8"))


def _has_int8(result: Mapping[str, Any]) -> bool:
    """Return whether an int8 model was made; ``compress --float`` and ``prune`` make none."""
    return made_of(result) == "int8"


def _of_int8(result: Mapping[str, Any]) -> str:
    """Return how a sentence about the int8 model begins: with its name where ``model.onnx`` is another."""
    return "" if _delivered(result) == "int8" else f"{INT8}: "


def _what(result: Mapping[str, Any], sha256: str) -> Iterator[str]:
    yield f"- A PP-OCR model that {TASKS[result['model']['task']]}."
    delivered, size, made = _delivered(result), result["size"], ""
    if _has_int8(result):
        placement = result["placement"]
        quantized, kept = len(placement["quantized"]), len(placement["float"])
        made = f"{quantized} operators in int8, {kept} convolutions and products in float; {size['int8'] / 1e6:.2f} MB"
    if delivered == "int8":
        yield f"- {made}, the float model has {size['float'] / 1e6:.2f} MB."
        yield f"- `model.onnx`, SHA-256 `{sha256}`."
    else:
        yield f"- `model.onnx`: {FLOAT_FILES[delivered]}{_float_size(result)}. SHA-256 `{sha256}`."
        if made:
            yield f"- {INT8}: the int8 model, which was no faster here. {made}."
    yield f"- Made with ocrslim {result['ocrslim']}."


def _float_size(result: Mapping[str, Any]) -> str:
    """Return the megabytes of a float ``model.onnx``; nothing where ``result.json`` doesn't hold them."""
    delivered = _delivered(result)
    timed = (row.get("bytes") for row in result["latency"] if row["label"] == delivered)
    size = result["size"].get(delivered) or next(timed, None)
    if delivered == "float" and result["settings"].get("reference"):
        size = None  # it is that of the reference
    return f", {size / 1e6:.2f} MB" if size else ""


def _origin(result: Mapping[str, Any]) -> Iterator[str]:
    model, data = result["model"], result["data"]
    yield f"- Model: {title_of(result)}, SHA-256 `{model['sha256']}`."
    licence = model["licence"] or "not known; ask where the float model came from"
    yield f"- Licence: {licence}. It holds for this one too."
    if made_of(result) == "rewritten":
        return  # nothing was learned from data
    if not data["path"]:
        yield f"- Data: rendered text, {data['n_train']} images to learn from; no labels of real images."
        return
    sha256 = f", SHA-256 `{data['sha256']}`" if data["sha256"] else ""
    names = ", ".join(f"`{name}`" for name in _files(result, str(data["path"])))
    yield f"- Data: {names}{sha256}, {data['n_train']} images to learn from, {data['n_held']} held back."


def _how(result: Mapping[str, Any]) -> Iterator[str]:
    kind = made_of(result)
    model, before = _named(result)
    yield f"- `ocrslim {'prune' if kind == 'pruned' else 'compress'} {model} {_options(result)}`{before}"
    if kind == "pruned":
        yield from _how_pruned(result)
        return
    if kind == "rewritten":
        yield "- Nothing was learned or rounded: the same weights in other nodes, shown to answer as before."
        if _delivered(result) == "float":
            yield "- That gained no time worth another file, so that the original is given."
        return
    if taught := result.get("budget", {}).get("taught"):
        other = " Not so model.onnx, which is the float model that came in." if _delivered(result) == "float" else ""
        yield _taught(taught, "before anything was quantized") + other
    training, who = result.get("training"), _of_int8(result)
    if training and not result["budget"]["trained"]:
        yield f"- {who}{CALIBRATED}; a training of {training['steps']} steps was tried and not taken."
    elif training:
        yield (
            f"- {who}Ranges calibrated, then trained to answer as the float model does: {training['steps']} steps,"
            f" the best after {training['best_step']}."
        )
    else:
        yield f"- {who}{CALIBRATED}; not trained."
    for reason, count in Counter(item["reason"] for item in result["placement"]["float"]).most_common():
        yield f"- {who}Float, {count} operator{'s' if count > 1 else ''}: {reason}."


def _named(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return how the command names the model, and what that is where the name does not say so."""
    settings, name = result["settings"], result["model"]["name"]
    if settings.get("example"):
        return f"--config_path {_file(settings['example'])}", ", which names the model and its data."
    if settings.get("reference"):
        folder = Path(result["model"].get("path", "pruned/model.onnx")).parent.name
        return folder, f"; `{folder}` is what `ocrslim prune` made of {name}."
    return name, ""


def _how_pruned(result: Mapping[str, Any]) -> Iterator[str]:
    pruning, training = result["pruning"], result["training"]
    groups = pruning["groups"]
    narrower = [group for group in groups if group["after"] < group["before"]]
    cut = sum(group["before"] - group["after"] for group in narrower)
    yield f"- {cut} channels of {len(narrower)} groups of layers cut, {len(groups) - len(narrower)} groups left whole."
    steps = f"{training['steps']} steps, the best after {training['best_step']}"
    read = " and to read as the labels say" if any("labels" in row for row in training.get("history", ())) else ""
    yield (
        f"- Trained to answer as the float model does{read}: {steps}."
        if training["steps"]
        else "- Not trained after that."
    )
    if taught := result.get("taught"):
        yield _taught(taught, "after that")


def _taught(taught: Mapping[str, Any], when: str) -> str:
    return (
        f"- The last layer learned from the labels of {taught['lines']} lines {when}:"
        f" {taught['points']:+.2f} points of accuracy on {taught['held']} others as a float model,"
        f" {taught['folded']:+.2f} with case, spaces and full-width signs folded. It reads as those labels are written."
    )


def _options(result: Mapping[str, Any]) -> str:
    """Return the options of the command line, with the files' names alone."""
    settings = result["settings"]
    said = ["--float"] if made_of(result) == "rewritten" else []
    said.append(f"--target {result['target']}")
    given = {name: settings.get(name) for name in OPTIONS} | {
        "label_ratio": (settings.get("distillation") or {}).get("label_ratio"),
        "accumulate": (settings.get("compute") or {}).get("accumulate"),
        "dict": settings.get("dictionary"),
    }
    left_out = NOT_IN_EXAMPLE if settings.get("example") else ()
    for name, value in given.items():
        if value is not None and value != USUAL.get(name) and name not in left_out:
            shown = _file(value) if name in FILES else f"{value:g}" if isinstance(value, float) else value
            said.append(f"--{name.replace('_', '-')} {shown}")
    if settings.get("ptq_only"):
        said.append("--ptq-only")
    if shape := settings.get("shape"):
        said.append(f"--shape {'x'.join(map(str, shape))}")
    return " ".join(said)


def _measured(result: Mapping[str, Any]) -> Iterator[str]:
    label = made_of(result)
    who = _of_int8(result) if label == "int8" else ""
    for engine, before in result["metrics"]["float"].items():
        after, drop = result["metrics"][label][engine], result["drop"][engine]
        yield f"On {engine}, judged by {_judged_by(result)}, {drop['n']} images:"
        yield ""
        yield f"| | float | {label} |"
        yield "|---|---|---|"
        for name in (name for name in METRICS if isinstance(before.get(name), float)):
            yield f"| {name} | {before[name]:.4f} | {after[name]:.4f} |"
        yield ""
        yield f"{who}{loss_in_words(drop)} (95 % interval {interval_in_words(drop)})."
    yield ""
    yield from _latency(result["latency"])
    which, origin = ("The rewritten file", "original") if label == "rewritten" else ("The file", "trained model")
    for check in result["verify"]:
        yield ""
        where = check.get("engine") or "its engine"
        yield f"{who}{which} in {where} against the {origin}: {check['kind']} {check['value']:.4f} of {check['n']}."


def _latency(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    row = rows[0]
    yield (f"Time of one run, input {'x'.join(map(str, row['shape']))}, {row['cpu']} ({' '.join(row['flags'])}):")
    yield ""
    yield "| engine | threads | model | median, ms | of float on this engine |"
    yield "|---|---|---|---|---|"
    for row in rows:
        version = row["versions"].get(row["engine"].split("-")[0], "")
        name = f"{row['engine']} {version}".strip()
        figures = f"{row['median_ms']:.2f} | {row['ratio_on_engine']:.2f}"
        yield f"| {name} | {row['threads']} | {row['label']} | {figures} |"
    load = max((row.get("other_load") or 0.0) for row in rows)
    if load > 0.1:
        yield ""
        yield f"Other programs kept {load:.1f} cores busy meanwhile: time again on a quiet machine."


def _session(result: Mapping[str, Any]) -> Iterator[str]:
    engine, threads = result["engine"], result["settings"].get("threads")
    options = result.get("session") if engine == result["target"] else None  # else another engine stood in
    if options:
        yield f"As it was judged and, with {threads} threads, timed: with these options of {engine}."
        yield ""
    for name, value in (options or {}).items():
        yield f"- `{name}`: `{value}`"


def _limits(result: Mapping[str, Any]) -> Iterator[str]:
    drop = next(iter(result["drop"].values()))
    if _delivered(result) != "int8":
        yield from _limits_of_float(result)
    if _has_int8(result):
        yield from _limits_of_int8(result)
    if drop.get("against", "labels") != "labels":
        yield "- Judged by agreement with the float model, not by labels: a different answer may be the better one."
    if drop["n"] < FEW:
        yield f"- Judged on {drop['n']} images: the interval above is as much as can be said."
    if made_of(result) != "rewritten":
        yield "- The loss holds for images like those that it was judged on; judge it on your own with `ocrslim eval`."
    yield "- It makes the mistakes of the float model, and misses what that misses."
    for note in result.get("notes", ()):
        yield f"- {note}"


def _limits_of_float(result: Mapping[str, Any]) -> Iterator[str]:
    if _delivered(result) == "pruned":
        yield f"- Cut for {result['target']}: another engine may gain less time by it."
    if _delivered(result) == "rewritten":
        yield f"- Written for {result['target']}: another engine may run it slower than the original."
    if _delivered(result) == "rewritten" and (shape := result["settings"].get("shape")):
        yield f"- It takes images of {shape[0]} x {shape[1]} pixels alone, one at a time."
    yield "- Timed on one CPU: on another the ratio of the times is another."


def _limits_of_int8(result: Mapping[str, Any]) -> Iterator[str]:
    target, who = result["target"], _of_int8(result)
    yield (
        f"- {who}Right on {target}. In another engine the same file may read garbage: nothing here was measured for"
        " that."
    )
    if not result["cpu"]["has_vnni"]:
        yield f"- {who}Timed on a CPU without VNNI; with it, or on ARM, the ratio of the times is another."
    elif target in ("onnxruntime", "openvino"):
        yield f"- {who}Its weights have 8 bits: a CPU without VNNI saturates their sums and misreads."
    if target == "tensorrt":
        yield "- It was never run in TensorRT; all figures are those of ONNX Runtime on a CPU."


def _judged_by(result: Mapping[str, Any]) -> str:
    """Return by what it was judged, with the files' names alone."""
    text = str(result["data"]["judged_by"])
    for before, after in JUDGED_BY:
        if text.startswith(before) and text.endswith(after):
            paths = text[len(before) : len(text) - len(after)]
            return f"{before}{', '.join(_files(result, paths))}{after}"
    return text


def _files(result: Mapping[str, Any], paths: str) -> list[str]:
    """Return the names of files that are listed with commas, which may stand in a path too."""
    whole = {str(result["settings"].get(name)) for name in ("data", "eval")}
    return [_file(path) for path in ([paths] if paths in whole else paths.split(", "))]


def _file(path: Any) -> str:
    return Path(str(path)).name
