"""Finished int8 models against the original float file in ONNX Runtime and in their own engine, at batches of 1 and 6.

    python benchmarks/speed.py RUNS/* [--threads 2] [--batches 1 6] [--seconds 5]

``RUNS`` are output folders of ``ocrslim compress``. All files of a row are timed in turns at the same moment, a
recogniser on lines of 48x320, a detector on pages of 640x640 and one at a time. What is shown is how many times as fast
int8 is; a ``~`` marks a time from a machine that others kept busy. The exit code is 1 where int8 is slower than float
of its engine, loses more than half a point, or where no run of a model reaches the :data:`ASKED` times of float in ONNX
Runtime: give the runs of both engines together. What misses is told.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import BUSY, markdown, read_results

from ocrslim.engines.session import ENGINES
from ocrslim.engines.timing import BenchRow, bench, timed_shape
from ocrslim.errors import OcrslimError
from ocrslim.graph.importers.source import open_model

HEADINGS = ("model", "engine", "points", "batch", "float in onnxruntime, ms", "int8, ms", "of onnxruntime", "of float")
ORIGINAL, INT8 = "float", "int8"
ASKED = {  # times as fast as the original file in ONNX Runtime, on the better engine
    **dict.fromkeys(("PP-OCRv4_mobile_det", "PP-OCRv5_mobile_det", "PP-OCRv6_small_det"), 2.0),
    **dict.fromkeys(("PP-OCRv3_mobile_rec", "PP-OCRv4_mobile_rec", "PP-OCRv5_mobile_rec"), 2.0),
    **dict.fromkeys(("PP-OCRv3_mobile_det", "PP-OCRv6_small_rec"), 1.6),
    **dict.fromkeys(("PP-OCRv6_tiny_det", "PP-OCRv6_tiny_rec"), 1.2),
}
MOST_LOST = 0.5  # points


@dataclass(frozen=True)
class Speed:
    """One model at one batch.

    Args:
        model: its official name.
        engine: that int8 was made for.
        points: gained (+) or lost on the images that judged it.
        batch: images in a run.
        original: float in ONNX Runtime.
        own: float in the engine of int8.
        int8: the int8 file in that engine.
    """

    model: str
    engine: str
    points: float
    batch: int
    original: BenchRow
    own: BenchRow
    int8: BenchRow

    @property
    def against_original(self) -> float:
        """How many times as fast int8 is as float in ONNX Runtime."""
        return 1.0 / self.int8.ratio

    @property
    def against_own(self) -> float:
        """How many times as fast int8 is as float in its own engine."""
        return 1.0 / self.int8.ratio_on_engine

    def cells(self) -> dict[str, str]:
        """Return what is shown, by heading."""
        busy = "~" if (self.int8.other_load or 0.0) > BUSY else ""
        told = (self.model, self.engine, f"{self.points:+.2f}", str(self.batch), f"{self.original.median_ms:.1f}")
        times = (f"{self.int8.median_ms:.1f}", f"{busy}{self.against_original:.2f}", f"{busy}{self.against_own:.2f}")
        return dict(zip(HEADINGS, (*told, *times), strict=True))


def measure(folder: Path, result: dict[str, Any], batch: int, threads: int, seconds: float) -> Speed:
    """Time one run's model.

    Args:
        folder: of the run.
        result: its ``result.json``.
        batch: images in a run.
        threads: of each engine.
        seconds: for all files together, at least.

    Raises:
        OcrslimError: the original is gone, or a file can't be run.
    """
    came_in = result["settings"].get("reference") or result["model"]["path"]  # of a pruned model the whole one
    source, engine = open_model(came_in), result.get("engine", result["target"])
    engines = tuple(dict.fromkeys((ENGINES[0], engine)))
    files: list[tuple[str | Path, Path]] = [(ORIGINAL, source.path), (INT8, folder / "model.onnx")]
    rows = bench(files, engines, threads, timed_shape(source.task, batch=batch), min_seconds=seconds)
    found = {(row.label, row.engine): row for row in rows}
    points = 0.0 - result["drop"][engine]["points"]
    original, own, int8 = (found[key] for key in ((ORIGINAL, ENGINES[0]), (ORIGINAL, engine), (INT8, engine)))
    return Speed(result["model"]["name"], engine, points, batch, original, own, int8)


def misses(found: Sequence[Speed]) -> list[str]:
    """Return what is not as fast, or not as good, as was asked."""
    told = []
    for speed in found:
        name = f"{speed.model} on {speed.engine}, batch {speed.batch}"
        if speed.against_own < 1.0:
            told.append(f"{name}: {speed.against_own:.2f} times as fast as float there")
        if speed.points < -MOST_LOST:
            told.append(f"{name}: {-speed.points:.2f} points lost, {MOST_LOST} allowed")
    for model, batch in dict.fromkeys((speed.model, speed.batch) for speed in found):
        best = max(speed.against_original for speed in found if (speed.model, speed.batch) == (model, batch))
        if best < ASKED.get(model, 0.0):
            told.append(f"{model}, batch {batch}: {best:.2f} times float in onnxruntime, {ASKED[model]} asked")
    return told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of ocrslim compress")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 6], help="of recognisers; default: 1 6")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a row, at least; default: %(default)s")
    options = parser.parse_args(arguments)
    found = []
    try:
        for folder in options.folders:
            (result,) = read_results([folder])
            for batch in options.batches if result["model"]["task"] == "rec" else [1]:
                found.append(measure(folder, result, batch, options.threads, options.seconds))
                print(" | ".join(found[-1].cells().values()), file=sys.stderr, flush=True)
    except OcrslimError as error:
        print(f"speed.py: {error}", file=sys.stderr)
        return 2
    print(markdown([speed.cells() for speed in found], [{"latency": [speed.int8.to_json()]} for speed in found]))
    missed = misses(found)
    for line in missed:
        print(f"speed.py: {line}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
