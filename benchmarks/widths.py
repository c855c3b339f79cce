"""What a recogniser takes for lines of many widths, as text lines are, where ``ocrslim bench`` times one shape.

OpenVINO makes its kernels for each width that is new to it, which takes longer than to read the line: int8 then gains
nothing. Widths rounded up to a multiple, the rest padded, come again. Every model reads the same lines in a session of
its own, step after step in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.session import ENGINES, open_session
from ocrslim.errors import OcrslimError
from ocrslim.graph.importers.source import ModelSource, open_model

WIDTHS = (320, 1000)  # pixels, of lines 48 high


def milliseconds(source: ModelSource, engine: str, threads: int, widths: Sequence[int]) -> float:
    """Return the mean time of a line, ms, of lines of some widths, in a session that has seen none."""
    session = open_session(source.path, engine, threads)
    rng = np.random.default_rng(0)
    lines = [rng.random((1, 3, 48, width), np.float32) for width in widths]
    began = time.perf_counter()
    for line in lines:
        session.run(line)
    return 1e3 * (time.perf_counter() - began) / len(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="recognisers")
    parser.add_argument("--engine", choices=ENGINES, default="openvino", help="default: %(default)s")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 8, 32, 64], metavar="N", help="pixels")
    parser.add_argument("--lines", type=int, default=150, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=2, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    drawn = np.random.default_rng(0).integers(*WIDTHS, options.lines)
    load, found = OtherLoad(), {}
    try:
        sources = [open_model(model) for model in options.models]
        for turn in range(options.turns):
            for place, source in enumerate(sources):
                for step in options.steps:
                    widths = [int(-(-width // step) * step) for width in drawn]
                    taken = milliseconds(source, options.engine, options.threads, widths)
                    found[place, step, turn] = taken
    except OcrslimError as error:
        print(f"widths.py: {error}", file=sys.stderr)
        return 2
    table = Table(
        title=f"Milliseconds a line on {options.engine}, {options.lines} lines of {WIDTHS[0]} to {WIDTHS[1]} pixels",
        caption=f"{cpu_info().model}, {options.threads} threads, {options.engine}"
        f" {versions().get(options.engine)}; others used {load.cores() or 0.0:.1f} cores",
    )
    for column in ("model", *(f"widths in steps of {step}" for step in options.steps)):
        table.add_column(column, justify="left" if column == "model" else "right")
    for place, model in enumerate(options.models):
        times = ([found[place, step, turn] for turn in range(options.turns)] for step in options.steps)
        table.add_row(model, *(f"{statistics.median(each):.1f}" for each in times))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
