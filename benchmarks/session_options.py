"""What the engines' options do to the time of a float model: ours beside others, each pair in turns.

    python benchmarks/session_options.py [MODEL ...] [--threads 2] [--rounds 30]

The model is the one of ``ocrslim compress --float``, run with the options of
:func:`ocrslim.engines.options.session_options`, and beside it with one of them changed; the last row has the input's
size constant in place of open. Above 1 the other choice is slower. What flushes tiny numbers to zero
(``session.set_denormal_as_zero``, ``CPU_DENORMALS_OPTIMIZATION``) is not among them: it changes the arithmetic of the
whole process, of what runs beside it too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnxruntime
import openvino
from table import markdown

from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.machine import OtherLoad
from ocrslim.engines.onnxruntime import as_session_options
from ocrslim.engines.options import Options, session_options
from ocrslim.engines.probe import random_batch
from ocrslim.engines.session import ENGINES, InferenceSession
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import time_rounds, timed_shape
from ocrslim.errors import OcrslimError
from ocrslim.export.onnx_float import export_float, with_shape
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize

Run = Callable[[np.ndarray], Any]

MODELS = ("PP-OCRv4_mobile_det", "PP-OCRv4_mobile_rec", "PP-OCRv6_tiny_det")
CONSTANT = "constant input size"
HEADINGS = ("model", "engine", "changed", "of our time")
OTHERS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "onnxruntime": (
        {"graph_optimization_level": "ORT_ENABLE_EXTENDED"},
        {"graph_optimization_level": "ORT_ENABLE_BASIC"},
        {"execution_mode": "ORT_PARALLEL", "inter_op_num_threads": 2},
        {"enable_cpu_mem_arena": False},
        {"enable_mem_pattern": False},
        {"session.intra_op.allow_spinning": "0"},
    ),
    "openvino": (
        {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": 1},
        {"ENABLE_CPU_PINNING": False},
        {"ENABLE_HYPER_THREADING": False},
    ),
}


def open_onnxruntime(path: Path, options: Options) -> Run:
    """Return a function that runs a file in ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(path), as_session_options(options), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def open_openvino(path: Path, options: Options) -> Run:
    """Return a function that runs a file in OpenVINO."""
    request = openvino.Core().compile_model(str(path), "CPU", dict(options)).create_infer_request()
    return lambda batch: request.infer({0: batch}, share_inputs=True)


OPEN: Mapping[str, Callable[[Path, Options], Run]] = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}


def ratio(usual: Run, other: Run, batch: np.ndarray, rounds: int) -> float:
    """Return the median over rounds of the other's time to the usual one's."""
    sessions = [cast("InferenceSession", SimpleNamespace(run=run)) for run in (usual, other)]
    times = time_rounds(sessions, batch, rounds)
    return float(np.median(times[:, 1] / times[:, 0]))


def measure(name: str, engine: str, threads: int, rounds: int) -> list[dict[str, str]]:
    """Return the table's rows of one model on one engine.

    Args:
        name: official name, ONNX file or folder.
        engine: one of :data:`OTHERS`.
        threads: of a run.
        rounds: of each pair.

    Raises:
        OcrslimError: the model can't be used.
    """
    source = open_model(name)
    shape = timed_shape(source.task)
    graph, target = canonicalize(load_onnx(source.path)), get_target(engine)
    batch, usual = random_batch(shape), session_options(engine, threads)
    rows = []
    with tempfile.TemporaryDirectory(prefix="ocrslim-") as folder:
        path, constant = Path(folder) / "model.onnx", Path(folder) / "constant.onnx"
        export_float(graph, target, path)
        export_float(with_shape(graph, shape), target, constant)
        ours = OPEN[engine](path, usual)
        for changed in OTHERS[engine]:
            told = ", ".join(f"`{option}={value}`" for option, value in changed.items())
            other = OPEN[engine](path, {**usual, **changed})
            rows.append((source.name, engine, told, f"{ratio(ours, other, batch, rounds):.2f}"))
        other = OPEN[engine](constant, usual)
        rows.append((source.name, engine, CONSTANT, f"{ratio(ours, other, batch, rounds):.2f}"))
    return [dict(zip(HEADINGS, row, strict=True)) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", default=MODELS, metavar="MODEL", help="default: three of the official ones"
    )
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: both")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=30, metavar="N", help="default: %(default)s")
    options = parser.parse_args(arguments)
    load, rows = OtherLoad(), []
    try:
        for name in options.models:
            for engine in options.engines:
                rows += measure(name, engine, options.threads, options.rounds)
    except OcrslimError as error:
        print(f"session_options.py: {error}", file=sys.stderr)
        return 2
    print(markdown(rows, []))
    cpu, known = cpu_info(), ", ".join(f"{name} {versions().get(name)}" for name in options.engines)
    told = f"{cpu.model} ({' '.join(cpu.flags)}), {options.threads} threads; {known}"
    print(f"\n{told}; others used {load.cores() or 0.0:.1f} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
