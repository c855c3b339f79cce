"""Side by side: our int8 against NNCF's and ONNX Runtime's, same calibration images, same engine, same scorer.

    python benchmarks/accuracy.py --data FOLDER --out DIR [--ours DIR [--compress]]

Every figure is kept in ``--out`` as soon as it is there: the same command goes on where it was stopped. See README.md
beside this file for what is compared and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cells import Bench, Plan, Score
from rich.console import Console
from rich.measure import Measurement
from rivals import RIVALS, Rival, Variant, is_installed
from sheet import FLOAT, OURS, Row, markdown, terminal, verdicts

from ocrslim import __version__
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.engines.session import ENGINES
from ocrslim.errors import EngineError, InputError, ModelError, OcrslimError
from ocrslim.graph.importers.source import open_model
from ocrslim.graph.importers.zoo import MODELS
from ocrslim.report.result import write_json, write_text
from ocrslim.report.run_log import progress_bar

__all__ = ["main"]

UNPAID = {"evaluate", "bench"}  # stages of ``ocrslim compress`` that judge the file and do not make it
NOT_OURS = (EngineError, ModelError)  # what a rival's file may fail with; the benchmark goes on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 0 done, 1 failed, 2 a mistake in the input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=options.json)
    try:
        rows, notes = _run(options, console)
    except OcrslimError as error:
        sys.stderr.write(f"accuracy.py: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("accuracy.py: interrupted; the same command goes on from here\n")
        return 130
    data = {"rows": [row.to_json() for row in rows], "notes": notes}
    write_json(options.out / "accuracy.json", data)
    write_text(options.out / "accuracy.md", markdown(rows, notes))
    if options.json:
        print(json.dumps(data, ensure_ascii=False))
        return 0
    # As wide as it is: no figure is cut, a narrow terminal breaks the lines.
    table = terminal(rows)
    console.width = max(console.width, Measurement.get(console, console.options.update(max_width=999), table).maximum)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="accuracy.py", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FOLDER", help="what --train and --eval are relative to")
    add("--train", default="{task}/labels/train.txt", metavar="FILE", help="{task} is det or rec; default: %(default)s")
    add("--eval", default="{task}/labels/val.txt", metavar="FILE", help="the same; default: %(default)s")
    add("--out", type=Path, required=True, metavar="DIR", help="keeps every figure and file; a later run goes on there")
    add("--ours", type=Path, metavar="DIR", help="output folders of `ocrslim compress`, named MODEL-TARGET")
    add("--compress", action="store_true", help="make what is missing in --ours, by `ocrslim compress`")
    add("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME", help="default: all ten")
    add("--engines", nargs="+", default=list(ENGINES), choices=ENGINES, help="default: all")
    add("--rivals", nargs="*", default=list(RIVALS), choices=RIVALS, help="default: all")
    add("--variants", type=int, metavar="N", help="only the first N settings of each rival; default: all")
    add("--limit", type=int, metavar="N", help="only the first N images of --eval")
    add("--calibration", type=int, metavar="N", help="images to calibrate with; default: as `ocrslim compress`")
    add("--profile", metavar="NAME", help="pre- and post-processing; default: the model's inference.yml")
    add("--seed", type=int, default=0, metavar="N", help="of the split into training and held-back images")
    add("--threads", type=int, default=2, metavar="N", help="of scoring and timing; default: %(default)s")
    add("--no-timing", action="store_true", help="take no times: for a machine that is busy otherwise")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _run(options: argparse.Namespace, console: Console) -> tuple[list[Row], list[str]]:
    if options.compress and options.ours is None:
        raise InputError("--compress: say with --ours where the folders go")
    for name in ("variants", "limit", "calibration", "threads"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name} {value}: at least 1 is needed")
    plan = Plan(
        train={task: options.data / options.train.format(task=task) for task in ("det", "rec")},
        eval={task: options.data / options.eval.format(task=task) for task in ("det", "rec")},
        out=options.out,
        profile=options.profile,
        limit=options.limit,
        calibration=options.calibration,
        seed=options.seed,
        threads=options.threads,
    )
    for rival in options.rivals:
        if not is_installed(rival):
            _say(console, f"{rival} is not installed: only what is in {options.out} already is shown of it")
    rows: list[Row] = []
    for name in options.models:
        rows += _model(name, plan, options, console)
    return rows, [*verdicts(rows), *_conditions(plan, options)]


def _model(name: str, plan: Plan, options: argparse.Namespace, console: Console) -> Iterator[Row]:
    """Yield one model's rows: on each engine float, ours, and the best setting of each rival."""
    bench = Bench(open_model(name), plan)
    for engine in options.engines:
        contest = _Contest(bench, engine, console)
        baseline = contest.enter(FLOAT, "", bench.source.path, "float")
        if options.ours is not None:
            contest.add_ours(options.ours / f"{name}-{engine}", options.compress)
        for rival in options.rivals:
            contest.add_rival(rival, RIVALS[rival][: options.variants])
        yield from contest.rows(baseline, timing=not options.no_timing)


class _Contest:
    """One model on one engine.

    Args:
        bench: takes and keeps the measurements.
        engine: that runs all files.
        console: where it is told how it goes.
    """

    def __init__(self, bench: Bench, engine: str, console: Console) -> None:
        self._bench = bench
        self._engine = engine
        self._console = console
        self._entered: dict[str, tuple[str, Path, Score]] = {}  # by whom -> variant, file, score
        self._minutes: dict[str, Callable[[], float | None]] = {}
        self._failed: dict[str, str] = {}

    def enter(self, by: str, variant: str, file: Path, piece: str) -> Score:
        """Score a file; it stands for ``by`` unless a better one does already."""
        told = " ".join(filter(None, (self._bench.source.name, self._engine, by, variant)))
        with progress_bar(told, self._console) as update:
            score = self._bench.score(file, self._engine, piece, update)
        _say(self._console, f"{told}: {score.metric} {score.value:.4f}")
        if by not in self._entered or score.value > self._entered[by][2].value:
            self._entered[by] = (variant, file, score)
        return score

    def add_ours(self, folder: Path, make: bool) -> None:
        """Enter the int8 model of an output folder of ``ocrslim compress``, also where that run gave a float one."""
        if make and not (folder / "result.json").is_file():
            from ocrslim.compress import CompressSettings, compress

            plan, task = self._bench.plan, self._bench.source.task
            settings = CompressSettings(
                self._engine, folder, data=plan.train[task], profile=plan.profile, seed=plan.seed, threads=plan.threads
            )
            compress(self._bench.source.name, settings, self._console)
        if not (folder / "model.onnx").is_file():
            self._failed[OURS] = f"no {folder.name}/model.onnx"
            return
        self.enter(OURS, *_int8_of(folder), OURS)
        self._minutes[OURS] = lambda: _minutes_of(folder / "result.json")

    def add_rival(self, rival: Rival, variants: Sequence[Variant]) -> None:
        """Enter the best of a rival's settings; one that fails is told and left out."""
        for variant in variants:
            try:
                file = self._bench.quantized(rival, variant, self._engine)
                self.enter(rival, variant.name, file, f"{rival}-{variant.slug}")
            except NOT_OURS as error:
                self._failed[rival] = " ".join(str(error).split())
                _say(self._console, f"{self._bench.source.name} {self._engine}: {self._failed[rival]}")
        if rival in self._entered:
            best = next(variant for variant in variants if variant.name == self._entered[rival][0])
            self._minutes[rival] = lambda: self._bench.minutes(rival, best, self._engine)

    def rows(self, baseline: Score, timing: bool) -> Iterator[Row]:
        """Yield the rows of all that were entered, and of those that failed."""
        ratios: Mapping[str, float] = {}
        if timing:
            ratios = self._bench.ratios({by: file for by, (_, file, _) in self._entered.items()}, self._engine) or {}
            if not ratios:
                _say(self._console, "void: other processes took the cores while the models were timed")
        name = self._bench.source.name
        for by, (variant, file, score) in self._entered.items():
            drop, low, high = (None, None, None) if by == FLOAT else score.drop_from(baseline)
            yield Row(
                name,
                self._engine,
                by,
                variant,
                score.metric,
                len(score.records),
                score.value,
                drop,
                low,
                high,
                ratios.get(by),
                self._minutes[by]() if ratios and by in self._minutes else None,
                sum(part.stat().st_size for part in {file, file.with_suffix(".bin")} if part.is_file()),
            )
        for by, reason in self._failed.items():
            if by not in self._entered:
                yield Row(name, self._engine, by, note=reason)


def _int8_of(folder: Path) -> tuple[str, Path]:
    """Return the int8 file of an output folder of ``ocrslim compress``, and what a reader of its row has to know.

    Where int8 took no less time, ``model.onnx`` is a float model, the one that came in or a rewritten one.
    """
    given, int8 = folder / "model.onnx", folder / "int8.onnx"
    try:
        delivered = json.loads((folder / "result.json").read_text(encoding="utf-8"))["delivered"]
    except (OSError, ValueError, KeyError, TypeError):
        return "", given
    if delivered == "int8":
        return "", given
    kind = "float" if delivered == "float" else f"float, {delivered}"
    if int8.is_file():
        return f"int8.onnx; given was {kind}", int8
    return f"no int8: model.onnx is {kind}", given


def _minutes_of(path: Path) -> float | None:
    """Return the minutes that ``ocrslim compress`` took to make its file, without judging it."""
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return sum(float(stage["seconds"]) for stage in stages if stage["name"] not in UNPAID) / 60
    except (OSError, ValueError, KeyError):
        return None


def _conditions(plan: Plan, options: argparse.Namespace) -> list[str]:
    """Return in words what the figures depend on."""
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    calibration = "as many as `ocrslim compress` takes" if plan.calibration is None else str(plan.calibration)
    first = "" if plan.limit is None else f" (the first {plan.limit} images)"
    cpu = cpu_info()
    return [
        f"ocrslim {__version__}, {cpu.model} ({' '.join(cpu.flags)}), {installed}, {plan.threads} threads",
        f"scored on {options.eval}{first}; all calibrate with the same first images of {options.train}"
        f" (seed {plan.seed}; {calibration})",
        "a rival's row is the setting that scored best on the evaluation images, which favours it; time is relative to"
        " float on the same engine, files timed in turns; minutes are those of making the file",
    ]


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
