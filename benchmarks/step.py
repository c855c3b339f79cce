"""What a training step costs: beside the same step without fake quantizers, and beside its bare arithmetic.

Four steps are run in turns: ours (teacher, student with fake quantizers on fixed integers, losses, gradients of scales
and biases, Adam), the same with the fake quantizers passing floats on, training of all the weights as quantization-
aware training does it, and ours with the channels first in memory. The floor is the multiplications of the step as
backpropagation makes them, counted in the graph, at the rate of a large product of matrices measured in the same turns:
teacher and student forward, and the gradients that something needs: of the sites' inputs and weights, whose scales
learn, and of what lies behind them. *Made* is the share of them that our step makes: the student goes on from what the
teacher made of its float layers, and scales get their gradients from outputs. No engine comes near that rate on all
models. What one does reach stands beside it: as many multiplications as the floor's at the rate of the float model's
pass in OpenVINO, with its fused layers, in the same turns on the same images.

The peak of memory is that of our step in a process of its own. The exit code is 1 where a figure is above what was
asked: :data:`MOST`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir
import torch
from table import markdown

from ocrslim.config.profile import Task
from ocrslim.engines.cpu import cpu_info
from ocrslim.engines.machine import OtherLoad, peak_rss_mb
from ocrslim.engines.session import open_session
from ocrslim.engines.targets import get_target
from ocrslim.engines.timing import timed_shape
from ocrslim.errors import OcrslimError
from ocrslim.graph.executor.graph_module import GraphModule
from ocrslim.graph.importers.onnx import load_onnx
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.graph.inspect import node_macs
from ocrslim.graph.passes.canonical import canonicalize
from ocrslim.learning import scales_and_biases, supervise, supervise_quantized
from ocrslim.slimming.quantization.placement import place
from ocrslim.slimming.quantization.prepare import Quantization, calibrate, prepare
from ocrslim.slimming.quantization.shared import find_float_part
from ocrslim.slimming.training.distillation import Distillation, DistillationSettings
from ocrslim.slimming.training.memory import freed_memory_kept
from ocrslim.slimming.training.precision import FULL

BATCH = {"rec": 8, "det": 2}
SIDE = 1024  # of the matrices whose product gives the rate
ENGINE = "openvino"  # whose passes stand beside the floor
ALL = "all weights"  # learn, as in quantization-aware training
FIRST = "channels first"  # ours with weights and images in the other layout
HEADINGS = (
    *("model", "batch", "ours", "without", "ratio", ALL, FIRST, "floor", "ours / floor", "made"),
    *("openvino's rate", "ours / that", "peak, GB"),
)
MOST = {"ratio": 1.25, "ours / floor": 1.7, "peak, GB": 8.0}
NO_CHANGE = 1e-12  # learning rate: what is timed stays the same


@dataclass(frozen=True)
class Cost:
    """Medians of one model, seconds.

    Args:
        model: its name.
        batch: images.
        steps: name of the step -> seconds.
        floor: bare arithmetic, seconds.
        made: share of its multiplications that our step makes.
        gflops: of the product of matrices, 2 for a multiplication with its addition.
        in_engine: the floor's multiplications at the rate of the float model's pass in OpenVINO, seconds.
        peak: memory of a process that makes our step, GB.
    """

    model: str
    batch: int
    steps: Mapping[str, float]
    floor: float
    made: float
    gflops: float
    in_engine: float
    peak: float = 0.0


@dataclass(frozen=True)
class Subject:
    """A model that steps are made of.

    Args:
        name: of the model.
        path: its file.
        task: det or rec.
        graph: canonical.
        images: of a step, ``[N, 3, H, W]``.
        target: whose placement.
        macs: node -> multiplications of one pass.
    """

    name: str
    path: Path
    task: Task
    graph: ir.Model
    images: torch.Tensor
    target: str
    macs: Mapping[str, int]

    @classmethod
    def load(cls, name: str, batch: int | None, target: str) -> Subject:
        """Open a model; ``None`` is the batch that ``ocrslim compress`` takes.

        Raises:
            OcrslimError: the model can't be used.
        """
        source = open_model(name)
        graph = canonicalize(load_onnx(source.path))
        shape = timed_shape(source.task, batch=batch or BATCH[source.task])
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        macs = node_macs(graph, shape)
        if macs is None:
            raise OcrslimError(f"{name}: its multiplications cannot be counted")
        return cls(source.name, source.path, source.task, graph, images, target, macs)

    def step(self, kind: str) -> Callable[[], None]:
        """Return what makes one step of a kind."""
        own, given = GraphModule(self.graph).eval(), self.images
        quantization = self.prepared()
        calibrate(quantization, [self.images], "minmax")
        learning = _learning(quantization, kind)
        chosen = {id(parameter) for parameter in learning}
        for parameter in quantization.module.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        optimizer = torch.optim.Adam(learning, lr=NO_CHANGE)
        if kind != FIRST:  # as compress does
            FULL.put(quantization.module, own)
            given = FULL.place(self.images)
        criterion = self.criterion(quantization, own, kind)

        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            criterion(given)[0].backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return run

    def criterion(self, quantization: Quantization, teacher: GraphModule, kind: str) -> Distillation:
        """Return the loss of a kind of step; where all weights learn, student and teacher have nothing in common."""
        graph, task, settings = self.graph, self.task, DistillationSettings()
        if kind == ALL:
            return supervise(quantization.module, teacher, graph, task, settings, [])[0]
        return supervise_quantized(quantization, teacher, graph, task, settings, [])[0]

    def prepared(self) -> Quantization:
        """Return a student before its calibration."""
        wanted = get_target(self.target)
        return prepare(GraphModule(self.graph).eval(), place(self.graph, wanted, ()), wanted)

    def arithmetic(self) -> tuple[int, int]:
        """Return the multiplications of our step as backpropagation makes them, and those that it makes.

        A site's scales need the gradients of its input and of its weights; what reads a value that depends on something
        that learns needs that value's. Floats' weights don't learn. Ours makes no gradients of weights where scales get
        theirs at the output, and runs what student and teacher have in common once.
        """
        quantization = self.prepared()
        sites = {site.node: quantization.weights[site.weight_name].at_output for site in quantization.placement.sites}
        shared = find_float_part(quantization, GraphModule(self.graph))
        total, made, moved = 0, 0, set[str]()
        for node in self.graph.graph:
            depends = sum(value is not None and str(value.name) in moved for value in node.inputs)
            gradients = 2 if node.name in sites else depends
            spared = sites.get(str(node.name), False) + (str(node.outputs[0].name) in shared.inside)
            macs = self.macs.get(str(node.name), 0)
            total += macs * (2 + gradients)
            made += macs * (2 + gradients - spared)
            if gradients:
                moved |= {str(value.name) for value in node.outputs}
        return total, made


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
    subject = Subject.load(name, batch, target)
    a, b = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE)
    session = open_session(subject.path, ENGINE, torch.get_num_threads())
    work: dict[str, Callable[[], object]] = {
        **{kind: subject.step(kind) for kind in ("ours", "without", ALL, FIRST)},
        "product": lambda: a @ b,
        "pass": partial(session.run, subject.images.numpy()),
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in work}
    for _ in range(turns):
        for kind, run in work.items():
            began = time.perf_counter()
            run()
            seconds[kind].append(time.perf_counter() - began)
    found = {kind: statistics.median(times[1:]) for kind, times in seconds.items()}
    rate, forward = SIDE**3 / found.pop("product"), found.pop("pass")
    (multiplied, made), once = subject.arithmetic(), sum(subject.macs.values())
    images, in_engine = len(subject.images), multiplied / once * forward
    return Cost(subject.name, images, found, multiplied / rate, made / multiplied, 2e-9 * rate, in_engine)


@freed_memory_kept()
def peak(name: str, batch: int | None, target: str) -> float:
    """Return the peak memory of this process, GB, after some of our steps; 0 where the system doesn't tell."""
    run = Subject.load(name, batch, target).step("ours")
    for _ in range(3):
        run()
    return (peak_rss_mb() or 0.0) / 1024


def peak_of_its_own(name: str, batch: int | None, target: str) -> float:
    """Return what :func:`peak` tells in a fresh process.

    Raises:
        OcrslimError: that process failed.
    """
    asked = [name, "--target", target, "--threads", str(torch.get_num_threads()), "--peak"]
    asked += [] if batch is None else ["--batch", str(batch)]
    done = subprocess.run([sys.executable, __file__, *asked], capture_output=True, text=True, check=False)
    try:
        return float(done.stdout)
    except ValueError as error:
        said = done.stderr.strip().splitlines() or ["no figure"]
        raise OcrslimError(f"{name}: peak memory of a step: {said[-1]}") from error


def _learning(quantization: Quantization, kind: str) -> list[torch.nn.Parameter]:
    """Return what learns in a step, and make the fake quantizers do what that step needs."""
    if kind in ("ours", FIRST):
        return [parameter for group in scales_and_biases(quantization) for parameter in group.parameters]
    if kind == ALL:
        return list(quantization.module.parameters())
    quantization.set_mode("float")
    found = (quantization.bias(site) for site in quantization.placement.sites)
    return [bias for bias in found if bias is not None]


def row(cost: Cost) -> dict[str, str]:
    """Return the figures of a model, by heading."""
    ours, without = cost.steps["ours"], cost.steps["without"]
    cells = (
        *(cost.model, str(cost.batch), f"{ours:.3f}", f"{without:.3f}", f"{ours / without:.2f}"),
        *(f"{cost.steps[ALL]:.3f}", f"{cost.steps[FIRST]:.3f}"),
        *(f"{cost.floor:.3f}", f"{ours / cost.floor:.2f}", f"{cost.made:.2f}"),
        *(f"{cost.in_engine:.3f}", f"{ours / cost.in_engine:.2f}", f"{cost.peak:.1f}"),
    )
    return dict(zip(HEADINGS, cells, strict=True))


def misses(cost: Cost) -> list[str]:
    """Return what a model takes more of than was asked."""
    said = row(cost)
    return [
        f"{cost.model}: {name} {said[name]}, {most:g} asked" for name, most in MOST.items() if float(said[name]) > most
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all official models")
    parser.add_argument("--batch", type=int, metavar="N", help="images; default: what compress takes")
    parser.add_argument("--target", default="openvino", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=6, help="the first is not counted; default: %(default)s")
    parser.add_argument("--peak", action="store_true", help="print the peak memory of our step, GB, and nothing else")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    load = OtherLoad()
    names = options.models or MODELS
    try:
        if options.peak:
            print(max(peak(name, options.batch, options.target) for name in names))
            return 0
        costs = [measure(name, options.batch, options.target, max(2, options.turns)) for name in names]
        others = load.cores() or 0.0
        costs = [
            replace(cost, peak=peak_of_its_own(name, options.batch, options.target))
            for name, cost in zip(names, costs, strict=True)
        ]
    except OcrslimError as error:
        print(f"step.py: {error}", file=sys.stderr)
        return 2
    cpu, rates = cpu_info(), [cost.gflops for cost in costs]
    print(markdown([row(cost) for cost in costs], []))
    print(
        f"seconds of a step; the product of matrices at {min(rates):.0f} to {max(rates):.0f} GFLOP/s;"
        f" {cpu.model}, {' '.join(cpu.flags)}; {options.threads} threads; torch {torch.__version__};"
        f" others used {others:.1f} cores"
    )
    missed = [line for cost in costs for line in misses(cost)]
    for line in missed:
        print(f"step.py: {line}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
