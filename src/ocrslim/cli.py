"""The command line: one function a subcommand, no logic of its own.

Heavy rooms are imported inside the subcommands, so that ``eval`` and ``bench`` start without torch.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from ocrslim.arguments import build_parser
from ocrslim.engines.session import PADDLE_ENGINES
from ocrslim.errors import InputError, OcrslimError
from ocrslim.slimming.training.launch import coordinate, launch, processes
from ocrslim.streams import escape_what_cannot_be_written, json_line

if TYPE_CHECKING:
    from ocrslim.compress import CompressSettings
    from ocrslim.slimming.training.compute import Compute

__all__ = ["build_parser", "main"]

EXIT_USER = 2  # the user's mistake
EXIT_FAILED = 1  # ours, or the engine's
EXIT_INTERRUPTED = 130
RESUMED = ("compress", "prune", "sensitivity", "demo")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 failed, 2 a mistake in the input, 130 interrupted."""
    escape_what_cannot_be_written()
    parsed = build_parser().parse_args(arguments)
    if processes() > 1:  # torch would show a stack of its own for each lost process, before our line
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    try:
        if getattr(parsed, "devices", 1) > processes():
            _check_devices(parsed)
            return launch(["-m", "ocrslim", *(sys.argv[1:] if arguments is None else arguments)], parsed.devices)
        RUN[parsed.command](parsed)
    except InputError as error:
        return _fail(str(error), EXIT_USER)
    except OcrslimError as error:
        return EXIT_FAILED if getattr(error, "told", False) else _fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") != "0":
            return EXIT_INTERRUPTED  # rank 0 says it
        resumed = ", and the same command goes on from what --out holds" if parsed.command in RESUMED else ""
        return _fail(f"interrupted; nothing half-written is left{resumed}", EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away, as `| head` does
    except OSError as error:  # what a room expects it turns into an error of its own
        return _fail(_disk_words(error), EXIT_FAILED)
    return 0


def _disk_words(error: OSError) -> str:
    """Return what a file, a folder or a disk refused."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    mend = "; free some space and give the same command again, nothing half-written is left" if full else ""
    return f"{error.filename or 'a file'}: {error.strerror or error}{mend}"


def _check_devices(options: argparse.Namespace) -> None:
    """Refuse what several processes can't do before they start, so that it is said once."""
    _require_torch()
    for name in ("float", "speedup"):
        if getattr(options, name):
            raise InputError(f"--{name}: in one process, leave out --devices")
    from ocrslim.slimming.training.precision import pick_device

    pick_device(options.device, options.devices - 1)


def _fail(message: str, code: int) -> int:
    print(f"ocrslim: {' '.join(message.split())}", file=sys.stderr)
    return code


def _run_compress(options: argparse.Namespace) -> None:
    """``ocrslim compress``."""
    _require_torch()
    if options.float:
        return _run_float(options)
    _check_resume(options)
    from ocrslim.compress import CompressSettings
    from ocrslim.slimming.training.distillation import DistillationSettings

    names = ["target", "data", "eval", "data_dir", "profile", "seed", "steps", "ptq_only", "threads", "observer"]
    names += ["learning_rate", "max_drop", "effort", "max_minutes", "placement", "shape", "batch"]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    given |= {"dictionary": options.dict, "compute": _compute(options)}
    if options.label_ratio is not None and (options.config_path is None or options.label_ratio == 0):
        given["distillation"] = DistillationSettings(label_ratio=options.label_ratio)
    if options.config_path is not None:
        from ocrslim.config.paddleslim import load_config

        told = {"effort": "how long to train", "label_ratio": "what teaches", "placement": "what becomes int8"}
        for name, said in told.items():
            if getattr(options, name):  # a ratio of 0 acts: labels teach no last layer
                print(f"ocrslim: --{name.replace('_', '-')}: without effect, the file says {said}", file=sys.stderr)
        given.pop("effort", None)
        settings = CompressSettings.from_example(load_config(options.config_path), options.out, **given)
    elif options.model is None or options.target is None:
        raise InputError("compress: give MODEL --target ENGINE --out DIR, or --config_path YAML --save_dir DIR")
    else:
        settings = CompressSettings(out=options.out, **given)
    if options.speedup is not None:
        return _run_search(options, settings)
    _compress_and_show(options.model, settings)


def _check_resume(options: argparse.Namespace) -> None:
    """``--resume``: refuse to begin anew where there is nothing to go on from."""
    if not options.resume:
        return
    from ocrslim.slimming.training.checkpoint import latest_checkpoint

    folders = (path for path in options.out.rglob("checkpoints*") if path.is_dir()) if options.out.is_dir() else ()
    if not any(latest_checkpoint(folder) for folder in folders):
        raise InputError(
            f"--resume: {options.out} holds no checkpoint of an unfinished run; leave out --resume to begin, a run goes"
            " on by itself where it can"
        )


def _run_search(options: argparse.Namespace, settings: CompressSettings) -> None:
    """``ocrslim compress --speedup``."""
    from ocrslim.report.search import search_table
    from ocrslim.searching import search

    if options.config_path is not None or processes() > 1:
        raise InputError("--speedup: with MODEL and --target, in one process; a file says itself what to do")
    console = Console()
    result = search(options.model, settings, options.speedup, console)
    console.print(search_table(result), crop=False)
    console.print(result["verdict"], markup=False, highlight=False, soft_wrap=True)


def _run_float(options: argparse.Namespace) -> None:
    """``ocrslim compress --float``."""
    from ocrslim.lossless import LosslessSettings, rewrite
    from ocrslim.report.table import rewritten_table

    of_int8 = ("steps", "ptq_only", "max_drop", "effort", "max_minutes", "observer", "learning_rate", "label_ratio")
    for name in ("config_path", *of_int8, "placement", "speedup", "batch"):
        if getattr(options, name):
            why = "images come one at a time" if name == "batch" else "nothing is learned or quantized"
            raise InputError(f"--float: {why}, leave out --{name.replace('_', '-')}")
    if options.model is None or options.target is None:
        raise InputError("compress --float: give MODEL --target ENGINE --out DIR")
    names = ("target", "out", "data", "eval", "data_dir", "profile", "seed", "threads", "shape")
    settings = LosslessSettings(**{name: getattr(options, name) for name in names}, dictionary=options.dict)
    console = Console()
    result = rewrite(options.model, settings, console)
    console.print(rewritten_table(result))
    console.print(result["verdict"], markup=False, highlight=False, soft_wrap=True)


def _compute(options: argparse.Namespace) -> Compute:
    """Return what the options say about what the training runs on."""
    from ocrslim.slimming.training.compute import Compute

    return Compute(
        processes(), options.accumulate, options.clip_norm, options.scale_lr, options.device, amp=options.amp
    )


def _run_prune(options: argparse.Namespace) -> None:
    """``ocrslim prune``."""
    _require_torch("prune")
    _check_resume(options)
    from ocrslim.pruned import PruneSettings, prune_and_distil
    from ocrslim.report.pruned import pruning_table

    names = ("target", "out", "speedup", "ratio", "data", "eval", "data_dir", "profile", "seed", "steps", "threads")
    more = ("align", "importance", "learning_rate", "shape")
    given = {name: getattr(options, name) for name in (*names, *more)}
    settings = PruneSettings(**given, batch=options.batch or 1, dictionary=options.dict, compute=_compute(options))
    console = Console()
    result = prune_and_distil(options.model, settings.by_labels(options.label_ratio), console)
    console.print(pruning_table(result), crop=False)


def _run_eval(options: argparse.Namespace) -> None:
    """``ocrslim eval``."""
    from ocrslim.cli_eval import evaluate_options
    from ocrslim.report.table import eval_table

    console = Console(stderr=options.json)
    result, warnings = evaluate_options(options, console)
    for line in warnings:
        print(f"ocrslim: {line}", file=sys.stderr)
    if options.json:
        print(json_line(result))
    else:
        console.print(eval_table(result), crop=False)


def _run_predict(options: argparse.Namespace) -> None:
    """``ocrslim predict``."""
    from ocrslim.predict import predict_files
    from ocrslim.report.reading import reading_text, summary_lines

    result = predict_files(
        options.inputs,
        options.det,
        options.rec,
        engine=options.engine,
        profile=options.profile,
        dictionary=options.dict,
        threads=options.threads,
        dpi=options.dpi,
        drop_score=options.drop_score,
        against=options.against,
        out=options.out,
        console=Console(stderr=True),
    )
    print(json_line(result) if options.json else reading_text(result), end="")
    for line in summary_lines(result):
        print(f"ocrslim: {line}", file=sys.stderr)


def _run_bench(options: argparse.Namespace) -> None:
    """``ocrslim bench``."""
    from ocrslim.engines.timing import bench, timed_shape
    from ocrslim.graph.importers.source import open_model
    from ocrslim.made_for import engine_for
    from ocrslim.report.table import bench_table

    sources = [open_model(model) for model in options.models]
    tasks = {source.task for source in sources}
    if len(tasks) > 1 and options.shape is None:
        raise InputError("bench: det and rec models take different shapes; time them apart or give --shape HxW")
    shape = timed_shape(sources[0].task, options.shape, options.batch)
    engines = [engine_for(sources, engine) for engine in options.engine or [None]]
    only_paddle = set(engines) <= set(PADDLE_ENGINES)
    paths = [source.file_for(engines[0]) if only_paddle else source.path for source in sources]
    rows = bench(
        list(zip(options.models, paths, strict=True)),
        engines,
        threads=options.threads,
        shape=shape,
    )
    if options.json:
        print(json_line({"shape": list(shape), "rows": [row.to_json() for row in rows]}))
    else:
        Console().print(bench_table([row.to_json() for row in rows]), crop=False)


def _run_sensitivity(options: argparse.Namespace) -> None:
    """``ocrslim sensitivity``."""
    _require_torch("sensitivity")
    from ocrslim.report.table import sensitivity_table
    from ocrslim.sensitivity import SensitivitySettings, sensitivity

    names = ("target", "out", "data", "data_dir", "profile", "seed", "threads", "images", "observer")
    settings = SensitivitySettings(**{name: getattr(options, name) for name in names}, dictionary=options.dict)
    console = Console(stderr=options.json)
    result = sensitivity(options.model, settings, console)
    if options.json:
        print(json_line(result))
    else:
        console.print(sensitivity_table(result), crop=False)


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
    for note in done.notes:
        print(f"ocrslim: {note}", file=sys.stderr)


def _run_models(options: argparse.Namespace) -> None:
    """``ocrslim models``."""
    from ocrslim.graph.importers.zoo import MODELS, model_folder, pull
    from ocrslim.report.table import models_table

    if options.action == "list":
        rows = [model.to_json() | {"cached": model_folder(name).is_dir()} for name, model in MODELS.items()]
        if options.json:
            print(json_line(rows))
        else:
            Console().print(models_table(rows), crop=False)
        return
    if options.name is None:
        raise InputError(f"models {options.action}: name a model; `ocrslim models` lists them")
    print(pull(options.name) if options.action == "pull" else model_folder(options.name))


def _run_report(options: argparse.Namespace) -> None:
    """``ocrslim report``."""
    from ocrslim.report.html import write_report

    print(write_report(options.folders, options.out, options.lang))


def _run_inspect(options: argparse.Namespace) -> None:
    """``ocrslim inspect``."""
    from ocrslim.graph.importers.onnx import load_onnx
    from ocrslim.graph.importers.source import open_model
    from ocrslim.graph.inspect import describe
    from ocrslim.report.table import inspect_table

    source = open_model(options.model)
    facts = {"name": source.name, "task": source.task, "sha256": source.sha256} | describe(load_onnx(source.path))
    if options.json:
        print(json_line(facts))
    else:
        Console().print(inspect_table(facts))


def _run_doctor(options: argparse.Namespace) -> None:
    """``ocrslim doctor``."""
    from ocrslim.doctor import advice_lines, examine

    facts = examine()
    print(json_line(facts) if options.json else "\n".join(advice_lines(facts)))


def _run_completion(options: argparse.Namespace) -> None:
    """``ocrslim completion``."""
    from ocrslim.completion import completion_script

    print(completion_script(build_parser(), options.shell), end="")


def _run_demo(options: argparse.Namespace) -> None:
    """``ocrslim demo``: PP-OCRv4 mobile rec for OpenVINO on rendered lines."""
    _require_torch()
    from ocrslim.compress import CompressSettings

    settings = CompressSettings(target="openvino", out=options.out, effort="quick", threads=options.threads)
    _compress_and_show("PP-OCRv4_mobile_rec", settings)
    print(f"The model and its figures are in {options.out}; to look at: {(options.out / 'report.html').resolve()}")


def _compress_and_show(model: str | None, settings: CompressSettings) -> None:
    from ocrslim.compress import compress
    from ocrslim.report.table import result_table
    from ocrslim.slimming.training.distributed import team_of
    from ocrslim.slimming.training.precision import pick_device

    console = Console()
    local = coordinate("LOCAL_RANK", default="0") if processes() > 1 else 0
    with team_of(device=pick_device(settings.compute.device, local).type) as team:
        result = compress(model, settings, console, team)
    if team.leads:
        console.print(result_table(result))
        console.print(result["verdict"], markup=False, highlight=False, soft_wrap=True)


def _require_torch(command: str = "compress") -> None:
    """Say how to get torch where the base install is all there is."""
    if importlib.util.find_spec("torch") is None:
        raise InputError(f"{command} needs torch: pip install 'ocrslim[compress]'")


RUN = {
    "compress": _run_compress,
    "prune": _run_prune,
    "eval": _run_eval,
    "predict": _run_predict,
    "bench": _run_bench,
    "models": _run_models,
    "inspect": _run_inspect,
    "report": _run_report,
    "sensitivity": _run_sensitivity,
    "export": _run_export,
    "doctor": _run_doctor,
    "completion": _run_completion,
    "demo": _run_demo,
}
