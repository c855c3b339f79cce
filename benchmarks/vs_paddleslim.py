"""Side by side: our quantization-aware training against PaddleSlim's AutoCompression, same model, images and steps.

    python benchmarks/vs_paddleslim.py --data FOLDER --work DIR

PaddleSlim 2.6.0 with paddlepaddle 2.6.2 gets an environment of its own in ``--work``, made from
requirements-paddleslim.txt. Both sides learn from **the very same batches**: they are made once, cropped, augmented and
normalised by our reader, and stored as ``.npy`` files, one a step. So it is the compression that is compared, not the
loaders: PaddleSlim's example reads with PaddleOCR's, which are no package, and which cost time beside what is shown.
PaddleSlim does what the example's file says (``configs/``: PACT, its losses and learning rate, a cosine over the
steps); we do what ``ocrslim compress --target paddle`` does, without the judging that PaddleSlim has no equal of. What
both write is run by the same Paddle Inference 2.6.2 and scored by the same scorer on labels that neither has seen.
Both sides run one after the other, each in a process of its own; see docs/vs-paddleslim.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cells import is_quiet
from duel import Duel, Terms
from paddleslim_env import make_environment
from rich.console import Console
from rich.measure import Measurement
from versus import OURS, Row, markdown, terminal, verdicts

from ocrslim import __version__
from ocrslim.engines.cpu import cpu_info, versions
from ocrslim.errors import InputError, OcrslimError
from ocrslim.graph.importers.paddle.zoo import PADDLE_MODELS
from ocrslim.report.result import write_json, write_text
from ocrslim.report.run_log import RunLog

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 0 done, 1 failed, 2 a mistake in the input, 130 interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=options.json)
    try:
        rows, notes = _run(options, console)
    except OcrslimError as error:
        sys.stderr.write(f"vs_paddleslim.py: {' '.join(str(error).split())}\n")
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("vs_paddleslim.py: interrupted; the same command goes on from here\n")
        return 130
    data = {"rows": [row.to_json() for row in rows], "notes": notes}
    write_json(options.work / "vs_paddleslim.json", data)
    write_text(options.work / "vs_paddleslim.md", markdown(rows, notes))
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
    parser = argparse.ArgumentParser(prog="vs_paddleslim.py", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FOLDER", help="what --train and --eval are relative to")
    add("--train", default="{task}/labels/train.txt", metavar="FILE", help="{task} is det or rec; default: %(default)s")
    add("--eval", default="{task}/labels/val.txt", metavar="FILE", help="the same; default: %(default)s")
    add("--work", type=Path, required=True, metavar="DIR", help="keeps the environment and what was measured")
    names = list(PADDLE_MODELS)
    add("--models", nargs="+", default=names, choices=names, metavar="NAME", help=f"default: {' '.join(names)}")
    add("--steps", type=int, default=20, metavar="N", help="of training; default: %(default)s")
    add("--batch", type=int, default=8, metavar="N", help="images in a step; default: %(default)s")
    add("--threads", type=int, default=2, metavar="N", help="of both sides; default: %(default)s")
    add("--det-size", type=int, default=320, metavar="N", help="side of a detector's crops; default: %(default)s")
    add("--limit", type=int, metavar="N", help="score on N images of --eval, evenly drawn; default: all")
    add("--seed", type=int, default=0, metavar="N", help="of the batches; default: %(default)s")
    add("--minutes", type=float, default=60.0, metavar="N", help="longest run of a side; default: %(default)s")
    add("--no-pact", action="store_true", help="PaddleSlim without PACT, which its example's file asks for")
    add("--paddleslim-python", metavar="PATH", help="a Python 3.11 or 3.12 to make PaddleSlim's environment with")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _run(options: argparse.Namespace, console: Console) -> tuple[list[Row], list[str]]:
    for name in ("steps", "batch", "threads", "limit"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name} {value}: at least 1 is needed")
    if options.det_size < 32 or options.det_size % 32:
        raise InputError(f"--det-size {options.det_size}: a multiple of 32 is needed")
    terms = Terms(
        train={task: options.data / options.train.format(task=task) for task in ("det", "rec")},
        eval={task: options.data / options.eval.format(task=task) for task in ("det", "rec")},
        work=options.work,
        steps=options.steps,
        batch=options.batch,
        threads=options.threads,
        det_size=options.det_size,
        limit=options.limit,
        seed=options.seed,
        minutes=options.minutes,
        pact=not options.no_pact,
    )
    terms.check()  # before minutes go into an environment
    options.work.mkdir(parents=True, exist_ok=True)
    log = RunLog(options.work, console)
    try:
        python, notes = _environment(options, log)
        rows: list[Row] = []
        for name in options.models:
            rows += Duel(name, terms, python, log).rows()
    finally:
        log.close()
    return rows, [*notes, *verdicts(rows), *_loads(rows), *_conditions(options, python)]


def _environment(options: argparse.Namespace, log: RunLog) -> tuple[Path | None, list[str]]:
    """Return the Python of PaddleSlim's environment, or ``None`` and why there is none."""
    try:
        with log.stage("PaddleSlim's environment"):
            return make_environment(options.work / "paddleslim", options.paddleslim_python), []
    except InputError as error:
        said = f"{error}; only {OURS} is shown, scored in onnxruntime"
        log.say(said)
        return None, [said]


def _loads(rows: Sequence[Row]) -> list[str]:
    """Say where other programs made the wall times void."""
    return [
        f"{row.model}, {row.by}: other programs kept {row.others:.1f} cores busy: its wall times are void, not shown"
        for row in rows
        if row.others is not None and not is_quiet(row.others)
    ]


def _conditions(options: argparse.Namespace, python: Path | None) -> list[str]:
    """Return in words what the figures depend on."""
    installed = ", ".join(f"{name} {version}" for name, version in versions().items())
    pact = "without" if options.no_pact else "with"
    theirs = "" if python is None else f"; PaddleSlim 2.6.0 {pact} PACT, paddlepaddle 2.6.2"
    limit = "" if options.limit is None else f" ({options.limit} images of it)"
    cpu = cpu_info()
    return [
        f"ocrslim {__version__}, {cpu.model} ({' '.join(cpu.flags)}), {installed}{theirs}, {options.threads} threads",
        f"{options.steps} steps of {options.batch} images, det {options.det_size}x{options.det_size}, rec 48x320, the"
        f" same stored batches of {options.train} for both; scored on {options.eval}{limit}, which neither has seen",
        "a step: median, the first one left out; start-up: from the command to the first image; calibration: from there"
        " to the first training step; in brackets the processor time, which other processes change little; memory: the"
        " largest resident set of the process",
    ]


if __name__ == "__main__":
    # A plain kill must end the running side too, as an interrupt does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
