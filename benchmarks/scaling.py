"""Images in a second of one process and of several, one thread each: training of a recogniser, gloo.

    python benchmarks/scaling.py [--model PP-OCRv4_mobile_rec] [--processes 2] [--steps 5] [--repeats 12]

A turn trains on the same batches twice: all processes together, and rank 0 alone while the others wait for it; which
comes first changes with each turn. They follow each other within seconds, since the clock and the neighbours of a
shared machine move a single figure by a tenth from minute to minute; the median of the turns' ratios counts, as in
``ocrslim bench``. All turns have the same batches, since lines of a width that was not there before ask for memory and
kernels of their own. What is timed is the trainer itself, with the losses and the batches of ``ocrslim compress``: 8
lines a process and step. Beside it stands what the parts cost alone: the all-reduce of the gradients, and the making of
a batch. The cores that other programs kept busy are shown; a figure taken on a busy machine is preliminary.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODEL = "PP-OCRv4_mobile_rec"
LINES = 200
AVERAGES = 30


def main() -> int:
    """Measure each number of processes and print a table."""
    options = _options()
    if options.worker:
        return worker(options)
    from ocrslim.engines.cpu import cpu_info, versions
    from ocrslim.engines.machine import OtherLoad

    runs: dict[int, dict[str, Any]] = {}
    for count in options.processes:
        load, began, own = OtherLoad(), time.monotonic(), _children()
        runs[count] = measure(count, options)
        others = (load.cores() or 0.0) - (_children() - own) / (time.monotonic() - began)
        runs[count]["others"] = max(0.0, others)
    facts: dict[str, Any] = {"cpu": cpu_info().model, "flags": " ".join(cpu_info().flags), "versions": versions()}
    facts |= {"threads": options.threads, "steps": options.steps, "model": options.model, "cores": os.cpu_count()}
    options.out.write_text(json.dumps(facts | {"runs": {str(k): v for k, v in runs.items()}}, indent=1), "utf-8")
    print(table(runs, facts))
    return 0


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="official name of a recogniser; default: %(default)s")
    parser.add_argument("--processes", type=_several, nargs="+", default=[2], help="default: 2")
    parser.add_argument("--steps", type=int, default=5, help="that all make together in a turn; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=12, help="turns; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _several(text: str) -> int:
    count = int(text)
    if count < 2:
        raise argparse.ArgumentTypeError(f"{count} processes: two at least; one alone is what they are held against")
    return count


def measure(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train in ``count`` processes and return rank 0's figures.

    Raises:
        RuntimeError: a process failed.
    """
    from ocrslim.slimming.training.launch import launch

    out = options.out.with_suffix(f".{count}.json")
    arguments = [__file__, "--worker", str(out), "--model", options.model, "--threads", str(options.threads)]
    arguments += ["--steps", str(options.steps), "--repeats", str(options.repeats)]
    if code := launch(arguments, count):
        raise RuntimeError(f"{count} processes ended with {code}")
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    return found


def worker(options: argparse.Namespace) -> int:
    """Train as one of the processes; rank 0 writes the figures."""
    import torch

    from ocrslim.slimming.training.distributed import team_of

    torch.set_num_threads(options.threads)
    with team_of() as team:
        figures = _train(team, options)
    if team.leads:
        options.worker.write_text(json.dumps(figures), encoding="utf-8")
    return 0


def _train(team: Any, options: argparse.Namespace) -> dict[str, Any]:
    from ocrslim.config.profile import load_profile
    from ocrslim.graph.importers.source import open_model
    from ocrslim.slimming.training import data as training_data
    from ocrslim.slimming.training.distributed import ALONE
    from ocrslim.slimming.training.prefetch import Shard
    from ocrslim.slimming.training.trainer import Score, Trainer, TrainSettings

    training_data.RENDERED = {"rec": LINES, "det": 4}
    source = open_model(options.model)
    profile = load_profile(None, source.inference_yml)
    data = training_data.open_training_data("rec", None, None, source.characters or (), 0)
    groups, student, criterion = _student(source, training_data.calibration_batches(data, profile, 0, 16))

    def seconds(among: Any) -> float:
        steps = options.steps * (1 if among.size > 1 else team.size)  # the same batches
        settings = TrainSettings(steps, judge_every=10**6, checkpoint_every=10**6)
        trainer = Trainer(student, groups, criterion, lambda: Score(0.0), settings, team=among)
        shard = Shard(among.rank, among.size)
        began = time.perf_counter()
        trainer.run(lambda start, count: training_data.training_batches(data, profile, 0, start, count, shard))
        return time.perf_counter() - began

    rates: dict[str, list[float]] = {"together": [], "alone": []}
    images = team.size * options.steps * training_data.BATCH["rec"]
    for turn in range(options.repeats + 1):
        for kind in list(rates)[:: -1 if turn % 2 else 1]:
            took = seconds(team) if kind == "together" else seconds(ALONE) if team.leads else 1.0
            team.tell()  # the others wait for rank 0
            if turn > 0:  # the first asks for memory and kernels
                rates[kind].append(images / took)
    parameters = [parameter for group in groups for parameter in group.parameters]
    reduced = _seconds(lambda: team.average(parameters, {}), AVERAGES)
    stream = iter(training_data.training_batches(data, profile, 0, 0, 12, Shard(team.rank, team.size)))
    return rates | {
        "all_reduce_ms": 1e3 * reduced,
        "batch_ms": 1e3 * _seconds(lambda: next(stream), 10),
        "bytes": 4.0 * sum(parameter.numel() for parameter in parameters),
    }


def _student(source: Any, batches: list[Any]) -> tuple[list[Any], Any, Any]:
    """Return what learns, the quantized student and the losses of ``ocrslim compress``."""
    from ocrslim.engines.targets import get_target
    from ocrslim.graph.executor.graph_module import GraphModule
    from ocrslim.graph.importers.onnx import load_onnx
    from ocrslim.graph.passes.canonical import canonicalize
    from ocrslim.learning import scales_and_biases, supervise_quantized
    from ocrslim.slimming.quantization.placement import place
    from ocrslim.slimming.quantization.prepare import calibrate, prepare
    from ocrslim.slimming.training.distillation import DistillationSettings
    from ocrslim.slimming.training.precision import FULL

    graph, target = canonicalize(load_onnx(source.path)), get_target("openvino")
    teacher = GraphModule(graph).eval()
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    calibrate(quantization, batches, "minmax")
    student = quantization.module
    FULL.put(student, teacher)
    criterion, _ = supervise_quantized(quantization, teacher, graph, "rec", DistillationSettings(), [])
    return scales_and_biases(quantization), student, criterion


def _children() -> float:
    """Return the processor seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _seconds(work: Any, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


def ratios(run: Mapping[str, Any]) -> list[float]:
    """Return how many times the images a second of one process several make, of each turn.

    Args:
        run: ``together`` and ``alone``, images a second of each turn.
    """
    return [many / one for many, one in zip(run["together"], run["alone"], strict=True)]


def table(runs: Mapping[int, Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Return the figures in Markdown: medians, the ratios of the turns beside them.

    Args:
        runs: number of processes -> what :func:`measure` returned, and the cores of others.
        facts: of the machine.
    """
    names = ("images/s of one alone", "images/s", "times", "of each turn", "all-reduce, ms", "a batch alone, ms")
    rows = [f"| processes | {' | '.join(names)} | others, cores |", "|---:" * (len(names) + 2) + "|"]
    for count, run in runs.items():
        alone, together = statistics.median(run["alone"]), statistics.median(run["together"])
        found = ratios(run)
        rows.append(
            f"| {count} | {alone:.1f} | {together:.1f} | {statistics.median(found):.2f} |"
            f" {' '.join(f'{ratio:.2f}' for ratio in found)} | {run['all_reduce_ms']:.2f} | {run['batch_ms']:.0f} |"
            f" {run['others']:.1f} |"
        )
    about = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    what = f"{facts['model']}, turns of {facts['steps']} steps, {facts['threads']} threads a process"
    return "\n".join([*rows, "", f"{what}, {facts['cores']} cores; {facts['cpu']} ({facts['flags']}); {about}"])


if __name__ == "__main__":
    sys.exit(main())
