"""The command line: one function a subcommand, no logic of its own.

Heavy rooms are imported inside the subcommands, so that ``eval`` and ``bench`` start without torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ocrslim import __version__
from ocrslim.engines.session import ENGINES, PADDLE_ENGINES
from ocrslim.engines.targets import TARGETS
from ocrslim.errors import InputError, OcrslimError

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = ["build_parser", "main"]

EXIT_USER = 2  # the user's mistake
EXIT_FAILED = 1  # ours, or the engine's
EXIT_INTERRUPTED = 130

DEMO_STEPS = 100  # under two minutes on two cores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 a mistake in the input, 130 interrupted."""
    parsed = build_parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except InputError as error:
        return _fail(str(error), EXIT_USER)
    except OcrslimError as error:
        return _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; nothing half-written is left, the same command goes on from the last checkpoint",
            EXIT_INTERRUPTED,
        )
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as `| head` does
    return 0


def _fail(message: str, code: int) -> int:
    print(f"ocrslim: {' '.join(message.split())}", file=sys.stderr)
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="ocrslim", description="Small, fast PP-OCR models, measured on your engine.")
    parser.add_argument("--version", action="version", version=f"ocrslim {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_compress(commands)
    _add_eval(commands)
    _add_bench(commands)
    _add_export(commands)
    _add_models(commands)
    inspect = commands.add_parser("inspect", help="what a model consists of")
    inspect.add_argument("model", metavar="MODEL", help="official name, ONNX file or folder")
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")
    inspect.set_defaults(run=_run_inspect)
    demo = commands.add_parser("demo", help="compress a real model on rendered text, from nothing, in minutes")
    demo.add_argument("--out", type=Path, default=Path("ocrslim-demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    demo.set_defaults(run=_run_demo)
    return parser


def _add_compress(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("compress", help="make an int8 model for one engine and measure it there")
    parser.add_argument("model", metavar="MODEL", help="official name, ONNX file or folder")
    parser.add_argument(
        "--data", type=Path, metavar="LABELS|FOLDER", help="images to learn from; without it, rendered text"
    )
    parser.add_argument(
        "--eval", type=Path, metavar="LABELS", help="images to judge by; without it, a held-back part of --data"
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="what image paths in label files are relative to")
    parser.add_argument("--target", required=True, choices=TARGETS, help="the engine that will run the model")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument("--steps", type=_natural, metavar="N", help="training steps; default: 100 for rec, 60 for det")
    parser.add_argument("--ptq-only", action="store_true", help="calibrate only, no training")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--profile", metavar="NAME", help="pre- and post-processing; see eval")
    parser.add_argument(
        "--observer",
        default="output",
        choices=("output", "minmax", "moving_average", "percentile", "mse"),
        help="of activation ranges; default: %(default)s",
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=5e-5,
        metavar="X",
        help="change of a weight in a step, as a share of its tensor's size; default: %(default)s",
    )
    parser.set_defaults(run=_run_compress)


def _add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("eval", help="score a model on labelled images")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="official name, ONNX file or folder")
    parser.add_argument("--data", type=Path, metavar="LABELS", help="PaddleOCR label file or LMDB")
    _add_config_path(parser, "model, data, profile and metric")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="what image paths in the label file are relative to"
    )
    parser.add_argument("--task", choices=("det", "rec"), help="default: the model's")
    parser.add_argument(
        "--engine", default="openvino", choices=(*ENGINES, *PADDLE_ENGINES), help="default: %(default)s"
    )
    parser.add_argument(
        "--profile",
        choices=("example", "model", "paddleocr", "rapidocr"),
        help="default: the model's inference.yml, else example",
    )
    parser.add_argument("--loose", action="store_true", help="also score with NFKC, case and spaces folded")
    parser.add_argument(
        "--rec-width",
        default="dynamic",
        choices=("dynamic", "fixed"),
        help="line width as deployed, or PaddleOCR's fixed evaluation width; default: %(default)s",
    )
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--limit", type=_positive, metavar="N", help="only the first N images")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run_eval)


def _add_config_path(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        *("--config_path", "--config-path"),
        type=Path,
        metavar="YAML",
        help=f"a file of the PaddleSlim OCR example, in place of {what}",
    )


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="time models against each other, interleaved")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="official name, ONNX file or folder")
    engines = (*ENGINES, *PADDLE_ENGINES)
    parser.add_argument("--engine", nargs="+", default=["openvino"], choices=engines, help="default: openvino")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=_positive, default=1, metavar="N", help="default: %(default)s")
    parser.add_argument("--shape", type=_shape, metavar="HxW", help="default: 48x320 for rec, 640x640 for det")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run_bench)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="write a compressed model in another engine's format")
    parser.add_argument("folder", type=Path, metavar="DIR", help="what compress wrote")
    parser.add_argument("--to", required=True, choices=("paddle", "paddle-lite"), help="the format")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="MODEL",
        help="the Paddle model that was compressed; default: as result.json says",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the folder itself")
    parser.add_argument("--float", action="store_true", help="the float model with the trained weights")
    parser.add_argument(
        "--valid-targets", default="arm", choices=("arm", "x86"), help="processor for paddle-lite; default: %(default)s"
    )
    parser.set_defaults(run=_run_export)


def _add_models(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="list or fetch the official models")
    parser.add_argument(
        "action", nargs="?", default="list", choices=("list", "pull", "path"), help="default: %(default)s"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="official name, for pull and path")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.set_defaults(run=_run_models)


def _run_compress(options: argparse.Namespace) -> None:
    """``ocrslim compress``."""
    _require_torch()
    from ocrslim.compress import CompressSettings

    settings = CompressSettings(
        target=options.target,
        out=options.out,
        data=options.data,
        eval=options.eval,
        data_dir=options.data_dir,
        profile=options.profile,
        seed=options.seed,
        steps=options.steps,
        ptq_only=options.ptq_only,
        threads=options.threads,
        observer=options.observer,
        learning_rate=options.learning_rate,
    )
    _compress_and_show(options.model, settings)


def _run_eval(options: argparse.Namespace) -> None:
    """``ocrslim eval``."""
    from ocrslim.report.table import eval_table

    console = Console(stderr=options.json)
    result = _evaluate_config(options, console) if options.config_path else _evaluate_options(options, console)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        console.print(eval_table(result), crop=False)


def _evaluate_config(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """``ocrslim eval --config_path``."""
    from ocrslim.config.paddleslim import load_config
    from ocrslim.example import evaluate_example

    if options.model is not None or options.data is not None or options.profile is not None:
        raise InputError(
            "eval --config_path: the file says model, data and profile; leave MODEL, --data, --profile out"
        )
    config = load_config(options.config_path)
    result, warnings = evaluate_example(
        config,
        engine=options.engine,
        threads=options.threads,
        limit=options.limit,
        loose=options.loose,
        console=console,
    )
    for line in (*config.warnings, *warnings):
        print(f"ocrslim: {line}", file=sys.stderr)
    return result.to_json()


def _evaluate_options(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """``ocrslim eval MODEL --data LABELS``."""
    from ocrslim.evaluate import evaluate_file

    if options.model is None or options.data is None:
        raise InputError("eval: name a MODEL and its --data LABELS, or a --config_path YAML that says both")
    return evaluate_file(
        options.model,
        options.data,
        data_dir=options.data_dir,
        task=options.task,
        engine=options.engine,
        profile=options.profile,
        loose=options.loose,
        rec_width=options.rec_width,
        threads=options.threads,
        limit=options.limit,
        console=console,
    ).to_json()


def _run_bench(options: argparse.Namespace) -> None:
    """``ocrslim bench``."""
    from ocrslim.engines.timing import SHAPES, bench
    from ocrslim.graph.importers.source import open_model
    from ocrslim.report.table import bench_table

    sources = [open_model(model) for model in options.models]
    tasks = {source.task for source in sources}
    if len(tasks) > 1 and options.shape is None:
        raise InputError("bench: det and rec models take different shapes; time them apart or give --shape HxW")
    height, width = options.shape or SHAPES[sources[0].task]
    only_paddle = set(options.engine) <= set(PADDLE_ENGINES)
    paths = [source.file_for(options.engine[0]) if only_paddle else source.path for source in sources]
    rows = bench(
        list(zip(options.models, paths, strict=True)),
        options.engine,
        threads=options.threads,
        shape=(options.batch, 3, height, width),
    )
    if options.json:
        print(json.dumps({"shape": [options.batch, 3, height, width], "rows": [row.to_json() for row in rows]}))
    else:
        Console().print(bench_table([row.to_json() for row in rows]), crop=False)


def _run_export(options: argparse.Namespace) -> None:
    """``ocrslim export``."""
    from ocrslim.export.deploy import export_folder

    done = export_folder(
        options.folder,
        options.to,
        source=options.source,
        out=options.out,
        quantized=not options.float,
        valid_targets=options.valid_targets,
    )
    for path in done.files:
        print(path)
    if done.verification is not None:
        print(f"agrees with model.onnx: {done.verification.kind} {done.verification.value:.4f}")


def _run_models(options: argparse.Namespace) -> None:
    """``ocrslim models``."""
    from ocrslim.graph.importers.zoo import MODELS, model_folder, pull
    from ocrslim.report.table import models_table

    if options.action == "list":
        rows = [model.to_json() | {"cached": model_folder(name).is_dir()} for name, model in MODELS.items()]
        if options.json:
            print(json.dumps(rows, ensure_ascii=False))
        else:
            Console().print(models_table(rows), crop=False)
        return
    if options.name is None:
        raise InputError(f"models {options.action}: name a model; `ocrslim models` lists them")
    print(pull(options.name) if options.action == "pull" else model_folder(options.name))


def _run_inspect(options: argparse.Namespace) -> None:
    """``ocrslim inspect``."""
    from ocrslim.graph.importers.onnx import load_onnx
    from ocrslim.graph.importers.source import open_model
    from ocrslim.graph.inspect import describe
    from ocrslim.report.table import inspect_table

    source = open_model(options.model)
    facts = {"name": source.name, "task": source.task, "sha256": source.sha256} | describe(load_onnx(source.path))
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        Console().print(inspect_table(facts))


def _run_demo(options: argparse.Namespace) -> None:
    """``ocrslim demo``: PP-OCRv4 mobile rec for OpenVINO on rendered lines."""
    _require_torch()
    from ocrslim.compress import CompressSettings

    settings = CompressSettings(target="openvino", out=options.out, steps=DEMO_STEPS, threads=options.threads)
    _compress_and_show("PP-OCRv4_mobile_rec", settings)
    print(f"The model and its figures are in {options.out}")


def _compress_and_show(model: str, settings: CompressSettings) -> None:
    from ocrslim.compress import compress
    from ocrslim.report.table import result_table

    console = Console()
    result = compress(model, settings, console)
    console.print(result_table(result))
    console.print(result["verdict"], markup=False, highlight=False, soft_wrap=True)


def _require_torch() -> None:
    """Say how to get torch where the base install is all there is."""
    if importlib.util.find_spec("torch") is None:
        raise InputError("compress needs torch: pip install 'ocrslim[compress]'")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _shape(text: str) -> tuple[int, int]:
    height, cross, width = text.lower().partition("x")
    if not cross or not height.isdigit() or not width.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is not HxW, for instance 48x320")
    return int(height), int(width)
