"""The command line: one function a subcommand, no logic of its own.

Heavy rooms are imported inside the subcommands, so that ``eval`` and ``bench`` start without torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ocrslim.arguments import build_parser
from ocrslim.engines.session import PADDLE_ENGINES
from ocrslim.errors import InputError, OcrslimError

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings

__all__ = ["build_parser", "main"]

EXIT_USER = 2  # the user's mistake
EXIT_FAILED = 1  # ours, or the engine's
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 a mistake in the input, 130 interrupted."""
    parsed = build_parser().parse_args(arguments)
    try:
        RUN[parsed.command](parsed)
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
        max_drop=options.max_drop,
        effort=options.effort,
        max_minutes=options.max_minutes,
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

    settings = CompressSettings(target="openvino", out=options.out, effort="quick", threads=options.threads)
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


RUN = {
    "compress": _run_compress,
    "eval": _run_eval,
    "bench": _run_bench,
    "models": _run_models,
    "inspect": _run_inspect,
    "export": _run_export,
    "demo": _run_demo,
}
