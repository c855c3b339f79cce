"""Pruning alone: what a smaller float model loses, how fast it is, and which engines load it.

    python benchmarks/prune.py --data FOLDER --out DIR [--models NAME ...] [--speedup 1.3] [--target openvino]

``FOLDER`` holds ``det/labels/{train,val}.txt`` and ``rec/labels/{train,val}.txt``. Each model is pruned as ``ocrslim
prune`` does it, into ``DIR/MODEL-TARGET-SPEEDUP``; a folder that holds a result is read, a stopped run goes on. The
smaller file is then loaded in every engine, and where the original has a Paddle twin written into that and run in
Paddle Inference; what an engine answers is compared with the answers of ONNX Runtime on rendered text.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from table import BUSY, markdown

from ocrslim.engines.session import ENGINES, InferenceSession, open_session
from ocrslim.errors import OcrslimError
from ocrslim.export.deploy import export_folder, rendered_batches
from ocrslim.export.paddle_source import has_twin
from ocrslim.export.verify import verify_det, verify_rec
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.pruned import PruneSettings, prune_and_distil

DEFAULT = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec")
HEADINGS = (
    "model",
    "engine",
    "cost left",
    "untrained, points",
    "points (95 %)",
    "folded",
    "times float",
    "training, minutes",
)
REQUIRED = 0.99  # mask IoU or share of frames that two float engines must agree on
MOST_LOST = 1.0  # points
MOST_MINUTES = 30  # of training
NEARLY = 0.97  # of the speed-up: the clock that cut and the one that judged are not the same minutes
PADDLE = "paddle"
TRAINING = ("train", "teach the last layer")  # stages of a run that teach the smaller model


def main(arguments: Sequence[str] | None = None) -> int:
    """Prune, compare, print a table and what was missed; return the exit code: 1 where anything was."""
    options = _options(arguments)
    rows, results, missed = [], [], list[str]()
    try:
        for name in options.models:
            folder = options.out / f"{name}-{options.target}-{options.speedup:g}"
            result = pruned(name, folder, options)
            agreed = dict(agreements(folder, result, options.threads))
            missed += [f"{name}: {said}" for said in misses(result, agreed, options.speedup)]
            rows.append(cells(result) | {"the same as in onnxruntime": told(agreed)})
            results.append(result)
    except OcrslimError as error:
        print(f"prune.py: {error}", file=sys.stderr)
        return 2
    print(markdown(rows, results))
    for line in missed:
        print(f"missed: {line}")
    return int(bool(missed))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="with det/labels and rec/labels")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the runs")
    parser.add_argument("--models", nargs="+", default=DEFAULT, choices=MODELS, metavar="NAME", help="default: v4")
    parser.add_argument("--speedup", type=float, default=1.3, help="default: %(default)s")
    parser.add_argument("--target", choices=ENGINES, default="openvino", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="default: those of ocrslim prune")
    return parser.parse_args(arguments)


def pruned(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of a pruning, made unless it is there.

    Raises:
        OcrslimError: it failed.
    """
    path = folder / "result.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    labels = options.data / MODELS[name].task / "labels"
    settings = PruneSettings(
        options.target,
        folder,
        speedup=options.speedup,
        data=labels / "train.txt",
        eval=labels / "val.txt",
        steps=options.steps,
        threads=options.threads,
    )
    return prune_and_distil(name, settings, Console(stderr=True))


def agreements(folder: Path, result: dict[str, Any], threads: int) -> Iterator[tuple[str, float]]:
    """Yield each other engine and how far its answers are those of ONNX Runtime, 0 to 1.

    Args:
        folder: of the pruning.
        result: its ``result.json``.
        threads: of each engine.

    Raises:
        OcrslimError: an engine can't load the file.
    """
    source = open_model(folder)
    verify = verify_rec if source.task == "rec" else verify_det
    reference = open_session(folder / "model.onnx", ENGINES[0], threads)

    def share(session: InferenceSession) -> float:
        return verify(reference.run, session, rendered_batches(source), REQUIRED).value

    for engine in ENGINES[1:]:
        yield engine, share(open_session(folder / "model.onnx", engine, threads))
    if not has_twin(result["model"]["name"], result["model"]["sha256"]):
        return
    with tempfile.TemporaryDirectory(prefix="ocrslim-paddle") as written:
        export_folder(folder, PADDLE, out=Path(written), quantized=False)
        yield PADDLE, share(open_session(Path(written), PADDLE, threads))


def misses(result: dict[str, Any], agreed: dict[str, float], speedup: float) -> list[str]:
    """Return what a pruning was asked for and did not reach, in words.

    Args:
        result: its ``result.json``.
        agreed: see :func:`agreements`.
        speedup: that was asked for.
    """
    engine = result["engine"]
    lost, minutes = result["drop"][engine]["points"], _training_minutes(result)
    times = 1 / _latency(result)["ratio_on_engine"]
    found = [f"{name} answers otherwise, {share:.4f}" for name, share in agreed.items() if share < REQUIRED]
    if lost > MOST_LOST:
        found.append(f"{lost:.2f} points lost, at most {MOST_LOST} asked")
    if minutes > MOST_MINUTES:
        found.append(f"{minutes:.0f} minutes of training, at most {MOST_MINUTES} asked")
    if times < NEARLY * speedup:
        found.append(f"{times:.2f} times as fast, {speedup:g} asked")
    return found


def _latency(result: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any]
    row = next(row for row in result["latency"] if (row["label"], row["engine"]) == ("pruned", result["engine"]))
    return row


def _training_minutes(result: dict[str, Any]) -> float:
    return sum(float(stage["seconds"]) for stage in result["stages"] if stage["name"] in TRAINING) / 60


def _folded(result: dict[str, Any]) -> str:
    """Return the points that a recogniser gained or lost with case, spaces and full-width signs folded, as a cell."""
    before, after = (result["metrics"][label][result["engine"]].get("loose") for label in ("float", "pruned"))
    return f"{100 * (after['accuracy'] - before['accuracy']):+.2f}" if before and after else ""


def told(agreed: dict[str, float]) -> str:
    """Return the engines and their shares as a cell."""
    return ", ".join(f"{engine} {share:.4f}" for engine, share in agreed.items())


def cells(result: dict[str, Any]) -> dict[str, str]:
    """Return what is shown of a pruning, by heading."""
    engine = result["engine"]
    row, drop = _latency(result), result["drop"][engine]
    busy = "~" if (row["other_load"] or 0.0) > BUSY else ""
    texts = (
        *(result["model"]["name"], engine, f"{result['pruning']['ratio']:.2f}"),
        f"{0.0 - result['pruning']['untrained']['points']:+.2f}",
        f"{0.0 - drop['points']:+.2f} ({0.0 - drop['high']:+.2f} to {0.0 - drop['low']:+.2f})",
        _folded(result),
        *(f"{busy}{1 / row['ratio_on_engine']:.2f}", f"{_training_minutes(result):.1f}"),
    )
    return dict(zip(HEADINGS, texts, strict=True))


if __name__ == "__main__":
    sys.exit(main())
