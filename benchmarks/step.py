"""What a training step costs: beside the same step without fake quantizers, and beside its bare arithmetic.

Four steps are run in turns: ours (teacher, student with fake quantizers on fixed integers, losses, gradients of scales
and biases, Adam), the same with the fake quantizers passing floats on, training of all the weights as quantization-
aware training does it, and ours with the channels first in memory. The floor is the multiplications of the step,
counted in the graph, at the rate of a large product of matrices measured in the same turns: teacher and student
forward, gradients of the student's inputs, and of the weights whose scales learn: four times the products of one pass.
No engine comes near that rate on all models. What one does reach stands beside it: four times the float model's pass in
OpenVINO, with its fused layers, in the same turns on the same images.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from table import markdown

from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.machine import OtherLoad, peak_rss_mb
from ocrslim.engines.session import open_session
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import SHAPES
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.graph.inspect import node_macs
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.graph.points import distillation_points
from ocrslim.learning import scales_and_biases
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare
from ocrslim.slimming.training.distillation import Distillation, DistillationSettings
from ocrslim.slimming.training.memory import freed_memory_kept
from ocrslim.slimming.training.precision import FULL

BATCH = {"rec": 8, "det": 2}
SIDE = 1024  # of the matrices whose product gives the rate
PASSES = 4  # of as many products: teacher, student, gradients of inputs, gradients of weights
ENGINE = "openvino"  # whose passes stand beside the floor
FIRST = "channels first"  # ours with weights and images in the other layout
HEADINGS = (
    *("model", "batch", "ours", "without", "ratio", "all weights", FIRST, "floor", "ours / floor", "GFLOP/s"),
    *("4 passes in openvino", "ours / those"),
)
NO_CHANGE = 1e-12  # learning rate: what is timed stays the same


@dataclass(frozen=True)
class Cost:
    """Medians of one model, seconds.

    Args:
        model: its name.
        batch: images.
        steps: name of the step -> seconds.
        floor: bare arithmetic, seconds.
        gflops: of the product of matrices, 2 for a multiplication with its addition.
        passes: as many passes of the float model in OpenVINO as the floor counts, seconds.
    """

    model: str
    batch: int
    steps: Mapping[str, float]
    floor: float
    gflops: float
    passes: float


@freed_memory_kept()  # as while a trainer runs
def measure(name: str, batch: int | None, target: str, turns: int) -> Cost:
    """Time the steps of a model in turns.

    Args:
        name: official name, ONNX file or folder.
        batch: images; ``None`` is what ``ocrslim compress`` takes.
        target: whose placement.
        turns: of which the first is not counted.

    Raises:
        OcrslimError: the model can't be used.
    """
    source = open_model(name)
    graph = canonicalize(load_onnx(source.path))
    batch = batch or BATCH[source.task]
    shape = (batch, 3, *SHAPES[source.task])
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    macs = node_macs(graph, shape)
    if macs is None:
        raise OcrslimError(f"{name}: its multiplications cannot be counted")
    points = distillation_points(graph)

    def step(kind: str) -> Callable[[], None]:
        wanted = get_target(target)
        quantization = prepare(GraphModule(graph).eval(), place(graph, wanted, ()), wanted)
        calibrate(quantization, [images], "minmax")
        learning = _learning(quantization, kind)
        chosen = {id(parameter) for parameter in learning}
        for parameter in quantization.module.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        optimizer = torch.optim.Adam(learning, lr=NO_CHANGE)
        own, given = GraphModule(graph).eval(), images
        if kind != FIRST:  # as compress does
            FULL.put(quantization.module, own)
            given = FULL.place(images)
        criterion = Distillation(
            quantization.module, own, source.task, points.logits, points.features, DistillationSettings()
        )

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            criterion(given)[0].backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return run

    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    session = open_session(source.path, ENGINE, torch.get_num_threads())
    work: dict[str, Callable[[], object]] = {
        **{kind: step(kind) for kind in ("ours", "without", "all weights", FIRST)},
        "product": lambda: a @ b,
        "pass": partial(session.run, images.numpy()),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in work}
    for _ in range(turns):
        for kind, run in work.items():
            began = time.perf_counter()
            run()
            seconds[kind].append(time.perf_counter() - began)
    found = {kind: statistics.median(times[1:]) for kind, times in seconds.items()}
    rate, forward = SIDE**3 / found.pop("product"), found.pop("pass")
    return Cost(source.name, batch, found, PASSES * sum(macs.values()) / rate, 2e-9 * rate, PASSES * forward)


def _learning(quantization: Quantization, kind: str) -> list[torch.nn.Parameter]:
    """Return what learns in a step, and make the fake quantizers do what that step needs."""
    if kind in ("ours", FIRST):
        return [parameter for group in scales_and_biases(quantization) for parameter in group.parameters]
    if kind == "all weights":
        return list(quantization.module.parameters())
    quantization.set_mode("float")
    found = (quantization.bias(site) for site in quantization.placement.sites)
    return [bias for bias in found if bias is not None]


def row(cost: Cost) -> dict[str, str]:
    """Return the figures of a model, by heading."""
    ours, without = cost.steps["ours"], cost.steps["without"]
    cells = (
        *(cost.model, str(cost.batch), f"{ours:.3f}", f"{without:.3f}", f"{ours / without:.2f}"),
        *(f"{cost.steps['all weights']:.3f}", f"{cost.steps[FIRST]:.3f}"),
        *(f"{cost.floor:.3f}", f"{ours / cost.floor:.2f}", f"{cost.gflops:.0f}"),
        *(f"{cost.passes:.3f}", f"{ours / cost.passes:.2f}"),
    )
    return dict(zip(HEADINGS, cells, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all official models")
    parser.add_argument("--batch", type=int, metavar="N", help="images; default: what compress takes")
    parser.add_argument("--target", default="openvino", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=6, help="the first is not counted; default: %(default)s")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    load = OtherLoad()
    try:
        costs = [
            measure(name, options.batch, options.target, max(2, options.turns)) for name in options.models or MODELS
        ]
    except OcrslimError as error:
        print(f"step.py: {error}", file=sys.stderr)
        return 2
    cpu = cpu_info()
    print(markdown([row(cost) for cost in costs], []))
    print(
        f"seconds of a step; {cpu.model}, {' '.join(cpu.flags)}; {options.threads} threads; torch {torch.__version__};"
        f" others used {load.cores() or 0.0:.1f} cores; peak memory {(peak_rss_mb() or 0.0) / 1024:.1f} GB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
