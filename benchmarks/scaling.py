"""Images in a second of one process and of several, one thread each: training of a recogniser, gloo.

    python benchmarks/scaling.py [--model PP-OCRv4_mobile_rec] [--processes 1 2] [--steps 25] [--repeats 5]

The numbers of processes are measured in turns, each in the other order than the one before. As in ``ocrslim bench`` the
median of the ratios within the turns counts: the clock and the neighbours of a shared machine move a single figure by a
tenth from minute to minute. What is timed are whole steps of the trainer, with the losses and the batches of ``ocrslim
compress``: 8 lines a process and step. Beside it stands what the parts cost alone: the
all-reduce of the gradients, and the making of a batch. The seconds that others kept the processors busy are shown; a
figure taken on a busy machine is preliminary.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MODEL = "PP-OCRv4_mobile_rec"
WARM_UP = 10  # steps that are not counted: they touch their memory for the first time
LINES = 200
AVERAGES = 30


def main() -> int:
    """Measure in turns and print a table."""
    options = _options()
    if options.worker:
        return worker(options)
    from ocrslim.engines.cpu import cpu_info, versions
    from ocrslim.engines.machine import OtherLoad

    runs: dict[int, list[dict[str, float]]] = {count: [] for count in options.processes}
    for turn in range(options.repeats):
        for count in options.processes[:: -1 if turn % 2 else 1]:
            load, began, own = OtherLoad(), time.monotonic(), _children()
            found = measure(count, options)
            others = (load.cores() or 0.0) - (_children() - own) / (time.monotonic() - began)
            runs[count].append(found | {"others": max(0.0, others)})
            print(json.dumps({"processes": count, **runs[count][-1]}), flush=True)
    facts: dict[str, Any] = {"cpu": cpu_info().model, "flags": " ".join(cpu_info().flags), "versions": versions()}
    facts |= {"threads": options.threads, "steps": options.steps, "model": options.model, "cores": os.cpu_count()}
    options.out.write_text(json.dumps(facts | {"runs": {str(k): v for k, v in runs.items()}}, indent=1), "utf-8")
    print(table(runs, facts))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="official name of a recogniser; default: %(default)s")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=5, help="turns; default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(count: int, options: argparse.Namespace) -> dict[str, float]:
    """Train in ``count`` processes and return rank 0's figures.

    Raises:
        RuntimeError: a process failed.
    """
    from ocrslim.slimming.training.launch import launch

    out = options.out.with_suffix(f".{count}.json")
    arguments = [__file__, "--worker", str(out), "--model", options.model]
    arguments += ["--steps", str(options.steps), "--threads", str(options.threads)]
    code = launch(arguments, count) if count > 1 else subprocess.call([sys.executable, *arguments])
    if code:
        raise RuntimeError(f"{count} processes ended with {code}")
    found: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    return found


def worker(options: argparse.Namespace) -> int:
    """Train as one of the processes; rank 0 writes the figures."""
    import torch

    from ocrslim.slimming.training.distributed import team_of

    torch.set_num_threads(options.threads)
    with team_of() as team:
        figures = _train(team, options.model, options.steps)
    if team.leads:
        options.worker.write_text(json.dumps(figures), encoding="utf-8")
    return 0


def _train(team: Any, model: str, steps: int) -> dict[str, float]:
    from ocrslim.config.profile import load_profile
    from ocrslim.graph.importers.source import open_model
    from ocrslim.slimming.training import data as training_data
    from ocrslim.slimming.training.prefetch import Shard
    from ocrslim.slimming.training.trainer import Score, Trainer, TrainSettings

    training_data.RENDERED = {"rec": LINES, "det": 4}
    source = open_model(model)
    profile = load_profile(None, source.inference_yml)
    data = training_data.open_training_data("rec", None, None, source.characters or (), 0)
    shard, marks = Shard(team.rank, team.size), [time.perf_counter()]
    groups, student, criterion = _student(source, training_data.calibration_batches(data, profile, 0, 16))

    def marked(start: int, count: int) -> Iterator[Any]:
        for batch in training_data.training_batches(data, profile, 0, start, count, shard):
            marks.append(time.perf_counter())
            yield batch

    settings = TrainSettings(WARM_UP + steps, judge_every=10**6, checkpoint_every=10**6)
    trainer = Trainer(student, groups, criterion, lambda: Score(0.0), settings, team=team)
    trainer.run(marked)
    seconds = (marks[-1] - marks[1 + WARM_UP]) / (len(marks) - 2 - WARM_UP)
    parameters = [parameter for group in trainer.groups for parameter in group.parameters]
    reduced = _seconds(lambda: team.average(parameters, {}), AVERAGES)
    stream = iter(training_data.training_batches(data, profile, 0, 0, 12, shard))
    loaded = _seconds(lambda: next(stream), 10)
    return {
        "images_per_second": team.size * training_data.BATCH["rec"] / seconds,
        "step_ms": 1e3 * seconds,
        "all_reduce_ms": 1e3 * reduced,
        "batch_ms": 1e3 * loaded,
        "bytes": 4.0 * sum(parameter.numel() for parameter in parameters),
    }


def _student(source: Any, batches: list[Any]) -> tuple[list[Any], Any, Any]:
    """Return what learns, the quantized student and the losses of ``ocrslim compress``."""
    from ocrslim.engines.targets import get_target
    from ocrslim.graph.executor.graph_module import GraphModule
    from ocrslim.graph.importers.onnx import load_onnx
    from ocrslim.graph.passes.canonical import canonicalize
    from ocrslim.graph.points import distillation_points
    from ocrslim.learning import scales_and_biases
    from ocrslim.slimming.quantization.placement import place
    from ocrslim.slimming.quantization.prepare import calibrate, prepare
    from ocrslim.slimming.training.distillation import Distillation, DistillationSettings
    from ocrslim.slimming.training.precision import FULL

    graph, target = canonicalize(load_onnx(source.path)), get_target("openvino")
    teacher, points = GraphModule(graph).eval(), distillation_points(graph)
    quantization = prepare(GraphModule(graph).eval(), place(graph, target), target)
    calibrate(quantization, batches, "minmax")
    student = quantization.module
    FULL.put(student, teacher)
    criterion = Distillation(student, teacher, "rec", points.logits, points.features, DistillationSettings())
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


def times(runs: Mapping[int, Sequence[Mapping[str, float]]], count: int) -> float:
    """Return how many times the images a second of one process several make: the median of the turns' ratios.

    Args:
        runs: number of processes -> a run of each turn.
        count: of processes.
    """
    pairs = zip(runs[1], runs[count], strict=True)
    return statistics.median(many["images_per_second"] / one["images_per_second"] for one, many in pairs)


def table(runs: Mapping[int, Sequence[Mapping[str, float]]], facts: Mapping[str, Any]) -> str:
    """Return the figures in Markdown: medians, the ratios of the turns beside them.

    Args:
        runs: number of processes -> a run of each turn.
        facts: of the machine.
    """
    names = ("images/s", "times", "of each turn", "step, ms", "all-reduce, ms", "a batch alone, ms", "others, cores")
    rows = [f"| processes | {' | '.join(names)} |"]
    rows.append("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for count, found in runs.items():
        middle = {key: statistics.median(run[key] for run in found) for key in found[0]}
        ratio, each = "-", "-"
        if 1 in runs:
            ratio = f"{times(runs, count):.2f}"
            pairs = zip(runs[1], found, strict=True)
            each = " ".join(f"{b['images_per_second'] / a['images_per_second']:.2f}" for a, b in pairs)
        rows.append(
            f"| {count} | {middle['images_per_second']:.1f} | {ratio} | {each} | {middle['step_ms']:.0f} |"
            f" {middle['all_reduce_ms']:.2f} | {middle['batch_ms']:.0f} | {middle['others']:.1f} |"
        )
    about = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    what = f"{facts['model']}, {facts['steps']} steps, {facts['threads']} threads a process, {facts['cores']} cores"
    return "\n".join([*rows, "", f"{what}; {facts['cpu']} ({facts['flags']}); {about}"])


if __name__ == "__main__":
    sys.exit(main())
