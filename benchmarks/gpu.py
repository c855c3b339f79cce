"""Images a second of a training step on a GPU, in full and in half types; on the CPU where there is none.

    python benchmarks/gpu.py [MODEL ...] [--device auto|cpu|cuda] [--batch 8 64] [--types off bf16 fp16]

A step is that of ``ocrslim compress``: teacher, student with fake quantizers on fixed integers, the losses, gradients
of scales and biases, the bound of their norm, Adam. Images are made on the device before, so that the loader is not
timed; ``benchmarks/scaling.py`` tells what that costs. Types and batches are timed one after the other, each alone on
the device. The loss is shown too, which says what the type does to it: the same images, the same model.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from rich.console import Console
from rich.table import Table

from ocrslim.config.profile import Task
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.machine import OtherLoad, peak_rss_mb
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import timed_shape
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.learning import scales_and_biases, supervise_quantized
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import calibrate, prepare
from ocrslim.slimming.training.distillation import DistillationSettings
from ocrslim.slimming.training.precision import AMP, DEVICES, Precision, open_precision, pick_device

MODELS = ("PP-OCRv6_tiny_rec", "PP-OCRv4_mobile_rec", "PP-OCRv4_mobile_det")
TARGET = "openvino"  # whose placement is trained
NO_CHANGE = 1e-12  # learning rate: what is timed stays the same
CLIP_NORM = 1.0


@dataclass(frozen=True)
class Row:
    """One model, type and batch.

    Args:
        model: its name.
        kind: ``off`` for full precision, ``bf16`` or ``fp16``.
        batch: images.
        seconds: of a step, the median; ``None`` where the device's memory is too small.
        peak_mb: of the device's memory during a step, MiB; of the process so far where the device is the CPU.
        loss: of the last step.
    """

    model: str
    kind: str
    batch: int
    seconds: float | None
    peak_mb: float | None
    loss: float | None


def measure(name: str, device: torch.device, kinds: Sequence[str], batches: Sequence[int], turns: int) -> list[Row]:
    """Time the steps of a model.

    Args:
        name: official name, ONNX file or folder.
        device: where.
        kinds: types of the products, :data:`ocrslim.slimming.training.precision.AMP` without ``auto``.
        batches: numbers of images.
        turns: steps, of which the first is not counted.

    Raises:
        OcrslimError: the model can't be used, or a type is not for this device.
    """
    source = open_model(name)
    graph = canonicalize(load_onnx(source.path))
    rows: list[Row] = []
    for batch in batches:
        for kind in kinds:
            timed = _timed(graph, source.task, open_precision(kind, device), batch, turns)
            rows.append(Row(source.name, kind, batch, *timed))
    return rows


def _timed(
    graph: ir.Model, task: Task, precision: Precision, batch: int, turns: int
) -> tuple[float | None, float | None, float | None]:
    """Return the median seconds of a step, the peak of memory and the loss; nothing where memory is too small.

    Nothing else lies on the device meanwhile.
    """
    device, seconds, peak, loss = precision.device, [], 0.0, 0.0
    try:
        run = _step(graph, task, precision, batch)
        for _ in range(turns):
            _settle(device)
            began = time.perf_counter()
            loss = run()
            _settle(device)
            seconds.append(time.perf_counter() - began)
            peak = max(peak, _peak(device))
    except torch.OutOfMemoryError:
        return None, None, None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return statistics.median(seconds[1:]), peak, loss


def _step(graph: ir.Model, task: Task, precision: Precision, batch: int) -> Callable[[], float]:
    """Return a function that makes one step and returns its loss."""
    shape = timed_shape(task, batch=batch)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    target = get_target(TARGET)
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    calibrate(quantization, [images[:1]], "minmax")
    groups = scales_and_biases(quantization)  # fixes the integers, on the CPU as in a run
    student, teacher = quantization.module, GraphModule(graph).eval()
    precision.put(student, teacher)
    learning = [parameter for group in groups for parameter in group.parameters]
    chosen = {id(parameter) for parameter in learning}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    optimizer = torch.optim.Adam(learning, lr=NO_CHANGE)
    criterion, _ = supervise_quantized(quantization, teacher, graph, task, DistillationSettings(), [])
    images = precision.place(images)

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        with precision.autocast():
            loss = criterion(images)[0]
        precision.backward(loss)
        precision.step(optimizer, learning, CLIP_NORM)
        return float(loss.detach())

    return run


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> float:
    """Return the largest memory since the last call on a GPU, or of the process so far, MiB."""
    if device.type != "cuda":
        return peak_rss_mb() or 0.0
    peak = torch.cuda.max_memory_allocated(device) / (1 << 20)
    torch.cuda.reset_peak_memory_stats(device)
    return float(peak)


def table(rows: Sequence[Row], device: torch.device, threads: int, load: float | None) -> Table:
    """Return the figures as a table."""
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    else:
        where = f"{cpu_info().model}, {' '.join(cpu_info().flags)}; {threads} threads; no GPU"
    shown = Table(
        title="A training step",
        caption=f"{where}; torch {torch.__version__}; other programs used {load or 0.0:.1f} cores",
    )
    for column in ("model", "type", "batch", "seconds", "images/s", "peak GB", "loss"):
        shown.add_column(column, justify="left" if column in ("model", "type") else "right", no_wrap=True)
    for row in rows:
        figures = ["memory too small", "", "", ""]
        if row.seconds is not None and row.peak_mb is not None and row.loss is not None:
            figures = [f"{row.seconds:.4f}", f"{row.batch / row.seconds:.1f}", f"{row.peak_mb / 1024:.2f}"]
            figures.append(f"{row.loss:.4g}")
        shown.add_row(row.model, "f32" if row.kind == "off" else row.kind, str(row.batch), *figures)
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="default: %(default)s")
    parser.add_argument("--types", nargs="+", choices=AMP[1:], metavar="TYPE", help="default: what the device has")
    parser.add_argument("--batch", type=int, nargs="+", metavar="N", help="images; default: 8, on a GPU 8 and 64")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=6, help="the first is not counted; default: %(default)s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows, load = [], OtherLoad()
    try:
        device = pick_device(options.device)
        gpu = device.type == "cuda"
        kinds = options.types or (("off", "bf16", "fp16") if gpu else ("off",))
        for name in options.models or MODELS:
            rows += measure(name, device, kinds, options.batch or ((8, 64) if gpu else (8,)), max(2, options.turns))
    except OcrslimError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    Console().print(table(rows, device, options.threads, load.cores()), crop=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
